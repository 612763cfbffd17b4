"""The schedule as Ray Tune sees it: a searcher that hands out its trials, and a scheduler that stops some early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from linearizer_core.experiment.journal import ENDED, Journal, Outcome, TrialIdentity, outcome, read
from linearizer_core.experiment.nested import flatten
from linearizer_core.experiment.state import remove_state
from sweeps.execution.progress import Progress
from sweeps.execution.stop import INTERRUPTED, stop_reason
from sweeps.execution.task import Task
from sweeps.record.paths import SweepPaths
from sweeps.search.halving import Halving
from sweeps.search.reuse import FinishedTrials, take_over
from sweeps.search.schedule import PlannedTrial, ReplayError, Schedule


class Bridge:
    """What searcher and scheduler share: the schedule, the early stopping, and which Tune trial is which of ours."""

    def __init__(
        self, schedule: Schedule, halving: Halving | None, paths: SweepPaths, task: Callable[[PlannedTrial], Task]
    ) -> None:
        self.schedule = schedule
        self.halving = halving
        self.paths = paths
        self.task = task
        self.running: dict[str, PlannedTrial] = {}
        self._stops: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._given_back: Counter[str] = Counter()

    def start(self, tune_id: str) -> dict[str, Any] | None:
        """The next trial as Tune's config, or None while there is none to run, or none may start any more."""
        planned = None if self.paths.stop.exists() else self.schedule.next()
        if planned is None:
            return None
        self.running[tune_id] = planned
        return {"task": self.task(planned).as_text()}

    def must_stop(self, tune_id: str, result: Mapping[str, Any]) -> bool:
        """Whether successive halving ends the trial at this result."""
        planned = self.running.get(tune_id)
        if planned is None or self.halving is None or planned.identity.kind != "search" or "state" in result:
            return False
        key = next(iter(self.schedule.sweep.search.objective))
        rivals = self.schedule.competitors(planned.identity.trial)
        rung = self.halving.decide(planned.identity.trial, result["epoch"], float(result[key]), rivals)
        if rung is not None:
            self._stops[tune_id] = early(rung)
        return rung is not None

    def error(self, tune_id: str, message: str) -> None:
        """Keep why a trial failed: for good, unless it is tried again."""
        self._errors[tune_id] = message

    def wait(self, tune_id: str) -> TrialIdentity:
        """The trial waits for a place, for the first time or again: whatever ended its last attempt is forgotten."""
        self._errors.pop(tune_id, None)
        return self.running[tune_id].identity

    def give_back(self, tune_id: str) -> None:
        """The process that a trial was given had died: Tune gives the trial up, and so the schedule has it once more.

        As often as a trial may be tried again, for it may be the trial that the process died of.
        """
        planned = self.running.get(tune_id)
        if planned is None:
            return
        self._given_back[planned.identity.trial] += 1
        if self._given_back[planned.identity.trial] <= self.schedule.sweep.model.resources.retries:
            self.schedule.take_back(planned)
            del self.running[tune_id]

    def end(self, tune_id: str) -> None:
        """The trial has ended: write its end into the journal, if it could not itself, and settle it.

        One that was asked to stop before its end goes on with the next launch, and one that was given back is not over.
        """
        planned = self.running.get(tune_id)
        if planned is None:
            return
        path = self.paths.journal(planned.identity.trial)
        result = outcome(path)
        if result.state not in ENDED and tune_id in self._errors:
            journal = Journal(path)
            if not result.begun:  # it did not come as far as its first line
                task = self.task(planned)
                journal.trial(task.identity, task.config, task.provenance)
            # What the trial said itself is nearer to the cause than what Ray says of it.
            journal.end("failed", result.epoch, result.reason or self._errors[tune_id])
        elif result.state is None and tune_id in self._stops:
            Journal(path).end("stopped", result.epoch, self._stops[tune_id])
        elif result.state is None and result.begun:  # one that was still waiting for its place has written nothing
            Journal(path).end("interrupted", result.epoch, stop_reason(self.paths) or INTERRUPTED)
        result = outcome(path)
        if result.state in ENDED:
            remove_state(self.paths.training_state(planned.identity.trial))
            self.schedule.settle(planned.identity.trial, result)
        del self.running[tune_id]  # last: where something raises, Tune tries the trial again


def early(rung: int) -> str:
    """Why a trial was stopped early."""
    return f"asha: not among the best at epoch {rung}"


