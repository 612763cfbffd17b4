"""A trial in the form in which it is sent to the processes that run it."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linearizer_core.experiment.journal import TrialIdentity
from sweeps.record.paths import SweepPaths

if TYPE_CHECKING:
    from linearizer_core.experiment.trial import TrialFiles

Results = Generator[dict[str, Any], None, None]
"""What carries out a trial: it trains up to a result with each step, and yields it."""

MEMBER = "trial"
"""Of a result of several trials that train together: the name of the one whose it is."""


@dataclass(frozen=True)
class Task:
    """One trial, as JSON values only."""

    identity: TrialIdentity
    config: Mapping[str, Any]
    root: str
    provenance: Mapping[str, Any]
    workers: int
    threads: int
    gpus: float
    checkpoint_seconds: float
    collective_timeout: float
    device: str = "auto"
    bucket: str | None = None
    """The address of a sweep whose record is kept in a bucket: ``root`` is then on the launch's machine alone."""
    collector: str | None = None
    """The name of the actor that takes the journal of such a trial, if it does not run in the launch's process."""

    def as_text(self) -> str:
        """In one line."""
        return json.dumps({**vars(self), "identity": vars(self.identity)}, ensure_ascii=False)

    @classmethod
    def of_text(cls, text: str) -> Task:
        """The task from the text that ``as_text`` returned."""
        values = json.loads(text)
        return cls(**{**values, "identity": TrialIdentity(**values["identity"])})

    @property
    def paths(self) -> SweepPaths:
        """The files of the trial's sweep."""
        return SweepPaths(Path(self.root))

    @property
    def files(self) -> TrialFiles:
        """The places of the trial's record."""
        from linearizer_core.experiment.trial import TrialFiles  # imports torch, which not every process needs

        paths, name = self.paths, self.identity.trial
        return TrialFiles(paths.journal(name), paths.artifacts(name), paths.training_state(name), paths.cache)


def as_text(tasks: Sequence[Task]) -> str:
    """Several as text: Tune copies a trial's ``config`` and would search mappings for values to draw."""
    return "\n".join(task.as_text() for task in tasks)


def of_text(text: str) -> list[Task]:
    """The tasks that ``as_text`` gave."""
    return [Task.of_text(line) for line in text.split("\n")]
