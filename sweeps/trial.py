"""What runs in a trial's process on Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from linearizer_core import trial
from linearizer_core.config import TrialConfig, from_mapping
from linearizer_core.journal import TrialIdentity
from sweeps.paths import SweepPaths


@dataclass(frozen=True)
class Task:
    """One trial as it is sent to a worker: JSON values only."""

    identity: TrialIdentity
    config: Mapping[str, Any]
    root: str
    threads: int
    gpus: float
    provenance: Mapping[str, Any]

    def as_mapping(self) -> dict[str, Any]:
        """For Tune's ``config``."""
        return asdict(self)

    @classmethod
    def of_mapping(cls, values: Mapping[str, Any]) -> Task:
        """The task that ``as_mapping`` gave."""
        return cls(**{**values, "identity": TrialIdentity(**values["identity"])})

    @property
    def files(self) -> trial.TrialFiles:
        """Where the trial's record goes."""
        paths, name = SweepPaths(Path(self.root)), self.identity.trial
        return trial.TrialFiles(paths.journal(name), paths.artifacts(name), paths.training_state(name), paths.cache)


def run_trial(values: dict[str, Any]) -> None:
    """Ray Tune's trainable: reports every evaluated epoch, and the end scalars with the last one."""
    for result in execute(Task.of_mapping(values["task"])):
        tune.report(result)


def execute(task: Task) -> Iterator[dict[str, Any]]:
    """Carry out a trial, on a GPU where the task has one: the results of ``linearizer_core.trial.run``."""
    torch.set_num_threads(task.threads)
    config: TrialConfig = from_mapping(TrialConfig, task.config)
    device = "cuda" if task.gpus and torch.cuda.is_available() else "cpu"
    yield from trial.run(config, task.identity, task.files, task.provenance, device)