@dataclass(frozen=True)
class Recorded:
    """What is recorded of trials: by earlier launches, and where ``finished`` has them, by other sweeps.

    Whatever is looked up, early stopping is given what it had reached.
    """

    paths: SweepPaths
    halving: Halving | None
    objective: str
    finished: FinishedTrials | None = None

    def look_up(self, planned: PlannedTrial, competitors: list[str]) -> Outcome | None:
        """What a trial came to, None where nothing of it is recorded.

        Raises ``ReplayError`` when the record is that of another configuration.
        """
        path = self.paths.journal(planned.identity.trial)
        first = next((event for event in read(path) if event["event"] == "trial"), None)
        if first is None:
            return self._reuse(planned, competitors)
        if first["config_hash"] != planned.identity.config_hash:
            before, now = flatten(first["config"]), flatten(planned.config)
            changed = ", ".join(f"{k}: {before.get(k)} → {v}" for k, v in now.items() if before.get(k) != v)
            raise ReplayError(
                f"{path} is of another configuration than the search now gives ({changed}): it was recorded with "
                "other versions of the packages; give the sweep a new name, or remove its folder"
            )
        result = outcome(path)
        if self.halving is not None and planned.identity.kind == "search":
            rungs = self._measured(result)
            if result.state not in ENDED and rungs and max(rungs) > max(result.saved, result.epoch - 1):
                # The launch may have died between this evaluation and the decision on it. Where the trial trained on,
                # or saved its state, it was told to go on.
                del rungs[max(rungs)]
            self.halving.record(planned.identity.trial, rungs)
        return result

    def of_twin(self, planned: PlannedTrial, twin: str) -> Outcome:
        """What a trial comes to by what its twin, a trial of the same search, came to."""
        result = outcome(self.paths.journal(planned.identity.trial))
        if result.state not in ENDED:
            result = take_over(self.paths, planned, self.paths.journal(twin))
        if self.halving is not None:
            self.halving.record(planned.identity.trial, self._measured(result))
        return result

    def _reuse(self, planned: PlannedTrial, competitors: list[str]) -> Outcome | None:
        source = self.finished.find(planned) if self.finished else None
        if source is None:
            return None
        stopped = None
        if self.halving is not None and planned.identity.kind == "search":
            # As if it ran here: that it did not must not change the table.
            for epoch, value in sorted(self._measured(outcome(source)).items()):
                rung = self.halving.decide(planned.identity.trial, epoch, value, competitors)
                if rung is not None:
                    stopped = epoch, early(rung)
                    break
        return take_over(self.paths, planned, source, stopped)

    def _measured(self, result: Outcome) -> dict[int, float]:
        return {epoch: each[self.objective] for epoch, each in result.rungs.items() if self.objective in each}


class ScheduleSearcher(Searcher):
    """Tune's searcher: asks the schedule, and settles what ends."""

    def __init__(self, bridge: Bridge, progress: Progress) -> None:
        super().__init__()
        self._bridge = bridge
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is given for its own restore, which is not used here: journals are replayed.
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._bridge.start(trial_id)
        if config is None and (self._bridge.schedule.exhausted or self._bridge.paths.stop.exists()):
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._bridge.end(trial_id)
        self._progress.end(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journals are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journals are the state."""


class HalvingScheduler(FIFOScheduler):
    """Tune's scheduler: first come, first served, and stopped early where successive halving says so."""

    def __init__(self, bridge: Bridge, progress: Progress) -> None:
        super().__init__()
        self._bridge = bridge
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as the searcher's

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._progress.add(self._bridge.wait(trial.trial_id), trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._progress.result(trial.trial_id, result)
        stop = self._bridge.must_stop(trial.trial_id, result)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        # Not this one: where its end cannot be written, it is tried again.
        for ended in [each for each in tune_controller.get_trials() if each.is_finished()]:
            forget(tune_controller, ended)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # A trial that raised has said so in its journal: what is left is a process, or a worker, that could not.
        self._bridge.error(trial.trial_id, why_failed(trial.get_error()))
        # Of a process that died before it took up the trial Tune hears twice: it puts the trial back into its queue,
        # and then gives it up, since one that waits is not tried again.
        if trial.status == Trial.PENDING:
            self._bridge.give_back(trial.trial_id)


def forget(tune_controller: Any, trial: Trial) -> None:
    """Take a trial that has ended, and so has no process, out of whatever Tune's controller and callbacks hold.

    Tune keeps each trial to the end of the sweep, some 50 KiB, and looks through all of them at each step. It has no
    way to be told not to: where a later version holds them elsewhere, they stay there.
    """
    callbacks = getattr(getattr(tune_controller, "_callbacks", None), "_callbacks", ())
    for owner in (tune_controller, *callbacks):
        for held in vars(owner).values():
            if isinstance(held, set):
                held.discard(trial)
            elif isinstance(held, dict):
                held.pop(trial, None)
                held.pop(trial.trial_id, None)
            elif isinstance(held, list) and trial in held:
                held.remove(trial)


def why_failed(error: Exception | None) -> str:
    """What ended a trial, in one line: the last one of a worker's traceback says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if error is None or isinstance(error, RayActorError) or not lines:
        return "its process died"
    return lines[-1][:1000]
