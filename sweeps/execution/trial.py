"""One trial in the process, or in each of the processes, that carries it out."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import torch
from torch.distributed import Store  # type: ignore[attr-defined]

from linearizer_core.experiment import trial
from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.workers import ALONE, Workers, joined
from sweeps.execution.task import Task
from sweeps.record.writers import only_writer


def execute(task: Task, workers: Workers = ALONE, store: Store | None = None) -> Generator[dict[str, Any], None, None]:
    """Carry out a trial, on a GPU where the task has one: the results of ``linearizer_core.experiment.trial.run``.

    ``store`` is the rendezvous of several workers. Raises ``TimeoutError`` when another process keeps
    writing the trial's journal.
    """
    torch.set_num_threads(task.threads)
    config: TrialConfig = from_mapping(TrialConfig, task.config)
    device = "cuda" if task.gpus and torch.cuda.is_available() else "cpu"
    with ExitStack() as stack:
        if workers.leads:
            stack.enter_context(only_writer(task.files.journal))
        stack.enter_context(joined(workers, store, device, task.collective_timeout))
        yield from trial.run(
            config,
            task.identity,
            task.files,
            task.provenance,
            device,
            workers=workers,
            stop=task.paths.stop.exists,
            save_seconds=task.checkpoint_seconds,
        )
