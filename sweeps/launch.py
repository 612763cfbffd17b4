"""Carrying out a sweep: once, or as often as it takes to finish it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages.journal import JournalFileBackend, JournalStorage
from ray import tune
from rich.console import Console

from linearizer_core import data as datasets
from linearizer_core.evaluation import Quality, references
from linearizer_core.metrics.features import cached_classifier, checksum
from sweeps.artifacts import write_grids
from sweeps.cluster import connected, local_capacity
from sweeps.journal import Journal, TrialIdentity, outcome
from sweeps.paths import SweepPaths, write_whole
from sweeps.plan import Plan, make_plan
from sweeps.progress import Progress
from sweeps.provenance import provenance
from sweeps.schedule import PlannedTrial, Schedule, make_study
from sweeps.searcher import Bridge, BudgetStopper, HalvingScheduler, ScheduleSearcher, recorded
from sweeps.spec import Sweep
from sweeps.stopping import Halving
from sweeps.tracking import BackgroundShipper, Shipper, describe, tracking_uri, without_password
from sweeps.trial import Task, run_trial
from sweeps.validation import InputError, Problem, flatten

MAY_CHANGE = ("search.trials", "budget.", "resources.", "tracking.", "storage")
"""Leaves that may differ when a sweep is launched again: they change how much or where, not what a trial is."""

MAX_FAILURES = 2
"""How often a trial whose process fails is tried again before it counts as failed."""


@dataclass(frozen=True)
class LaunchResult:
    """How a launch ended: ``state`` as in sweep.json, ``seconds`` by phase, and what could not be shipped."""

    state: str
    best: list[PlannedTrial]
    best_value: float | None
    trials: dict[str, int]
    seconds: dict[str, float]
    not_shipped: str | None


def launch(sweep: Sweep, console: Console, address: str | None = None) -> LaunchResult:
    """Run what the sweep still lacks.

    Raises ``InputError`` before anything is written when the sweep cannot be placed, its folder holds another
    sweep, or it is running already.
    """
    check_folder(sweep)
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    with ExitStack() as stack:
        stack.enter_context(_stop_like_interrupt())
        capacity = local_capacity() if address is None else stack.enter_context(connected(address))
        plan = make_plan(sweep, capacity)
        paths = SweepPaths(sweep.folder)
        stack.enter_context(_only_launch(sweep, paths))
        ended_before = _ended(paths)
        record = _open_record(plan, paths)
        uri = tracking_uri(sweep.model.tracking.uri, paths)
        shipper = Shipper(paths, uri, sweep.model.tracking.experiment or sweep.name, record)
        background = BackgroundShipper(shipper)
        try:
            _reference_trials(sweep, paths, record["provenance"], console)
            clock.lap("references")
            run = _prepare(plan, paths, record)
            reason = None
            complete = not run.bridge.schedule.has_next()
            if not complete:
                if address is None:
                    stack.enter_context(connected(None))
                clock.lap("ray")
                reason = _run(run, plan, paths, console)
            clock.lap("trials")
        except BaseException:
            _end_open_trials(paths, "interrupted")
            _write_record(paths, record | {"state": "interrupted", "ended": time.time()})
            background.close()
            raise
        schedule = run.bridge.schedule
        states = _end_open_trials(paths, reason)
        state = _state(schedule, reason)
        best = schedule.best()
        ended = {
            "state": state,
            # Nothing ran: the sweep ended when it did, and not now.
            "ended": ended_before if complete and ended_before else time.time(),
            "best": [trial.identity.trial for trial in best] or None,
            "best_value": schedule.best_value(),
        }
        _write_record(paths, record | ended)
        not_shipped = _finish_shipping(background)
        clock.lap("ship")
    return LaunchResult(state, best, schedule.best_value(), states, seconds, not_shipped)


class _Clock:
    """Wall seconds by phase."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self._seconds[phase] = now - self._last
        self._last = now


