"""The schedule as Ray Tune sees it: a searcher that hands out its trials, and a scheduler that stops some early."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from linearizer_core.journal import ENDED, Journal, Outcome, outcome, read
from linearizer_core.nested import flatten
from sweeps.paths import SweepPaths
from sweeps.schedule import PlannedTrial, ReplayError, Schedule
from sweeps.stopping import Halving


class Bridge:
    """What searcher and scheduler share: the schedule, the early stopping, and which Tune trial is which of ours."""

    def __init__(
        self, schedule: Schedule, halving: Halving | None, paths: SweepPaths, task: Callable[[PlannedTrial], Any]
    ) -> None:
        self.schedule = schedule
        self.halving = halving
        self.paths = paths
        self.task = task
        self.running: dict[str, PlannedTrial] = {}
        self._stops: dict[str, str] = {}
        self._errors: dict[str, str] = {}

    def start(self, tune_id: str) -> dict[str, Any] | None:
        """The next trial as Tune's config, or None while there is none to run."""
        planned = self.schedule.next()
        if planned is None:
            return None
        self.running[tune_id] = planned
        return {"task": self.task(planned).as_mapping()}

    def must_stop(self, tune_id: str, result: Mapping[str, Any]) -> bool:
        """Whether successive halving ends the trial at this result."""
        planned = self.running.get(tune_id)
        if planned is None or self.halving is None or planned.identity.kind != "search" or "state" in result:
            return False
        key = next(iter(self.schedule.sweep.search.objective))
        rivals = self.schedule.competitors(planned.identity.trial)
        rung = self.halving.decide(planned.identity.trial, result["epoch"], float(result[key]), rivals)
        if rung is not None:
            self._stops[tune_id] = f"asha: not among the best at epoch {rung}"
        return rung is not None

    def error(self, tune_id: str, message: str) -> None:
        """Keep why a trial failed for good."""
        self._errors[tune_id] = message

    def end(self, tune_id: str) -> None:
        """The trial has ended: write its end into the journal, if it could not itself, and settle it."""
        planned = self.running.pop(tune_id, None)
        if planned is None:
            return
        path = self.paths.journal(planned.identity.trial)
        result = outcome(path)
        if result.state is None:
            journal = Journal(path)
            if tune_id in self._errors:
                journal.end("failed", result.epoch, self._errors[tune_id])
            else:
                journal.end("stopped", result.epoch, self._stops.get(tune_id, "stopped by Ray Tune"))
            self.paths.training_state(planned.identity.trial).unlink(missing_ok=True)
            result = outcome(path)
        self.schedule.settle(planned.identity.trial, result)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is given for its own restore, which is not used here: journals are replayed.
        return {}


def recorded(paths: SweepPaths, halving: Halving | None, objective: str) -> Callable[[PlannedTrial], Outcome | None]:
    """A look-up of earlier outcomes that also gives early stopping what those trials had reached."""

    def look_up(planned: PlannedTrial) -> Outcome | None:
        path = paths.journal(planned.identity.trial)
        first = next((event for event in read(path) if event["event"] == "trial"), None)
        if first is None:
            return None
        if first["config_hash"] != planned.identity.config_hash:
            before, now = flatten(first["config"]), flatten(planned.config)
            changed = ", ".join(f"{k}: {before.get(k)} → {v}" for k, v in now.items() if before.get(k) != v)
            raise ReplayError(
                f"{path} is of another configuration than the search now gives ({changed}): it was recorded with "
                "other versions of the packages; give the sweep a new name, or remove its folder"
            )
        result = outcome(path)
        if halving is not None and planned.identity.kind == "search":
            rungs = {epoch: metrics[objective] for epoch, metrics in result.rungs.items() if objective in metrics}
            if result.state not in ENDED and rungs:
                # The launch may have died between the last evaluation and the decision on it.
                del rungs[max(rungs)]
            halving.record(planned.identity.trial, rungs)
        return result

    return look_up


class ScheduleSearcher(Searcher):
    """Tune's searcher: asks the schedule, and settles what ends."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._bridge.start(trial_id)
        if config is None and self._bridge.schedule.exhausted:
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._bridge.end(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journals are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journals are the state."""


class HalvingScheduler(FIFOScheduler):
    """Tune's scheduler: first come, first served, and stopped early where successive halving says so."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._bridge.must_stop(trial.trial_id, result)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # A trial that raised has said so in its journal: what is left is a process that could not.
        self._bridge.error(trial.trial_id, "its process died")


class BudgetStopper(Stopper):
    """Ends the sweep when its hours or GPU-hours are spent."""

    def __init__(self, hours: float | None, gpu_hours: float | None, gpus_per_trial: float) -> None:
        self._hours = hours
        self._gpu_hours = gpu_hours
        self._gpus = gpus_per_trial
        self._started = time.monotonic()
        self._seconds: dict[str, float] = {}
        self.reason: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._seconds[trial_id] = float(result.get("time_total_s", 0))
        return False

    def stop_all(self) -> bool:
        elapsed = (time.monotonic() - self._started) / 3600
        gpu_hours = self._gpus * sum(self._seconds.values()) / 3600
        if self._hours is not None and elapsed >= self._hours:
            self.reason = f"budget.hours = {self._hours:g} spent"
        elif self._gpu_hours is not None and gpu_hours >= self._gpu_hours:
            self.reason = f"budget.gpu_hours = {self._gpu_hours:g} spent"
        return self.reason is not None
