"""Carrying out a sweep: once, or as often as it takes to finish it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from analysis.record.uri import without_password
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.artifacts import write_grids
from linearizer_core.experiment.evaluation import Quality
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.journal import Journal, JournalError, TrialIdentity, outcome
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.metrics.features import checksum
from sweeps.execution.cluster import Node, connected, local_capacity
from sweeps.execution.plan import Plan, make_plan
from sweeps.execution.ray_tune import Bridge, Recorded
from sweeps.execution.stop import interrupted_by_sigterm
from sweeps.execution.task import Task
from sweeps.execution.trainable import TrialTrainable
from sweeps.execution.trial import only_writer
from sweeps.execution.tuning import run_trials
from sweeps.record.lock import take
from sweeps.record.paths import SweepPaths
from sweeps.record.provenance import processes, provenance
from sweeps.record.sweep_json import read_record, write_record
from sweeps.search.halving import Halving
from sweeps.search.reuse import FinishedTrials
from sweeps.search.schedule import PlannedTrial, ReplayError, Schedule, make_study
from sweeps.search.study_copy import Mirror
from sweeps.spec.load import recorded
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem
from sweeps.tracking.process import BackgroundShipper
from sweeps.tracking.sync import Shipper, tracking_uri

MAY_CHANGE = (
    "search.trials", "search.storage", "budget.", "resources.", "tracking.", "storage", "data.root", "data.download",
)  # fmt: skip
"""Leaves that may differ when a sweep is launched again: they change how much or where, not what a trial is."""

MOMENT = 1.0
"""Seconds to wait for a sweep's lock."""


@dataclass(frozen=True)
class LaunchResult:
    """How a launch ended.

    ``state`` and ``reason`` are as in sweep.json, ``trials`` counts them by state, of which ``reused`` were taken over
    from identical ones, ``seconds`` is wall time by phase. ``not_shipped`` says why MLflow lacks something, if it does,
    and ``not_mirrored`` why the study's database does.
    """

    state: str
    reason: str | None
    best: list[TrialIdentity]
    best_value: float | None
    trials: dict[str, int]
    reused: int
    seconds: dict[str, float] = field(default_factory=dict)
    not_shipped: str | None = None
    not_mirrored: str | None = None


def launch(
    sweep: Sweep,
    console: Console,
    address: str | None = None,
    potential: tuple[Node, ...] = (),
    fresh: bool = False,
    trainable: type[TrialTrainable] = TrialTrainable,
) -> LaunchResult:
    """Run what the sweep still lacks; finished identical trials of other sweeps are taken over unless ``fresh``.

    ``potential`` is what the autoscaler of the cluster at ``address`` may add, ``trainable`` what Ray Tune runs.

    Raises ``InputError`` before anything is written when the sweep cannot be placed, its folder holds another
    sweep, or it is running already.
    """
    check_folder(sweep)
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(interrupted_by_sigterm())
        capacity = local_capacity() if address is None else stack.enter_context(connected(address, potential))
        plan = make_plan(sweep, capacity)
        paths = SweepPaths(sweep.folder)
        stack.enter_context(only_launch(sweep.source, paths))
        # Whoever asks from here on finds the lock held, and means this launch.
        paths.stop.unlink(missing_ok=True)
        before = read_record(paths)
        record = _new_record(plan, before, fresh, console)
        _await_writers(sweep.source, paths, console)
        run = _prepare(plan, paths, record)
        mirror = _recorded_and_mirrored(run, paths, record, before)
        stack.callback(mirror.close)
        shipper = Shipper(
            paths,
            tracking_uri(sweep.model.tracking.uri, paths),
            sweep.model.tracking.experiment or sweep.name,
            record,
        )
        background = BackgroundShipper(shipper)
        # Whatever is raised from here on: nothing is sent once the lock is let go.
        stack.callback(background.kill)
        try:
            _reference_trials(sweep, paths, record["provenance"], console)
            clock.lap("references")
            reason = None
            if not run.complete:
                if address is None:
                    stack.enter_context(connected(None))
                # Ray has put its own SIGTERM handler in the place of ours: it would abort.
                stack.enter_context(interrupted_by_sigterm())
                clock.lap("ray")
                reason = run_trials(run.bridge, plan, paths, console, trainable)
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
    return replace(result, seconds=clock.seconds, not_shipped=not_shipped, not_mirrored=mirror.error)


def _recorded_and_mirrored(
    run: _Run, paths: SweepPaths, record: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mirror:
    """Write sweep.json, and then begin to copy the study: one that belongs to no recorded sweep would be in the way.

    Raises ``InputError`` where the study's storage cannot be used; a sweep that was not there before is then not there.
    """
    write_record(paths, record)
    schedule = run.bridge.schedule
    try:
        return Mirror(schedule.study, schedule.sweep.search.storage, paths, record["id"])
    except InputError:
        if before is None:
            paths.sweep_json.unlink()
        else:
            write_record(paths, before)
        raise


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
        "best": [identity.trial for identity in best] or None,
        "best_value": schedule.best_value(),
    }
    write_record(paths, {**record, **end})
    if schedule.complete:
        _set_aside(schedule, paths)
    trials, reused = _end_open_trials(paths, reason)
    return LaunchResult(state, reason, best, schedule.best_value(), trials, reused)


