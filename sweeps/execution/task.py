"""A trial in the form in which it is sent to the processes that run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linearizer_core.experiment.journal import TrialIdentity
from sweeps.record.paths import SweepPaths

if TYPE_CHECKING:
    from linearizer_core.experiment.trial import TrialFiles


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

    def as_text(self) -> str:
        """The task as text: Tune copies a trial's ``config`` and would search mappings for values to draw."""
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
