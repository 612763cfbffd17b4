"""Carrying out a sweep: once, or as often as it takes to finish it."""

from __future__ import annotations

import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from ray import tune
from rich.console import Console

from linearizer_core import data as datasets
from linearizer_core.artifacts import write_grids
from linearizer_core.evaluation import Quality
from linearizer_core.families import family_of
from linearizer_core.journal import Journal, JournalError, TrialIdentity, outcome
from linearizer_core.metrics.features import checksum
from linearizer_core.nested import flatten
from sweeps.cluster import connected, local_capacity
from sweeps.paths import SweepPaths
from sweeps.plan import Plan, make_plan
from sweeps.progress import Progress
from sweeps.provenance import provenance
from sweeps.record import read_record, write_record
from sweeps.schedule import PlannedTrial, ReplayError, Schedule, make_study
from sweeps.searcher import Bridge, BudgetStopper, HalvingScheduler, ScheduleSearcher, recorded
from sweeps.spec import Sweep
from sweeps.stopping import Halving
from sweeps.tracking import BackgroundShipper, Shipper, describe, tracking_uri
from sweeps.trial import Task, run_trial
from sweeps.uri import without_password
from sweeps.validation import InputError, Problem

MAY_CHANGE = ("search.trials", "budget.", "resources.", "tracking.", "storage", "data.root", "data.download")
"""Leaves that may differ when a sweep is launched again: they change how much or where, not what a trial is."""

MAX_FAILURES = 2
"""How often a trial whose process fails is tried again before it counts as failed."""


@dataclass(frozen=True)
class LaunchResult:
    """How a launch ended.

    ``state`` and ``reason`` are as in sweep.json, ``trials`` counts them by state, ``seconds`` is wall time by phase,
    ``not_shipped`` says why MLflow lacks something, if it does.
    """

    state: str
    reason: str | None
    best: list[PlannedTrial]
    best_value: float | None
    trials: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)
    not_shipped: str | None = None


def launch(sweep: Sweep, console: Console, address: str | None = None) -> LaunchResult:
    """Run what the sweep still lacks.

    Raises ``InputError`` before anything is written when the sweep cannot be placed, its folder holds another
    sweep, or it is running already.
    """
    check_folder(sweep)
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(_stop_like_interrupt())
        capacity = local_capacity() if address is None else stack.enter_context(connected(address))
        plan = make_plan(sweep, capacity)
        paths = SweepPaths(sweep.folder)
        stack.enter_context(only_launch(sweep.source, paths))
        before = read_record(paths)
        record = _new_record(plan, before)
        run = _prepare(plan, paths, record)
        write_record(paths, record)
        shipper = Shipper(
            paths,
            tracking_uri(sweep.model.tracking.uri, paths),
            sweep.model.tracking.experiment or sweep.name,
            record,
        )
        background = BackgroundShipper(shipper)
        try:
            _reference_trials(sweep, paths, record["provenance"], console)
            clock.lap("references")
            reason = None
            if not run.complete:
                if address is None:
                    stack.enter_context(connected(None))
                clock.lap("ray")
                reason = _run(run, plan, paths, console)
                before = None
            clock.lap("trials")
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            _close(run, paths, record, "interrupted" if interrupted else type(error).__name__, None)
            _finish_shipping(background)
            raise
        # Where nothing ran the sweep ended when it did, and not now.
        result = _close(run, paths, record, reason, before["ended"] if before else None)
        not_shipped = _finish_shipping(background)
        clock.lap("ship")
    return replace(result, seconds=clock.seconds, not_shipped=not_shipped)


def _close(
    run: _Run, paths: SweepPaths, record: Mapping[str, Any], reason: str | None, ended: float | None
) -> LaunchResult:
    """Write how the sweep ended, into sweep.json first and then into the journals of trials that were running."""
    schedule = run.bridge.schedule
    best = schedule.best()
    state = "interrupted" if reason else "finished" if best else "failed"
    end = {
        "state": state,
        "reason": reason,
        "ended": ended or time.time(),
        "best": [trial.identity.trial for trial in best] or None,
        "best_value": schedule.best_value(),
    }
    write_record(paths, {**record, **end})
    trials = _end_open_trials(paths, reason)
    return LaunchResult(state, reason, best, schedule.best_value(), trials)


class _Clock:
    """Wall seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


def check_folder(sweep: Sweep) -> None:
    """Raise ``InputError`` when the sweep's folder holds a sweep with another spec."""
    record = read_record(SweepPaths(sweep.folder))
    if record is None:
        return
    before, now = flatten(record["spec"]), flatten(sweep.resolved)
    changed = [
        f"{key}: {before.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        message = (
            f"{sweep.folder} holds a sweep of this name with another spec ({'; '.join(changed)}); "
            "give this one another name (--set name=…) or remove that folder"
        )
        raise InputError(sweep.source, [Problem("name", message)])
    fewer, most = now.get("search.trials"), before.get("search.trials")
    if fewer is not None and most is not None and fewer < most:
        message = f"{sweep.name} was launched with {most} already; the number can only grow"
        raise InputError(sweep.source, [Problem("search.trials", message)])