def _set_aside(schedule: Schedule, paths: SweepPaths) -> None:
    """Move away the confirmations of configurations that are no longer among the best, since the search has grown."""
    for path in paths.journals.glob("k*.jsonl"):
        if not schedule.has(path.stem):
            paths.superseded.mkdir(exist_ok=True)
            path.replace(paths.superseded / path.name)


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
    most = recorded(record, sweep.folder).configurations
    if sweep.configurations < most:
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
            # Who only looks whether a launch runs holds it for a moment.
            take(file, MOMENT)
        except TimeoutError:
            message = f"{paths.root.name} is being carried out already"
            raise InputError(source, [Problem("name", message)]) from None
        yield


def _await_writers(source: str, paths: SweepPaths, console: Console) -> None:
    """Wait for what is left of a launch that died: its processes may still be writing.

    Raises ``InputError`` when they do not end, or a journal cannot be read.
    """
    for path in sorted(paths.journals.glob("*.jsonl")):
        try:
            if outcome(path).state is None:
                with console.status(f"waiting for the end of an earlier {path.stem}"), only_writer(path):
                    pass
        except (JournalError, TimeoutError) as error:
            raise InputError(source, [Problem("name", str(error))]) from None


def _new_record(plan: Plan, before: Mapping[str, Any] | None, fresh: bool, console: Console) -> dict[str, Any]:
    """sweep.json of a sweep that starts, or of the one ``before`` that goes on.

    Raises ``InputError`` when that had other data.
    """
    sweep = plan.sweep
    data = datasets.load(sweep.trial_config({}, 0).data)
    origin = provenance(data.checksum)
    if before and before["provenance"]["data_checksum"] != data.checksum:
        message = f"the images are not those that {sweep.name} began with; give it those, or another name"
        raise InputError(sweep.source, [Problem("data", message)])
    if before and before["provenance"]["git"] != origin["git"]:
        console.print("the code is not that which the sweep began with; each trial records its own", style="yellow")
    record: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "name": sweep.name,
        "family": sweep.base["family"],
        "axes": list(sweep.search.space),
        "objective": dict(sweep.search.objective),
        "lookahead": plan.lookahead,
        "spec": shown(sweep.resolved),
        "fresh": fresh,
        "state": "running",
        "reason": None,
        "started": time.time(),
        "ended": None,
        "best": None,
        "best_value": None,
        "provenance": origin,
    }
    # The order of the search depends on the look-ahead: a sweep keeps the one that it began with.
    kept = {key: before[key] for key in ("id", "started", "lookahead")} if before else {}
    return record | kept | {"fresh": fresh or bool(before and before["fresh"])}


def shown(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved spec as it may be stored: URIs without their passwords."""
    leaves = {"tracking.uri": spec["tracking"]["uri"], "search.storage": spec["search"]["storage"]}
    return with_leaves(spec, {name: without_password(uri) for name, uri in leaves.items() if uri})


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
    complete: bool


def _prepare(plan: Plan, paths: SweepPaths, record: Mapping[str, Any]) -> _Run:
    """The schedule of the trials that are missing, with the study rebuilt from those that are there.

    Raises ``InputError`` when the journals are not of this search.
    """
    sweep = plan.sweep
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = make_study(sweep)
    objective, mode = next(iter(sweep.search.objective.items()))
    epochs = sweep.base_leaves["train.epochs"]
    halving = Halving(sweep.search.stop_early, mode, epochs) if sweep.search.stop_early else None
    resources = sweep.model.resources
    origin = {**record["provenance"], "processes": processes(resources)}
    finished = None if record["fresh"] else FinishedTrials(paths, origin)
    schedule = Schedule(sweep, study, record["lookahead"], Recorded(paths, halving, objective, finished))
    data_root = str(datasets.root_of(sweep.trial_config({}, 0).data))

    def task(planned: PlannedTrial) -> Task:
        root = str(paths.root.resolve())
        # A worker has another working directory, and maybe another environment, than this process.
        data = {**planned.config["data"], "root": data_root}
        return Task(
            identity=planned.identity,
            config={**planned.config, "data": data},
            root=root,
            provenance=origin,
            workers=resources.workers,
            threads=resources.cpus_per_worker,
            gpus=resources.gpus_per_worker,
            checkpoint_seconds=resources.checkpoint_seconds,
            collective_timeout=resources.collective_timeout,
        )

    try:
        complete = not schedule.has_next()
    except ReplayError as error:
        raise InputError(sweep.source, [Problem("name", str(error))]) from None
    return _Run(Bridge(schedule, halving, paths, task), complete)


def _end_open_trials(paths: SweepPaths, reason: str | None) -> tuple[dict[str, int], int]:
    """End the journals of trials that were running when the sweep was cut short.

    How many trials are in each state, and how many of them were taken over from identical ones.
    """
    states: dict[str, int] = {}
    reused = 0
    for path in sorted(paths.journals.glob("*.jsonl")):
        result = outcome(path)
        if result.state is None:
            Journal(path).end("interrupted", result.epoch, reason)
        if not path.stem.startswith("r"):
            state = result.state or "interrupted"
            states[state] = states.get(state, 0) + 1
            reused += result.reused
    return states, reused


def _finish_shipping(background: BackgroundShipper) -> str | None:
    """Have the rest sent and the sweep's run closed; what went wrong, if it did."""
    if background.close():
        return background.error
    return f"{background.shipper.lack()} ({background.error})"


def shipper_for(folder: Path, uri: str | None) -> Shipper:
    """The shipper of a recorded sweep, to its own tracking server or to another one."""
    paths = SweepPaths(folder)
    record = read_record(paths)
    assert record is not None, f"{folder} holds no sweep"
    tracking = record["spec"]["tracking"]
    experiment = tracking["experiment"] or record["name"]
    return Shipper(paths, tracking_uri(uri or tracking["uri"], paths), experiment, record)
