"""What is used of MLflow's internals is there; what an upgrade takes away is named here, and the public way remains."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis.record import mlflow_internals
from analysis.record.mlflow_errors import explain


@pytest.mark.parametrize(
    "name",
    [
        "mlflow.store.tracking.dbmodels.models.SqlRun",
        "mlflow.store.tracking.dbmodels.models.SqlTag",
        "mlflow.store.tracking.dbmodels.models.SqlParam",
        "mlflow.store.tracking.dbmodels.models.SqlMetric",
        "mlflow.utils.rest_utils.http_request_safe",
        "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository",
        "mlflow.utils.validation.MAX_EXPERIMENT_NAME_LENGTH",
    ],
)
def test_the_installed_mlflow_still_has(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), f"MLflow no longer has {name}"


def test_a_client_of_a_server_still_shows_its_store() -> None:
    store = mlflow_internals._store(MlflowClient("http://127.0.0.1:9"))
    assert hasattr(store, "get_host_creds"), "MlflowClient no longer has _tracking_client.store.get_host_creds"


def test_what_is_gone_is_none_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an upgrade had moved every module."""
    for name in (
        "mlflow.store.tracking.dbmodels.models",
        "mlflow.utils.rest_utils",
        "mlflow.utils.validation",
        "mlflow.store.artifact.artifact_repository_registry",
    ):
        monkeypatch.setitem(__import__("sys").modules, name, None)

    class Bare:
        """A client without the attributes that are not public."""

        tracking_uri = "http://h"

    client: object = Bare()
    assert mlflow_internals.engine(client) is None  # type: ignore[arg-type]
    assert mlflow_internals.tables() is None
    assert mlflow_internals.histories_at_once(client, ["a"], "loss", 1) is None  # type: ignore[arg-type]
    assert mlflow_internals.artifact_repository(client, Bare()) is None  # type: ignore[arg-type]
    assert mlflow_internals.longest_experiment_name() == 500


def test_nobody_else_uses_them() -> None:
    root = Path(__file__).parents[3]
    inner = ("_tracking_client", "mlflow.store", "mlflow.utils", "dbmodels", "set_tracking_uri(", "set_registry_uri(")
    users = {
        f"{path.relative_to(root)}: {word}"
        for room in ("linearizer_core", "analysis", "sweeps", "linsweep")
        for path in (root / room).rglob("*.py")
        if path.name != "mlflow_internals.py"
        for word in inner
        if word in path.read_text()
    }
    # What `linsweep promote` prints is for the user's own script.
    assert users == {f"sweeps/cli/tracking.py: set_{what}_uri(" for what in ("tracking", "registry")}


@pytest.mark.parametrize(
    ("said", "uri", "told"),
    [
        ("API request failed with error code 503 != 200", "http://a:b@h:1/x", "h:1 answers with error 503"),
        ("(Caused by ResponseError('too many 502 error responses'))", "http://h:1", "h:1 answers with error 502"),
        ("(Caused by ResponseError('too many 429 error responses'))", "http://h:1", "h:1 answers with error 429"),
        (
            "API request to endpoint /api failed with error code 401 != 200. Response body: '<html>'", "http://h:1",
            "h:1 answers with error 401: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN",
        ),
        *(
            (said, "http://h:1", "h:1 answers, but not as MLflow does: the server or the path is wrong")
            for said in (
                "API request to endpoint was successful but the response body was not in a valid JSON format.",
                "API request to endpoint /api failed with error code 404 != 200. Response body: 'nope'",
                "API request to http://h:1/api failed with exception Exceeded 30 redirects.",
            )
        ),
        ("HTTPConnectionPool(host='h', port=1): Read timed out. (read timeout=8)", "http://h:1", "h:1 does not answer"),
        ("(Caused by NewConnectionError('Connection refused'))", "http://h:1", "h:1 cannot be reached"),
        (
            "(sqlite3.OperationalError) no such table: runs [SQL: SELECT * FROM runs] (Background: https://sqlalche.me)",
            "sqlite:///a.db",
            "(sqlite3.OperationalError) no such table: runs",
        ),
    ],
)  # fmt: skip
def test_errors_are_told_in_one_line(said: str, uri: str, told: str) -> None:
    assert explain(RuntimeError(said), uri) == told
