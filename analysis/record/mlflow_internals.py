"""All that is used of MLflow beyond its public interface, with the reason, and what is done where an upgrade took it.

Everything here but ``client_of`` and ``follow_artifacts`` answers None if MLflow no longer has it; who asks then
goes the public way, which gives the same and takes longer. ``tests/analysis/record/test_mlflow_internals.py`` names
what is gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from analysis.record.uri import SQLITE, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo


def client_of(uri: str) -> MlflowClient:
    """A client of a server or store, with the registry there as well: MLflow would take that from the environment.

    Of a database in a file MLflow makes the folder whose name the URI has by the letter, even if letters are quoted
    in it and the file is elsewhere: what it has made for nothing is removed. An error of the server comes out as it is.
    """
    _knock(uri)
    from mlflow import MlflowClient

    meant, literal = sqlite_file(uri), Path(uri.removeprefix(SQLITE)).absolute()
    if meant is None or meant.absolute() == literal:
        return MlflowClient(uri, registry_uri=uri)
    missing = [folder for folder in literal.parents if not folder.exists()]
    try:
        client = MlflowClient(uri, registry_uri=uri)
        # MLflow opens the database once more for its registry, when that is first asked for something.
        client.search_registered_models(max_results=1)
        return client
    finally:
        for folder in missing:
            with suppress(OSError):  # it is there no longer, or somebody has put something into it
                folder.rmdir()


CONNECT_SECONDS = 10
"""For a database to be connected to."""


def _knock(uri: str) -> None:
    """Raise what a database says where it cannot be connected to.

    MLflow would try again for a minute and a half, and print the same each time.
    """
    file = sqlite_file(uri)
    if file is not None:
        if file.parent.is_dir():  # MLflow makes one that is missing
            sqlite3.connect(file).close()
        return
    if uri.startswith(("postgresql", "mysql")):
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        engine = create_engine(uri, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS})
        engine.connect().close()


class Tables(NamedTuple):
    """The columns of MLflow's tables that a sweep is read from."""

    runs: Any
    tags: Any
    params: Any
    metrics: Any


def engine(client: MlflowClient) -> Any:
    """SQLAlchemy's engine of the database that a client has opened; None if that is a server or a folder.

    The public client makes an object of each parameter, tag and point, several times: reading 1,000 runs takes minutes.
    """
    return getattr(_store(client), "engine", None)


def tables() -> Tables | None:
    """The tables behind ``engine``, which are read as they are."""
    try:
        from mlflow.store.tracking.dbmodels.models import SqlMetric, SqlParam, SqlRun, SqlTag

        return Tables(*(model.__table__.c for model in (SqlRun, SqlTag, SqlParam, SqlMetric)))
    except (ImportError, AttributeError):
        return None


def histories_at_once(
    client: MlflowClient, runs: Sequence[str], key: str, most: int
) -> list[tuple[str, int, int, float]] | None:
    """Run id, time, step and value of up to ``most`` points of a metric of several runs of a server.

    The public client asks for one metric of one run at a time. Raises ``MlflowException`` if the server refuses.
    """
    store = _store(client)
    if not hasattr(store, "get_host_creds"):
        return None
    try:
        from mlflow.utils.rest_utils import http_request_safe
    except ImportError:
        return None
    answer = http_request_safe(  # type: ignore[no-untyped-call]
        store.get_host_creds(),
        "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
        "GET",
        params={"run_id": list(runs), "metric_key": key, "max_results": most},
    ).json()["metrics"]
    return [(entry["run_id"], int(entry["timestamp"]), int(entry["step"]), entry["value"]) for entry in answer]


def artifact_repository(client: MlflowClient, run: RunInfo) -> Any:
    """Where a run's artifacts go, with ``log_artifact`` and ``log_artifacts``.

    The public client asks the server for the run before each file.
    """
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.artifact_uri, tracking_uri=client.tracking_uri)
    except (ImportError, TypeError):
        return None


PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("experiments", "artifact_location"),
)
"""Columns of MLflow's tables that say where artifacts are, by the whole path."""


def follow_artifacts(database: Path, place: Path) -> None:
    """Have a database in a file look for artifacts in the folder ``place`` that are there, and no longer where it says.

    MLflow notes whole paths, and has no command for a folder that was moved. What its tables no longer have is left
    as it is. Raises ``sqlite3.Error`` if something has moved and the database cannot be written.
    """
    if not database.is_file() or not place.is_dir():
        return
    with closing(sqlite3.connect(database)) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"runs", "experiments"} <= known:
            return
        for before in _left(connection, place):
            for table, column in PLACES:
                if table not in known or column not in _columns(connection, table):
                    continue
                rest = f"substr({column}, {len(before) + 1})"
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || {rest} "
                    f"WHERE {column} = ? OR substr({column}, 1, {len(before) + 1}) = ?",
                    (place.absolute().as_uri(), before, f"{before}/"),
                )
        connection.commit()


def _left(connection: sqlite3.Connection, place: Path) -> list[str]:
    """Folders called as ``place`` is that do not exist any more, and of which the runs' artifacts are in ``place``."""
    found = []
    for (before,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments"):
        parts = urlsplit(str(before))
        folder = Path(unquote(parts.path))
        if parts.scheme not in ("", "file") or folder.name != place.name or not folder.is_absolute() or folder.exists():
            continue
        length = len(str(before)) + 1
        uris = connection.execute(
            "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ?", (length, f"{before}/")
        )
        if any((place / unquote(uri[length:])).exists() for (uri,) in uris):
            found.append(str(before))
    return found


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def longest_experiment_name() -> int:
    """The most characters that the installed MLflow takes in an experiment's name; 500 where it does not say."""
    try:
        from mlflow.utils.validation import MAX_EXPERIMENT_NAME_LENGTH

        return int(MAX_EXPERIMENT_NAME_LENGTH)
    except ImportError:
        return 500


def _store(client: MlflowClient) -> Any:
    return getattr(getattr(client, "_tracking_client", None), "store", None)