def check_folder(sweep: Sweep) -> None:
    """Raise ``InputError`` when the sweep's folder holds a sweep with another spec."""
    path = SweepPaths(sweep.folder).sweep_json
    if not path.exists():
        return
    before, now = flatten(json.loads(path.read_text())["spec"]), flatten(sweep.resolved)
    changed = [
        f"{key}: {before.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        message = f"{sweep.folder} holds a sweep of this name with another spec ({'; '.join(changed)}); " + (
            "give this one another name (--set name=…) or remove that folder"
        )
        raise InputError(sweep.source, [Problem("name", message)])


@contextmanager
def _only_launch(sweep: Sweep, paths: SweepPaths) -> Iterator[None]:
    """Hold the sweep's lock; the system lets go of it when the process ends, however it ends."""
    paths.root.mkdir(parents=True, exist_ok=True)
    with paths.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(sweep.source, [Problem("name", f"{sweep.name} is being carried out already")]) from None
        yield


@contextmanager
def _stop_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end a sweep as Ctrl-C does: in order, with everything recorded."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(paths: SweepPaths) -> float | None:
    """When the sweep ended, if it has finished before."""
    if not paths.sweep_json.exists():
        return None
    record = json.loads(paths.sweep_json.read_text())
    return record["ended"] if record["state"] == "finished" else None


def _open_record(plan: Plan, paths: SweepPaths) -> dict[str, Any]:
    """sweep.json of a new sweep, or of the one that goes on; written before the first trial."""
    sweep = plan.sweep
    data = datasets.load(sweep.base_leaves["data.name"])
    record: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "name": sweep.name,
        "family": sweep.base["family"],
        "axes": list(sweep.search.space),
        "objective": dict(sweep.search.objective),
        "started": time.time(),
        "lookahead": plan.lookahead,
    }
    if paths.sweep_json.exists():
        earlier = json.loads(paths.sweep_json.read_text())
        # The order of the search depends on the look-ahead: a sweep keeps the one that it began with.
        record |= {key: earlier[key] for key in ("id", "started", "lookahead")}
    resolved = sweep.resolved
    if sweep.model.tracking.uri:
        shown = without_password(sweep.model.tracking.uri)
        resolved = {**resolved, "tracking": {**resolved["tracking"], "uri": shown}}
    record |= {
        "spec": resolved,
        "state": "running",
        "ended": None,
        "best": None,
        "best_value": None,
        "provenance": provenance(data.checksum),
    }
    _write_record(paths, record)
    return record


