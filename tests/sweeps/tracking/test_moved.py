"""A storage folder that was moved with its database: MLflow, which notes whole paths, finds the artifacts again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from analysis.record.mlflow_internals import follow_artifacts
from analysis.record.uri import sqlite_uri
from linearizer_core.experiment import checkpoint
from linearizer_core.experiment.configuration import FlowConfig, ModelConfig, OperatorConfig, TrialConfig
from linearizer_core.experiment.families import family_of

Record = Any
Store = Any
Cli = Callable[..., int]

CONFIG = TrialConfig(
    model=ModelConfig(
        flow=FlowConfig(frame="pixels", depth=1, width=8, mixing="lu"),
        operator=OperatorConfig(kind="time_lowrank", rank=3),
    )
)


def finished(record: Record, trial: str) -> None:
    journal = record.begin(trial)
    model = family_of(CONFIG).build(CONFIG, (1, 4, 4))
    checkpoint.save(record.paths.artifacts(trial) / "checkpoint", model, CONFIG)
    journal.artifact("checkpoint")
    journal.summary({})
    journal.end("finished", 3)


SEND = """
import sys, linsweep as ls
ls.sync("demo", storage=sys.argv[1])
ls.promote("demo/t000-s0", storage=sys.argv[1])
"""


@pytest.fixture
def sent(record: Record, store: Store) -> Path:
    """A storage folder with a database and artifacts of its own, in which a sweep was sent and a model promoted.

    By another process, as it was before: MLflow remembers places while a process lives.
    """
    storage: Path = record.paths.storage
    shutil.move(store.path, record.paths.mlflow_database)
    finished(record, "t000-s0")
    subprocess.run([sys.executable, "-c", SEND, str(storage)], cwd=Path(__file__).parents[3], check=True)
    finished(record, "t001-s0")
    return storage


def places(storage: Path) -> dict[str, set[str]]:
    """Where the database says that artifacts are, and the trials whose checkpoint MLflow lists there."""
    client = MlflowClient(sqlite_uri(storage / "mlflow.db"))
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    listed = {
        run.data.tags["sweep.trial_id"] for run in runs
        if any(file.path == "checkpoint" for file in client.list_artifacts(run.info.run_id))
    }  # fmt: skip
    models = client.search_logged_models([experiment.experiment_id])
    versions = client.search_model_versions("name = 'demo'")
    uris = [experiment.artifact_location, *(run.info.artifact_uri for run in runs)]
    uris += [model.artifact_location for model in models] + [version.source for version in versions]
    assert len(uris) >= 5
    return {"uris": {uri.partition("mlartifacts")[0] for uri in uris}, "listed": listed}


def test_sync_promote_and_ui_after_moves(
    sent: Path, run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a copy the artifacts are still where they were.
    copy = tmp_path / "copy"
    shutil.copytree(sent, copy)
    follow_artifacts(copy / "mlflow.db", copy / "mlartifacts")
    assert places(copy)["uris"] == {f"{sent.as_uri()}/"}

    moved = tmp_path / "else where%"
    sent.rename(moved)
    assert run_cli("sync", "demo", "--storage", str(moved)) == 0
    assert places(moved) == {"uris": {f"{moved.as_uri()}/"}, "listed": {"t000-s0", "t001-s0"}}
    for trial in ("t001-s0", "t000-s0"):
        assert run_cli("promote", f"demo/{trial}", "--storage", str(moved)) == 0
    assert places(moved)["uris"] == {f"{moved.as_uri()}/"}
    client = MlflowClient(sqlite_uri(moved / "mlflow.db"))
    assert len(client.search_model_versions("name = 'demo'")) == 2
    assert not sent.exists()

    again = tmp_path / "again"
    moved.rename(again)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda *_: None)
    assert run_cli("ui", "--storage", str(again), "--port", "53219") == 0
    assert places(again) == {"uris": {f"{again.as_uri()}/"}, "listed": {"t000-s0", "t001-s0"}}

    # What is not here is not looked for here.
    (copy / "mlartifacts").rename(copy / "other")
    (copy / "mlartifacts").mkdir()
    before = (copy / "mlflow.db").read_bytes()
    follow_artifacts(copy / "mlflow.db", copy / "mlartifacts")
    follow_artifacts(copy / "missing.db", copy / "mlartifacts")
    assert (copy / "mlflow.db").read_bytes() == before
    assert not (copy / "missing.db").exists()
