"""Sweeps read from an MLflow server or store: what ``sweeps.tracking`` sent there, taken back apart."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.frames import EPOCHS, MACHINE, STEPS, Part, Points, Series, Trial, build, latest
from analysis.sweep_info import RecordError, SweepInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PAGE = 1000
"""Runs a request."""

BULK_RUNS, BULK_POINTS = 100, 25_000
"""The runs that a server takes in one request for a metric's points, and the most points that it answers with."""

LARGEST = 1.7976931348623157e308
"""What MLflow's database keeps of an infinity."""

ENVIRONMENT = {
    # MLflow's own values take minutes to find that nobody answers.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""What holds while MLflow is read, where the environment does not say."""

Point = tuple[int, int, float]
"""Time in milliseconds, step, value."""


def is_uri(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a tracking URI rather than a path."""
    return "://" in str(source)


def without_password(source: str) -> str:
    """A URI as it may be shown: user and password left out; a path as it is."""
    return re.sub(r"://.*@", "://", source)


def read_mlflow(
    uri: str, wanted: Sequence[str] | None = None, experiment: str | None = None
) -> tuple[list[str], list[Part]]:
    """The names of the sweeps that a server or store has, and those that are wanted, in the order of their starts.

    Raises ``RecordError`` naming the server where it cannot be reached, or has no such experiment. Of two sweeps of
    one name the later is taken: it has replaced the other on disk as well.
    """
    shown = without_password(uri)
    if uri.startswith("sqlite:///") and not Path(file := uri.removeprefix("sqlite:///").partition("?")[0]).is_file():
        raise RecordError(f"{shown}: there is no file {file}")
    with _environment():
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            store = _Store(MlflowClient(uri), shown)
            parents = store.parents(experiment)
            chosen = [run for name, run in parents.items() if wanted is None or name in wanted]
            return list(parents), [store.sweep(parent) for parent in chosen]
        except (MlflowException, SQLAlchemyError) as error:
            text = " ".join(str(error).split()).replace(uri, shown)
            raise RecordError(f"{shown}: cannot be read ({text[:300]})") from None


@contextmanager
def _environment() -> Iterator[None]:
    unset = [name for name in ENVIRONMENT if name not in os.environ]
    os.environ.update({name: ENVIRONMENT[name] for name in unset})
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


class _Store:
    """The sweeps of a tracking server or store."""

    def __init__(self, client: MlflowClient, shown: str) -> None:
        self.client = client
        self.shown = shown

    def parents(self, experiment: str | None) -> dict[str, Run]:
        """The run that stands for each sweep, by the sweep's name."""
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
        runs = self._runs([parent.info.experiment_id], f"tags.`sweep.id` = '{tags['sweep.id']}'")
        runs = [run for run in runs if run.info.run_id != parent.info.run_id]
        numbers: dict[str, int] = {}
        trials: list[Trial] = []
        for start in range(0, len(runs), BULK_RUNS):
            chunk = runs[start : start + BULK_RUNS]
            histories = self._histories(chunk)
            trials += [_trial(run, histories[run.info.run_id], numbers, source) for run in chunk]
        return Part([info], build(info, trials, list(numbers)))

    def _histories(self, runs: Sequence[Run]) -> dict[str, dict[str, list[Point]]]:
        """Run id to metric key to its points, in the order of time."""
        found: dict[str, dict[str, list[Point]]] = {run.info.run_id: {} for run in runs}
        for key in sorted({key for run in runs for key in run.data.metrics}):
            for run, point in self._points([run.info.run_id for run in runs if key in run.data.metrics], key):
                found[run].setdefault(key, []).append(point)
        for histories in found.values():
            for points in histories.values():
                points.sort()
        return found

    def _points(self, runs: Sequence[str], key: str) -> Iterator[tuple[str, Point]]:
        """The points of a metric, with their runs.

        MLflow's public client asks for one metric of one run at a time: for a sweep that is minutes.
        """
        store: Any = self.client._tracking_client.store
        if hasattr(store, "get_metric_history_bulk"):
            for point in store.get_metric_history_bulk(runs, key, max_results=None):
                yield point.run_id, (point.timestamp, point.step, _value(point.value))
            return
        from mlflow.utils.rest_utils import http_request_safe

        answer = http_request_safe(  # type: ignore[no-untyped-call]
            store.get_host_creds(),
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
            "GET",
            params={"run_id": list(runs), "metric_key": key, "max_results": BULK_POINTS},
        ).json()["metrics"]
        if len(answer) < BULK_POINTS:
            for entry in answer:
                yield entry["run_id"], (int(entry["timestamp"]), int(entry["step"]), _value(entry["value"]))
        elif len(runs) > 1:
            # There may be more than it answers with.
            yield from self._points(runs[: len(runs) // 2], key)
            yield from self._points(runs[len(runs) // 2 :], key)
        else:
            for metric in self.client.get_metric_history(runs[0], key):
                yield runs[0], (metric.timestamp, metric.step, _value(metric.value))


def _trial(run: Run, histories: Mapping[str, list[Point]], numbers: dict[str, int], source: str) -> Trial:
    """A trial from its run; what earlier versions did not send is None."""
    tags = run.data.tags

    def tag(name: str, kind: Callable[[str], Any], default: Any = None) -> Any:
        return kind(tags[f"sweep.{name}"]) if f"sweep.{name}" in tags else default

    try:
        over = run.info.status != "RUNNING"
        attempt, epoch = tag("attempt", int, 1), tag("epoch", int) if over else None
        began = tag("attempt_started", int, run.info.start_time)
        results = {key: points for key, points in histories.items() if not key.startswith(MACHINE)}
        series, summary = _taken_apart(results, began, epoch if attempt > 1 else None)
        if epoch is None:
            epoch = max((series[key][0][-1] for key in series if not key.startswith(STEPS)), default=None)
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
            leaves={name: literal(value) for name, value in run.data.params.items()},
            started=run.info.start_time,
            ended=run.info.end_time if over else None,
            state=tag("state", str) if over else None,
            reason=tags.get("stop_reason") if over else None,
            epoch=epoch,
            scalars=summary or latest(series),
            warnings=tags.get("sweep.warnings", "").splitlines(),
            points=Points.of(series, numbers),
        )
    except (KeyError, ValueError) as error:
        raise RecordError(f"{source}: the run {run.info.run_id} is not one of a trial's ({error!r})") from None


def _taken_apart(histories: Mapping[str, list[Point]], began: int, last: int | None) -> tuple[Series, dict[str, float]]:
    """The points that count of the curves, and the end scalars.

    MLflow keeps both under one key. An epoch's metrics have the time and step of its training losses; end scalars do
    not. What is from before ``began``, when the last attempt did, counts only if it is an epoch up to ``last``.
    """
    losses = {point[:2] for key, points in histories.items() if key.startswith(EPOCHS) for point in points}
    series: Series = {}
    summary: dict[str, float] = {}
    for key, points in histories.items():
        kept: dict[int, float] = {}
        for time, step, value in points:
            if key.startswith(STEPS):
                if time >= began:
                    kept[step] = value
            elif (time, step) in losses:
                if last is None or step <= last:
                    kept[step] = value
            elif time >= began:
                summary[key] = value
        if kept:
            steps = sorted(kept)
            series[key] = steps, [kept[step] for step in steps]
    return series, summary


def _value(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) == LARGEST else float(value)


@lru_cache(maxsize=4096)
def literal(text: str) -> Any:
    """The value of a leaf that MLflow keeps as text; text that reads as no Python literal is itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
