"""Every use of MLflow beyond its public interface, with the reason, and what happens if an upgrade removes it.

All functions except ``client_of`` and ``follow_artifacts`` return None if MLflow no longer has what they need; the
caller then uses the public interface, which gives the same result more slowly.
``tests/analysis/record/test_mlflow_internals.py`` fails and names what is gone.
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
    """A client of a server or store whose model registry is the same one; MLflow would take it from the environment.

    For a database in a file, MLflow creates the folder that the URI spells literally, even if the URI is quoted and
    the file is elsewhere; such needless folders are removed. Errors of the server are raised unchanged.
    """
    _knock(uri)
    from mlflow import MlflowClient

    meant, literal = sqlite_file(uri), Path(uri.removeprefix(SQLITE)).absolute()
    if meant is None or meant.absolute() == literal:
        return MlflowClient(uri, registry_uri=uri)
    missing = [folder for folder in literal.parents if not folder.exists()]
    try:
        client = MlflowClient(uri, registry_uri=uri)
        # MLflow opens the database a second time, for its registry, when that is first used.
        client.search_registered_models(max_results=1)
        return client
    finally:
        for folder in missing:
            with suppress(OSError):  # it is gone already, or it is no longer empty
                folder.rmdir()


CONNECT_SECONDS = 10
"""The time-out for connecting to a database."""


def _knock(uri: str) -> None:
    """Raise the database's own error if it cannot be connected to.

    MLflow would retry for a minute and a half, and print the error each time.
    """
    file = sqlite_file(uri)
    if file is not None:
        if file.parent.is_dir():  # MLflow creates a missing folder
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
    """The SQLAlchemy engine of the database that a client has opened; None for a server or a folder.

    The public client creates several objects for each parameter, tag and point: reading 1,000 runs takes minutes.
    """
    return getattr(_store(client), "engine", None)


def tables() -> Tables | None:
    """The tables behind ``engine``, to be queried directly."""
    try:
        from mlflow.store.tracking.dbmodels.models import SqlMetric, SqlParam, SqlRun, SqlTag

        return Tables(*(model.__table__.c for model in (SqlRun, SqlTag, SqlParam, SqlMetric)))
    except (ImportError, AttributeError):
        return None


def histories_at_once(
    client: MlflowClient, runs: Sequence[str], key: str, most: int
) -> list[tuple[str, int, int, float]] | None:
    """Run id, time, step and value of up to ``most`` points of one metric for several runs of a server.

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
    """The repository of a run's artifacts, with ``log_artifact`` and ``log_artifacts``.

    The public client asks the server for the run again before each file.
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
"""Columns of MLflow's tables that hold absolute paths of artifacts."""


def follow_artifacts(database: Path, place: Path) -> None:
    """Correct the artifact paths in a database file after the artifacts were moved to the folder ``place``.

    MLflow stores absolute paths, and has no command for a folder that was moved. Tables and columns that MLflow no
    longer has are skipped. Raises ``sqlite3.Error`` if something has moved and the database cannot be written.
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
    """Folders with the name of ``place`` that no longer exist, and whose runs' artifacts are in ``place`` now."""
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
    """The longest experiment name, in characters, that the installed MLflow accepts; 500 if it does not say."""
    try:
        from mlflow.utils.validation import MAX_EXPERIMENT_NAME_LENGTH

        return int(MAX_EXPERIMENT_NAME_LENGTH)
    except ImportError:
        return 500


def _store(client: MlflowClient) -> Any:
    return getattr(getattr(client, "_tracking_client", None), "store", None)
