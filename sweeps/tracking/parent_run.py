"""The results of a sweep in its own MLflow run: spec, summary, importance, tables, report, and the best models."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from mlflow.entities import Metric, RunTag

from analysis.record.copies import fetch_artifacts
from analysis.record.mlflow_settings import WRITING, held
from linearizer_core.experiment.checkpoint import CONFIG
from sweeps.record.ledger import Ledger
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.tracking.model import log_model

if TYPE_CHECKING:
    from analysis.record.runs import Record
    from analysis.render.table import Table
    from sweeps.tracking.connection import Connection

STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def finish(connection: Connection, paths: SweepPaths, sweep: Mapping[str, Any] | None = None) -> None:
    """Log the results of a sweep that has ended to its run and close it; can be repeated.

    ``sweep`` is its record, by default the one on disk. Does nothing while the sweep runs.
    """
    sweep = read_record(paths) if sweep is None else sweep
    if sweep is not None and sweep.get("ended") is not None:
        with held(WRITING):
            _finish(connection, paths, sweep)


def _finish(connection: Connection, paths: SweepPaths, sweep: Mapping[str, Any]) -> None:
    # Importing pandas takes a second, so wait until the sweep has ended.
    from analysis.record.runs import load

    client, parent = connection.client, connection.parent
    paths.journals.mkdir(exist_ok=True)  # a launch may have ended before its first trial
    record = load(paths.root)
    ended = int(sweep["ended"] * 1000)
    summary = _summary(record, paths, sweep)
    values = {f"trials/{state}": count for state, count in summary["trials"].items()}
    values |= {"cost/hours": summary["hours"], "cost/gpu_hours": summary["gpu_hours"]}
    if sweep["state"] == "finished":
        values[f"best/{next(iter(sweep['objective']))}"] = sweep.get("best_value")
    client.log_batch(parent, metrics=_metrics(values, ended), tags=[RunTag("sweep.state", sweep["state"])])
    client.set_terminated(parent, STATUS[sweep["state"]], end_time=ended)
    # Results computed from the record come last, so that the run is closed even if they fail.
    table = _importance(record)
    if table is not None:
        client.log_batch(parent, metrics=_metrics(_shares(table), ended))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_json(folder / "sweep.json", sweep)
        (folder / "spec.yaml").write_text(yaml.safe_dump(sweep["spec"], sort_keys=False, allow_unicode=True), "utf-8")
        _write_json(folder / "environment.json", sweep.get("provenance", {}))
        _write_json(folder / "summary.json", summary)
        if table is not None:
            (folder / "importance.csv").write_text(table.to_csv(), "utf-8")
        _write_tables(folder / "tables", record)
        client.log_artifacts(parent, place)
    if paths.report.is_dir():
        client.log_artifacts(parent, str(paths.report), artifact_path="report")
    for trial in _kept(record, paths, sweep):
        log_model(connection, paths, trial)


def _metrics(values: Mapping[str, float], stamp: int) -> list[Metric]:
    return [Metric(key, float(value), stamp, 0) for key, value in values.items()]


def _summary(record: Record, paths: SweepPaths, sweep: Mapping[str, Any]) -> dict[str, Any]:
    """How a sweep ended: its trials by state (without references), its best configuration, and what it spent."""
    runs, ledger = record.runs, Ledger.read(paths)
    states = Counter(runs.loc[runs["kind"] != "reference", "state"].astype("str"))
    return {
        "state": sweep["state"],
        "reason": sweep.get("reason"),
        "trials": dict(sorted(states.items())),
        "objective": sweep["objective"],
        "best": sweep.get("best"),
        "best_value": sweep.get("best_value"),
        "hours": ledger.hours,
        "gpu_hours": ledger.gpu_hours,
    }


def _kept(record: Record, paths: SweepPaths, sweep: Mapping[str, Any]) -> list[str]:
    """The trials whose models are logged: the best configuration's, and the confirmations."""
    runs = record.runs
    confirmed = runs.loc[(runs["kind"] == "confirm") & (runs["state"] == "finished"), "trial"]
    best = dict.fromkeys([*(sweep.get("best") or ()), *confirmed])
    for trial in best:
        fetch_artifacts(paths.root, trial)
    return [trial for trial in best if (paths.artifacts(trial) / "checkpoint" / CONFIG).exists()]


def _importance(record: Record) -> Table | None:
    """How much each axis matters to the objective; None if too few configurations have finished."""
    from analysis.record.runs import RecordError
    from analysis.tables.importance import importance

    try:
        return importance(record)
    except RecordError:
        return None


def _write_tables(folder: Path, record: Record) -> None:
    """Write the current ablation tables, if there is enough for any."""
    from analysis.record.runs import RecordError
    from analysis.report.list_of_tables import ablation_tables

    try:
        tables = ablation_tables(record).made
    except RecordError:
        return
    folder.mkdir()
    for table in tables:
        table.write(folder, (".csv", ".md", ".html"))


def _shares(table: Table) -> dict[str, float]:
    """Each axis's share, by the first method in the table."""
    shares: dict[str, float] = {}
    for row in table.rows:
        axis, share = row.cells[0].value, row.cells[1].value
        if isinstance(axis, str) and isinstance(share, float):
            shares[f"importance/{axis}"] = share
    return shares


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