def _write_record(paths: SweepPaths, record: Mapping[str, Any]) -> None:
    write_whole(paths.sweep_json, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _reference_trials(sweep: Sweep, paths: SweepPaths, origin: Mapping[str, Any], console: Console) -> None:
    """Journals of the references, and the classifier that all trials need, made before the first of them."""
    config = sweep.trial_config({}, 0)
    data = datasets.load(config.data.name)
    with console.status("training the feature classifier, measuring the references"):
        classifier = cached_classifier(data, paths.cache)
        if outcome(paths.journal("r000")).state == "finished":
            return
        quality = Quality(config.evaluate.quality, data, classifier, torch.device("cpu"))
        accuracy = classifier.accuracy(data.test, data.test_labels)
        for number, (label, evaluation) in reversed(
            list(enumerate(references(data, config.evaluate, quality).items()))
        ):
            name = f"r{number:03d}"
            journal = Journal(paths.journal(name))
            identity = TrialIdentity(sweep.name, name, "reference", label, number, "reference", None)
            settings = {"data": sweep.base["data"], "evaluate": sweep.base["evaluate"]}
            features = {"classifier_accuracy": accuracy, "classifier_checksum": checksum(classifier)}
            journal.trial(identity, settings, {**origin, **features})
            for file in write_grids(paths.artifacts(name), evaluation.grids):
                journal.artifact(file)
            journal.summary(evaluation.summary)
            journal.end("finished", 0)


@dataclass(frozen=True)
class _Run:
    """A sweep that is ready to go on."""

    bridge: Bridge
    stopper: BudgetStopper


def _prepare(plan: Plan, paths: SweepPaths, record: Mapping[str, Any]) -> _Run:
    """The schedule of the trials that are missing, with the study rebuilt from those that are there."""
    sweep = plan.sweep
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    paths.study.unlink(missing_ok=True)
    study = make_study(sweep, JournalStorage(JournalFileBackend(str(paths.study))))
    objective, mode = next(iter(sweep.search.objective.items()))
    epochs = sweep.base_leaves["train.epochs"]
    halving = Halving(sweep.search.stop_early, mode, epochs) if sweep.search.stop_early else None
    schedule = Schedule(sweep, study, record["lookahead"], recorded(paths, halving, objective))
    resources, budget = sweep.model.resources, sweep.model.budget

    def task(planned: PlannedTrial) -> Task:
        root = str(paths.root.resolve())
        return Task(
            identity=planned.identity,
            config=planned.config,
            root=root,
            threads=resources.cpus_per_worker,
            gpus=resources.gpus_per_worker,
            provenance=record["provenance"],
        )

    bridge = Bridge(schedule, halving, paths, task)
    return _Run(bridge, BudgetStopper(budget.hours, budget.gpu_hours, resources.gpus_per_worker))


def _run(run: _Run, plan: Plan, paths: SweepPaths, console: Console) -> str | None:
    """Run the trials that are missing; why they were cut short, if they were."""
    resources = plan.sweep.model.resources
    bundle = {"CPU": float(resources.cpus_per_worker), "GPU": float(resources.gpus_per_worker)}
    # As many trials may wait for a process as can run: by default Tune starts the processes one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(plan.concurrency)
    gang = tune.PlacementGroupFactory([{name: amount for name, amount in bundle.items() if amount}])
    schedule = run.bridge.schedule
    # Ray has put its own SIGTERM handler in the place of ours by now: it would abort.
    with _stop_like_interrupt(), Progress(schedule, paths, plan.sweep.base_leaves["train.epochs"], console) as progress:
        tuner = tune.Tuner(
            tune.with_resources(run_trial, gang),
            tune_config=tune.TuneConfig(
                search_alg=ScheduleSearcher(run.bridge),
                scheduler=HalvingScheduler(run.bridge),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=paths.tune.name,
                storage_path=str(paths.root.resolve()),
                callbacks=[progress],
                stop=run.stopper,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                verbose=0,
            ),
        )
        tuner.fit()
    return None if schedule.finished else run.stopper.reason or "interrupted"


def _end_open_trials(paths: SweepPaths, reason: str | None) -> dict[str, int]:
    """End the journals of trials that were running when the sweep was cut short; how many trials are in each state."""
    states: dict[str, int] = {}
    for path in sorted(paths.journals.glob("*.jsonl")):
        result = outcome(path)
        if result.state is None:
            Journal(path).end("interrupted", result.epoch, reason)
        if not path.stem.startswith("r"):
            state = result.state or "interrupted"
            states[state] = states.get(state, 0) + 1
    return states


def _state(schedule: Schedule, reason: str | None) -> str:
    if reason is not None:
        return "interrupted"
    return "finished" if schedule.best() else "failed"


def _finish_shipping(background: BackgroundShipper) -> str | None:
    """Send the rest and close the parent run; what went wrong, if it did."""
    if not background.close():
        return background.error
    try:
        background.shipper.finish()
    except Exception as error:  # noqa: BLE001 - the sweep is complete in its journals, whatever MLflow says
        return describe(error, background.shipper.uri)
    return None


def shipper_for(folder: Path, uri: str | None) -> Shipper:
    """The shipper of a recorded sweep, to its own tracking server or to another one."""
    paths = SweepPaths(folder)
    record = json.loads(paths.sweep_json.read_text())
    tracking = record["spec"]["tracking"]
    experiment = tracking["experiment"] or record["name"]
    return Shipper(paths, tracking_uri(uri or tracking["uri"], paths), experiment, record)
