"""A connection to an MLflow server or store: the sweep's experiment, its runs, and the places of their artifacts."""

from __future__ import annotations

import importlib
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.record.mlflow_internals import artifact_repository, client_of, follow_artifacts
from analysis.record.mlflow_settings import KNOCKING, WRITING, held
from analysis.record.uri import sqlite_file, without_password
from linearizer_core.errors import LinsweepError
from sweeps.record.paths import SweepPaths
from sweeps.tracking.cursors import Cursor, Cursors, load_cursors, read_note
from sweeps.tracking.views import experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, RunInfo

PAGE = 1000
"""Runs per request."""


class ExperimentError(LinsweepError, RuntimeError):
    """An experiment that cannot take runs; the message names it and says what to do."""


@dataclass
class Connection:
    """A server, the sweep's experiment and parent run there, and how far each journal has been sent."""

    client: MlflowClient
    experiment: str
    parent: str
    cursors: Cursors
    places: dict[str, Any] = field(default_factory=dict)
    """MLflow's (untyped) artifact repositories of the runs that are not over."""

    def place(self, run: str) -> Any:
        """The place for a run's artifacts, with ``log_artifact`` and ``log_artifacts``."""
        if run not in self.places:
            self.remember_place(self.client.get_run(run).info)
        return self.places[run]

    def remember_place(self, run: RunInfo) -> None:
        """Remember the place for a run's artifacts from the server's answer."""
        repository = artifact_repository(self.client, run)
        self.places[run.run_id] = _Place(self.client, run.run_id) if repository is None else repository


@dataclass(frozen=True)
class _Place:
    """The place for a run's artifacts through the public client, which asks the server for the run each time."""

    client: MlflowClient
    run: str

    def log_artifact(self, file: str, folder: str | None = None) -> None:
        self.client.log_artifact(self.run, file, folder)

    def log_artifacts(self, folder: str, path: str | None = None) -> None:
        self.client.log_artifacts(self.run, folder, path)


def connect(paths: SweepPaths, uri: str, name: str, sweep: Mapping[str, Any], note: Path) -> Connection:
    """The server at a URI; creates the experiment ``name`` and the sweep's own run if they are missing.

    ``note`` is the file of the cursors for this server. Raises ``ExperimentError`` if the experiment is in MLflow's
    trash; any error of the server is raised as it is.
    """
    # MLflow configures its loggers on import.
    importlib.import_module("mlflow")
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    database = paths.mlflow_database.resolve()
    if sqlite_file(uri) == database:  # the storage folder's own database, which may have moved with the folder
        follow_artifacts(database, paths.mlflow_artifacts.resolve())
    client = client_of(uri)
    with held(KNOCKING):
        found = _experiment(client, uri, name, note)
    with held(WRITING):
        experiment = str(found.experiment_id) if found is not None else _created(client, uri, name, paths)
        known = _runs_of(client, experiment, sweep)
        parent = known.get("parent")
        if parent is None:
            parent = _create_parent(client, experiment, paths, sweep)
        elif sweep["state"] == "running":
            client.update_run(parent, status="RUNNING")
        before = found.tags if found is not None else {}
        for name, value in experiment_tags(sweep, experiment, before).items():
            if before.get(name) != value:
                client.set_experiment_tag(experiment, name, value)
    cursors = load_cursors(note, parent, known)
    # A run without a cursor is sent from the beginning.
    lost = {trial: Cursor(run) for trial, run in known.items() if trial != "parent" and trial not in cursors}
    return Connection(client, experiment, parent, cursors | lost)


def identity_tags(sweep: Mapping[str, Any], trial: str, kind: str) -> dict[str, str]:
    """The tags that identify a run as a trial's."""
    return {
        "sweep.id": str(sweep["id"]),
        "sweep.name": str(sweep["name"]),
        "sweep.trial_id": trial,
        "sweep.kind": kind,
    }


def _experiment(client: MlflowClient, uri: str, name: str, note: Path) -> Experiment | None:
    """The sweep's experiment, even if it has been renamed; None if there is none."""
    found = _noted(client, uri, name, note) or client.get_experiment_by_name(name)
    if found is not None and not found.experiment_id:
        raise ExperimentError(
            f"{without_password(uri)} answers, but not as MLflow does: the server or the path is wrong"
        )
    if found is not None and found.lifecycle_stage != "active":
        raise ExperimentError(
            f"the experiment {found.name!r} is in MLflow's trash; restore it (MLFLOW_TRACKING_URI="
            f"{shlex.quote(without_password(uri))} mlflow experiments restore --experiment-id {found.experiment_id}), "
            "or resume with another experiment: --set tracking.experiment=…"
        )
    return found


def _noted(client: MlflowClient, uri: str, name: str, note: Path) -> Experiment | None:
    """The experiment that the sweep was sent to before, if it still exists: it may have been renamed."""
    from mlflow.exceptions import MlflowException

    before = read_note(note)
    if before is None or before["uri"] != without_password(uri) or before.get("name", name) != name:
        return None
    try:
        client.get_run(before["parent"])
        found = client.get_experiment(before["experiment"])
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return found


def _created(client: MlflowClient, uri: str, name: str, paths: SweepPaths) -> str:
    local = not uri.startswith(("http://", "https://"))
    location = paths.mlflow_artifacts.resolve().as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=location))


def _runs_of(client: MlflowClient, experiment: str, sweep: Mapping[str, Any]) -> dict[str, str]:
    """The run id of each of the sweep's trials on the server; the sweep's own run is ``parent``."""
    found: dict[str, str] = {}
    token: str | None = None
    while True:
        condition = f"tags.`sweep.id` = '{sweep['id']}'"
        page = client.search_runs([experiment], condition, max_results=PAGE, page_token=token)
        found |= {run.data.tags["sweep.trial_id"]: run.info.run_id for run in page}
        token = page.token or None
        if token is None:
            return found


def _create_parent(client: MlflowClient, experiment: str, paths: SweepPaths, sweep: Mapping[str, Any]) -> str:
    tags = identity_tags(sweep, "parent", "sweep") | {"mlflow.runName": str(sweep["name"])}
    run: str = client.create_run(experiment, tags=tags, start_time=int(sweep["started"] * 1000)).info.run_id
    client.log_artifact(run, str(paths.sweep_json))
    return run
