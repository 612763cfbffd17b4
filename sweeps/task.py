"""A trial as it is sent to the processes that carry it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linearizer_core.journal import TrialIdentity
from linearizer_core.trial import TrialFiles
from sweeps.paths import SweepPaths


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

    def as_mapping(self) -> dict[str, Any]:
        """For Tune's ``config``."""
        return asdict(self)

    @classmethod
    def of_mapping(cls, values: Mapping[str, Any]) -> Task:
        """The task that ``as_mapping`` gave."""
        return cls(**{**values, "identity": TrialIdentity(**values["identity"])})

    @property
    def paths(self) -> SweepPaths:
        """The files of the trial's sweep."""
        return SweepPaths(Path(self.root))

    @property
    def files(self) -> TrialFiles:
        """Where the trial's record goes."""
        paths, name = self.paths, self.identity.trial
        return TrialFiles(paths.journal(name), paths.artifacts(name), paths.training_state(name), paths.cache)
