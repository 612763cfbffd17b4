"""Trials in the process, or in each of the processes, that carries them out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import torch
from torch.distributed import Store  # type: ignore[attr-defined]

from linearizer_core.errors import LinsweepError
from linearizer_core.experiment import function, trial
from linearizer_core.experiment.journal import ENDED, TrialIdentity, state_of
from linearizer_core.experiment.plugged import trial_config
from linearizer_core.experiment.workers import ALONE, Workers, joined
from linearizer_core.plugins.loading import ensure
from sweeps.execution.task import MEMBER, Task
from sweeps.record.paths import SweepPaths
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
    device = _ready(task)
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
            stop=partial(_asked_to_stop, task.paths, task.identity),
            save_seconds=task.checkpoint_seconds,
        )


def execute_together(tasks: Sequence[Task]) -> Generator[dict[str, Any], None, None]:
    """Carry out trials that train together, each result with the name of its ``trial``.

    Whoever ends one of them from outside writes that into its journal after one of its results: nothing more is done
    for it then. Those that have ended already are left out. Raises as ``execute`` does, after the last has ended.
    """
    first = tasks[0]
    device = _ready(first)
    with ExitStack() as stack:
        for task in tasks:
            stack.enter_context(only_writer(task.files.journal))
        trials = [
            trial.Trial(trial_config(task.config), task.identity, task.files) for task in tasks if not _has_ended(task)
        ]
        results = trial.run_together(
            trials,
            first.provenance,
            device,
            stop=partial(_asked_to_stop, first.paths),
            left=lambda identity: state_of(first.paths.journal(identity.trial)).state is not None,
            save_seconds=first.checkpoint_seconds,
        )
        for identity, result in stack.enter_context(closing(results)):
            yield {**result, MEMBER: identity.trial}


def _ready(task: Task) -> str:
    """Make this process ready for a trial; the device that it computes on."""
    torch.set_num_threads(task.threads)
    ensure(function.refs_of(task.config), task.paths.plugins)
    return device_of(task)


def _asked_to_stop(paths: SweepPaths, identity: TrialIdentity) -> bool:
    return paths.stop.exists() or paths.stop_of(identity.trial).exists()


def _has_ended(task: Task) -> bool:
    """Whether an earlier attempt at trials that train together has brought this one to its end."""
    state = state_of(task.files.journal)
    return state.state in ENDED and state.head is not None and state.head["config_hash"] == task.identity.config_hash