@contextmanager
def only_launch(source: str, paths: SweepPaths) -> Iterator[None]:
    """Hold the sweep's lock; the system lets go of it when the process ends, however it ends.

    Raises ``InputError`` when another process holds it, or the folder cannot be written.
    """
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        file = paths.lock.open("w")
    except OSError as error:
        raise InputError(source, [Problem("storage", f"{paths.root} cannot be written: {error.strerror}")]) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = f"{paths.root.name} is being carried out already"
            raise InputError(source, [Problem("name", message)]) from None
        yield


@contextmanager
def _stop_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end a sweep as Ctrl-C does: in order, with everything recorded."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    # A shell starts what a script puts into the background with SIGINT ignored: neither would end the sweep then.
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _new_record(plan: Plan, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """sweep.json of a sweep that starts, or of the one ``before`` that goes on."""
    sweep = plan.sweep
    data = datasets.load(sweep.trial_config({}, 0).data)
    resolved = sweep.resolved
    if sweep.model.tracking.uri:
        shown = without_password(sweep.model.tracking.uri)
        resolved = {**resolved, "tracking": {**resolved["tracking"], "uri": shown}}
    record: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "name": sweep.name,
        "family": sweep.base["family"],
        "axes": list(sweep.search.space),
        "objective": dict(sweep.search.objective),
        "lookahead": plan.lookahead,
        "spec": resolved,
        "state": "running",
        "reason": None,
        "started": time.time(),
        "ended": None,
        "best": None,
        "best_value": None,
        "provenance": provenance(data.checksum),
    }
    # The order of the search depends on the look-ahead: a sweep keeps the one that it began with.
    return record | {key: before[key] for key in ("id", "started", "lookahead") if before}


def _reference_trials(sweep: Sweep, paths: SweepPaths, origin: Mapping[str, Any], console: Console) -> None:
    """Journals of the references, and the classifier that all trials need, made before the first of them."""
    config = sweep.trial_config({}, 0)
    data = datasets.load(config.data)
    with console.status("training the feature classifier, measuring the references"):
        family = family_of(config)
        quality = Quality.cached(family.metrics(config), data, paths.cache, "cpu")
        if outcome(paths.journal("r000")).state == "finished":
            return
        features = {}
        if quality.classifier:
            accuracy = quality.classifier.accuracy(data.test, data.test_labels)
            features = {"classifier_accuracy": accuracy, "classifier_checksum": checksum(quality.classifier)}
        rows = family.references(config, data, quality)
        for number, (label, evaluation) in reversed(list(enumerate(rows.items()))):
            name = f"r{number:03d}"
            journal = Journal(paths.journal(name))
            identity = TrialIdentity(sweep.name, name, "reference", label, number, "reference", None)
            settings = {"data": sweep.base["data"], "evaluate": sweep.base["evaluate"]}
            journal.trial(identity, settings, {**origin, **features})
            for file in write_grids(paths.artifacts(name), evaluation.grids):
                journal.artifact(file)
            journal.summary(evaluation.summary)
            journal.end("finished", 0)


@dataclass(frozen=True)
class _Run:
    """A sweep that is ready to go on; ``complete`` when no trial of it is missing."""

    bridge: Bridge
    stopper: BudgetStopper
    complete: bool


def _prepare(plan: Plan, paths: SweepPaths, record: Mapping[str, Any]) -> _Run:
    """The schedule of the trials that are missing, with the study rebuilt from those that are there.

    Raises ``InputError`` when the journals cannot be read or are not of this search.
    """
    sweep = plan.sweep
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    paths.study.unlink(missing_ok=True)
    study = make_study(sweep, JournalStorage(JournalFileBackend(str(paths.study))))
    objective, mode = next(iter(sweep.search.objective.items()))
    epochs = sweep.base_leaves["train.epochs"]
    halving = Halving(sweep.search.stop_early, mode, epochs) if sweep.search.stop_early else None
    schedule = Schedule(sweep, study, record["lookahead"], recorded(paths, halving, objective))
    resources, budget = sweep.model.resources, sweep.model.budget
    data_root = str(datasets.root_of(sweep.trial_config({}, 0).data))

    def task(planned: PlannedTrial) -> Task:
        root = str(paths.root.resolve())
        # A worker has another working directory, and maybe another environment, than this process.
        data = {**planned.config["data"], "root": data_root}
        return Task(
            identity=planned.identity,
            config={**planned.config, "data": data},
            root=root,
            threads=resources.cpus_per_worker,
            gpus=resources.gpus_per_worker,
            provenance=record["provenance"],
        )

    try:
        for path in paths.journals.glob("*.jsonl"):
            outcome(path)
        complete = not schedule.has_next()
    except (ReplayError, JournalError) as error:
        raise InputError(sweep.source, [Problem("name", str(error))]) from None
    bridge = Bridge(schedule, halving, paths, task)
    stopper = BudgetStopper(budget.hours, budget.gpu_hours, resources.gpus_per_worker)
    return _Run(bridge, stopper, complete)


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
    return None if schedule.complete else run.stopper.reason or "interrupted"


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
    record = read_record(paths)
    assert record is not None, f"{folder} holds no sweep"
    tracking = record["spec"]["tracking"]
    experiment = tracking["experiment"] or record["name"]
    return Shipper(paths, tracking_uri(uri or tracking["uri"], paths), experiment, record)
