"""Reads sweeps back from an MLflow server or store, where ``sweeps.tracking.sync`` sent them."""

from __future__ import annotations

import ast
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.record.frames import CURVES, EPOCHS, MACHINE, Part, Points, Series, Trial, build, latest
from analysis.record.mlflow_errors import explain
from analysis.record.mlflow_internals import Tables, client_of, engine, histories_at_once, tables
from analysis.record.mlflow_settings import READING, held
from analysis.record.sweep_info import RecordError, SweepInfo
from analysis.record.uri import sqlite_file, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PAGE = 1000
"""Runs per request."""

BULK_RUNS, BULK_POINTS = 100, 25_000
"""The server's limits for a request of a metric's points: runs in the request, points in the response."""

LARGEST = 1.7976931348623157e308
"""MLflow's database stores this number for infinity."""

Point = tuple[int, int, float]
"""Time in milliseconds, step, value."""


def is_uri(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a tracking URI rather than a path."""
    return "://" in str(source)


def read_mlflow(
    uri: str, wanted: Sequence[str] | None = None, experiment: str | None = None
) -> tuple[list[str], list[Part]]:
    """The names of all sweeps in a server or store, and the wanted sweeps themselves, in the order of their starts.

    Raises ``RecordError`` naming the server if it cannot be reached or has no such experiment. Of two sweeps with the
    same name the later one is read: it has replaced the earlier one on disk as well.
    """
    shown = without_password(uri)
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise RecordError(f"{shown}: there is no file {file}")
    with held(READING):
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            client = client_of(uri)
            opened, columns = engine(client), tables()
            store = _Store(client, shown)
            if opened is not None and columns is not None:
                store = _Database(client, shown, opened, columns)
            parents = store.parents(experiment)
            chosen = [run for name, run in parents.items() if wanted is None or name in wanted]
            return list(parents), [store.sweep(parent) for parent in chosen]
        except (MlflowException, SQLAlchemyError) as error:
            raise RecordError(f"{shown}: cannot be read ({explain(error, uri)})") from None


@dataclass(frozen=True)
class _Run:
    """A run as MLflow stores it; ``histories`` has the points of each metric key, unsorted."""

    id: str
    status: str
    started: int
    ended: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    histories: Mapping[str, Sequence[Point]]


class _Store:
    """The sweeps of a tracking server, or of a folder."""

    def __init__(self, client: MlflowClient, shown: str) -> None:
        self.client = client
        self.shown = shown

    def parents(self, experiment: str | None) -> dict[str, Run]:
        """The parent run of each sweep, by the sweep's name."""
        experiments = [found.experiment_id for found in self._experiments(experiment)]
        runs = self._runs(experiments, "tags.`sweep.kind` = 'sweep'")
        last = {run.data.tags["sweep.name"]: run for run in sorted(runs, key=lambda run: run.info.start_time)}
        return dict(sorted(last.items(), key=lambda item: item[1].info.start_time))

    def _experiments(self, name: str | None) -> list[Experiment]:
        known: list[Experiment] = []
        token: str | None = None
        while True:
            page = self.client.search_experiments(page_token=token)
            known += page
            token = page.token or None
            if token is None:
                break
        if name is None:
            return known
        found = [experiment for experiment in known if experiment.name == name]
        if not found:
            names = ", ".join(sorted(experiment.name for experiment in known))
            raise RecordError(f"{self.shown}: no experiment {name!r}; it has {names}")
        return found

    def _runs(self, experiments: list[str], condition: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(experiments, condition, max_results=PAGE, page_token=token)
            runs += page
            token = page.token or None
            if token is None:
                return runs

    def sweep(self, parent: Run) -> Part:
        """A sweep and its frames."""
        tags = parent.data.tags
        source = f"{self.shown}, sweep {tags['sweep.name']}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                file = Path(self.client.download_artifacts(parent.info.run_id, "sweep.json", folder))
            except OSError as error:
                raise RecordError(f"{source}: its sweep.json cannot be read ({error})") from None
            info = SweepInfo.parse(file.read_bytes(), source)
        numbers: dict[str, int] = {}
        recorded = self._recorded(parent.info.experiment_id, tags["sweep.id"])
        trials = [_trial(run, numbers, source) for run in recorded if run.id != parent.info.run_id]
        return Part([info], build(info, trials, list(numbers)))

    def _recorded(self, experiment: str, sweep_id: str) -> Iterator[_Run]:
        """The runs of a sweep, including its parent run."""
        runs = self._runs([experiment], f"tags.`sweep.id` = '{sweep_id}'")
        for start in range(0, len(runs), BULK_RUNS):
            chunk = runs[start : start + BULK_RUNS]
            histories = self._histories(chunk)
            for run in chunk:
                info, data = run.info, run.data
                times = info.start_time, info.end_time
                yield _Run(info.run_id, info.status, *times, data.tags, data.params, histories[info.run_id])

    def _histories(self, runs: Sequence[Run]) -> dict[str, dict[str, list[Point]]]:
        """Run id → metric key → points."""
        found: dict[str, dict[str, list[Point]]] = {run.info.run_id: {} for run in runs}
        for key in sorted({key for run in runs for key in run.data.metrics}):
            for run, point in self._points([run.info.run_id for run in runs if key in run.data.metrics], key):
                found[run].setdefault(key, []).append(point)
        return found

    def _points(self, runs: Sequence[str], key: str) -> Iterator[tuple[str, Point]]:
        """The points of a metric, with their runs."""
        answer = histories_at_once(self.client, runs, key, BULK_POINTS)
        if answer is None:  # a folder
            for run in runs:
                for metric in self.client.get_metric_history(run, key):
                    yield run, (metric.timestamp, metric.step, _value(metric.value))
            return
        if len(answer) < BULK_POINTS:
            for run, time, step, value in answer:
                yield run, (time, step, _value(value))
        elif len(runs) > 1:
            # The response is full, so there may be more points.
            yield from self._points(runs[: len(runs) // 2], key)
            yield from self._points(runs[len(runs) // 2 :], key)
        else:
            for metric in self.client.get_metric_history(runs[0], key):
                yield runs[0], (metric.timestamp, metric.step, _value(metric.value))


class _Database(_Store):
    """The sweeps of a database that this process opens itself.

    Its rows are read directly: MLflow's client creates several objects for each parameter, tag and point.
    """

    def __init__(self, client: MlflowClient, shown: str, opened: Any, tables: Tables) -> None:
        super().__init__(client, shown)
        self.engine = opened
        self.tables = tables

    def _recorded(self, experiment: str, sweep_id: str) -> Iterator[_Run]:
        from sqlalchemy import select

        runs, tags, params, metrics = self.tables
        mine = select(tags.run_uuid).where(tags.key == "sweep.id", tags.value == sweep_id)
        chosen = (
            select(runs.run_uuid)
            .where(runs.experiment_id == int(experiment), runs.lifecycle_stage == "active")
            .where(runs.run_uuid.in_(mine))
        )
        point = (metrics.run_uuid, metrics.key, metrics.timestamp, metrics.step, metrics.value, metrics.is_nan)
        state = (runs.run_uuid, runs.status, runs.start_time, runs.end_time)
        with self.engine.connect() as connection:
            # Runs come first: of a run that is created meanwhile, the rest may be missing.
            states = connection.execute(select(*state).where(runs.run_uuid.in_(chosen))).all()
            tagged, configured = (
                _words(connection.execute(select(*texts).where(texts[0].in_(chosen))))
                for texts in ((table.run_uuid, table.key, table.value) for table in (tags, params))
            )
        for start in range(0, len(states), BULK_RUNS):
            chunk = states[start : start + BULK_RUNS]
            some = select(*point).where(metrics.run_uuid.in_([row[0] for row in chunk]))
            # Fetched at once, and then disconnected: an open read keeps others from writing to SQLite.
            with self.engine.connect() as connection:
                found = connection.execute(some.where(metrics.key.not_like(f"{MACHINE}%"))).all()
            histories: dict[str, dict[str, list[Point]]] = {}
            for run, key, time, step, value, is_nan in found:
                number = math.nan if is_nan else _value(value)
                histories.setdefault(run, {}).setdefault(key, []).append((time, step, number))
            for run, status, began, ended in chunk:
                yield _Run(
                    run, status, began, ended, tagged.get(run, {}), configured.get(run, {}), histories.get(run, {})
                )


def _words(rows: Iterable[Sequence[str]]) -> dict[str, dict[str, str]]:
    """Run id → key → text."""
    found: dict[str, dict[str, str]] = {}
    for run, key, text in rows:
        found.setdefault(run, {})[key] = text
    return found


def _trial(run: _Run, numbers: dict[str, int], source: str) -> Trial:
    """The trial of a run; fields that earlier versions did not send are None."""
    tags = run.tags

    def tag(name: str, kind: Callable[[str], Any], default: Any = None) -> Any:
        return kind(tags[f"sweep.{name}"]) if f"sweep.{name}" in tags else default

    try:
        over = run.status != "RUNNING"
        attempt, epoch = tag("attempt", int, 1), tag("epoch", int) if over else None
        began = tag("attempt_started", int, run.started)
        results = {key: sorted(points) for key, points in run.histories.items() if not key.startswith(MACHINE)}
        # A stopped trial may have run on while that was decided: anything after the epoch it stopped at is ignored.
        stopped = over and tag("state", str) == "stopped"
        finished = over and tag("state", str) == "finished"
        again = attempt > 1
        series, summary = _taken_apart(results, began if again else None, epoch if again or stopped else None, finished)
        if stopped:
            series, summary = {key: points for key, points in series.items() if not key.startswith(CURVES)}, {}
        if epoch is None:
            epoch = max((series[key][0][-1] for key in series if not key.startswith(CURVES)), default=None)
        return Trial(
            trial=tags["sweep.trial_id"],
            kind=tags["sweep.kind"],
            label=tag("label", str),
            number=tag("number", int),
            config_hash=tags["sweep.config_hash"],
            seed=tag("seed", int),
            attempt=attempt,
            reused_from=tag("reused_from", str),
            overrides=tag("overrides", json.loads, {}),
            leaves={name: literal(value) for name, value in run.params.items()},
            started=run.started,
            ended=run.ended if over else None,
            state=tag("state", str) if over else None,
            reason=tags.get("stop_reason") if over else None,
            epoch=epoch,
            scalars=summary or latest(series),
            warnings=tags.get("sweep.warnings", "").splitlines(),
            points=Points.of(series, numbers),
            worked=tag("worked", int) if over else None,
        )
    except (KeyError, ValueError) as error:
        raise RecordError(f"{source}: run {run.id} is not the run of a trial ({error!r})") from None


def _taken_apart(
    histories: Mapping[str, list[Point]], began: int | None, last: int | None, finished: bool
) -> tuple[Series, dict[str, float]]:
    """Separates the curves' points from the final metrics, without points of abandoned attempts.

    MLflow keeps both under one key. An epoch's metrics have the time and step of its training losses; final metrics do
    not. With several attempts, of which the last began at ``began``, earlier points count only if they are epochs up
    to ``last``. A finished trial has final metrics of its last attempt: if none is later than ``began``, the clock was
    set back, and times are ignored.
    """
    losses = {point[:2] for key, points in histories.items() if key.startswith(EPOCHS) for point in points}
    since, curves_since = (_since(histories, losses, began, finished, curves) for curves in (False, True))
    series: Series = {}
    summary: dict[str, float] = {}
    for key, points in histories.items():
        kept: dict[int, float] = {}
        for time, step, value in points:
            if key.startswith(CURVES):
                if time >= curves_since:
                    kept[step] = value
            elif (time, step) in losses:
                if last is None or step <= last:
                    kept[step] = value
            elif time >= since:
                summary[key] = value
        if kept:
            steps = sorted(kept)
            series[key] = steps, [kept[step] for step in steps]
    return series, summary


def _since(
    histories: Mapping[str, list[Point]], losses: set[tuple[int, int]], began: int | None, finished: bool, curves: bool
) -> float:
    """The time from which final metrics count, or points of curves over solver steps or ranks (``curves``)."""
    if began is None:
        return -math.inf
    times = [
        point[0]
        for key, points in histories.items()
        if key.startswith(CURVES) is curves
        for point in points
        if curves or point[:2] not in losses
    ]
    return began if not finished or any(time >= began for time in times) else -math.inf


def _value(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) == LARGEST else float(value)


@lru_cache(maxsize=4096)
def literal(text: str) -> Any:
    """The value of a leaf, which MLflow stores as text; text that is not a Python literal stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
