"""One trial, in the process or in each of the processes that run it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import torch
from torch.distributed import Store  # type: ignore[attr-defined]

from linearizer_core.errors import LinsweepError
from linearizer_core.experiment import function, trial
from linearizer_core.experiment.plugged import trial_config
from linearizer_core.experiment.workers import ALONE, Workers, joined
from linearizer_core.plugins.loading import ensure
from sweeps.execution.task import Task
from sweeps.record.writers import only_writer


class DeviceError(LinsweepError, RuntimeError):
    """A trial needs a GPU, but PyTorch sees none."""


def device_of(task: Task) -> str:
    """``cpu`` or ``cuda``, according to ``resources.device``; raises ``DeviceError`` if the GPU is missing."""
    if task.device == "cpu" or (task.device == "auto" and not task.gpus):
        return "cpu"
    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else f"; PyTorch {torch.__version__} is built without CUDA"
        raise DeviceError(
            f"resources: the trial needs a GPU (gpus_per_worker: {task.gpus:g}, device: {task.device}), but PyTorch "
            f"sees none here{build}; install PyTorch with CUDA and its driver, or set device: cpu or "
            "gpus_per_worker: 0"
        )
    return "cuda"


def execute(task: Task, workers: Workers = ALONE, store: Store | None = None) -> Generator[dict[str, Any], None, None]:
    """Run a trial, on a GPU if its task has one; yields the results of ``linearizer_core.experiment.trial.run``.

    ``store`` is the rendezvous of several workers. Raises ``TimeoutError`` if another process keeps writing to the
    trial's journal, ``DeviceError`` if the trial's GPU is missing, and ``PluginError`` if a plugin's code is
    missing.
    """
    torch.set_num_threads(task.threads)
    ensure(function.refs_of(task.config), task.paths.plugins)
    device = device_of(task)
    if "function" in task.config:
        with only_writer(task.files.journal):
            called, stop = function.function_config(task.config), task.paths.stop.exists
            yield from function.run(called, task.identity, task.files, task.provenance, device, stop=stop)
        return
    config = trial_config(task.config)
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
            stop=lambda: task.paths.stop.exists() or task.paths.stop_of(task.identity.trial).exists(),
            save_seconds=task.checkpoint_seconds,
        )
