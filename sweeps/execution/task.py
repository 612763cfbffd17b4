"""A trial as it is sent to the processes that carry it out."""

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
    """One trial: JSON values only."""

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
        """For Tune, which keeps copies of each trial's ``config`` and looks into mappings for things to draw."""
        return json.dumps({**vars(self), "identity": vars(self.identity)}, ensure_ascii=False)

    @classmethod
    def of_text(cls, text: str) -> Task:
        """The task that ``as_text`` gave."""
        values = json.loads(text)
        return cls(**{**values, "identity": TrialIdentity(**values["identity"])})

    @property
    def paths(self) -> SweepPaths:
        """The files of the trial's sweep."""
        return SweepPaths(Path(self.root))

    @property
    def files(self) -> TrialFiles:
        """Where the trial's record goes."""
        from linearizer_core.experiment.trial import TrialFiles  # with torch, which not every process needs

        paths, name = self.paths, self.identity.trial
        return TrialFiles(paths.journal(name), paths.artifacts(name), paths.training_state(name), paths.cache)
