"""MLflow has what the journals have: all of it, once, whatever went wrong on the way."""

from __future__ import annotations

import json
import math
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from mlflow import MlflowClient

from linearizer_core.evaluation import Curve
from linearizer_core.journal import Journal, TrialIdentity
from sweeps.cluster import Capacity
from sweeps.launch import _new_record
from sweeps.paths import SweepPaths
from sweeps.plan import make_plan
from sweeps.record import write_record
from sweeps.spec import Sweep
from sweeps.tracking import (
    BackgroundShipper,
    Shipper,
    comparison_link,
    describe,
    run_name,
    tracking_uri,
)
from sweeps.uri import without_password

FD = "quality/classifier_fd_collapsed"
SECRET = "s3cret"

Record = Any
Store = Any


def write_all(record: Record, trial: str = "t000-s0", **identity: Any) -> None:
    """A trial from its beginning to its end."""
    journal = record.begin(trial, **identity)
    journal.epoch(1, {"train/loss": 2.0, FD: 3.0})
    journal.epoch(2, {"train/loss": 1.5})
    journal.curve("nfe/swd", Curve([1, 10, 100], [0.5, 0.25, 0.125]))
    journal.summary({FD: 1.0, "cost/params": 12.0})
    folder = record.paths.artifacts(trial)
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "config.json").write_text("{}")
    (folder / "curves.csv").write_text("metric,steps,value\n")
    journal.artifact("checkpoint")
    journal.artifact("curves.csv")
    journal.artifact("gone.png")
    journal.end("finished", 2)


def check_all(store: Store, trial: str = "t000-s0") -> None:
    """Everything that ``write_all`` wrote is in the store, once."""
    assert store.history(trial, "train/loss") == [(1, 2.0), (2, 1.5)]
    assert store.history(trial, FD) == [(1, 3.0), (2, 1.0)]
    assert store.history(trial, "nfe/swd") == [(1, 0.5), (10, 0.25), (100, 0.125)]
    assert store.history(trial, "cost/params") == [(2, 12.0)]
    run = store.runs()[trial]
    assert run.info.status == "FINISHED"
    files = {entry.path for entry in store.client.list_artifacts(run.info.run_id)}
    assert files == {"checkpoint", "curves.csv"}
    inside = store.client.list_artifacts(run.info.run_id, "checkpoint")
    assert [entry.path for entry in inside] == ["checkpoint/config.json"]


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# What a run holds


def test_a_sweep_is_a_parent_run_and_a_trial_a_child(record: Record, store: Store) -> None:
    write_all(record)
    assert record.shipper(store.uri).ship() == 9
    check_all(store)
    runs = store.runs()
    assert set(runs) == {"parent", "t000-s0"}
    common = {"sweep.id": "f" * 32, "sweep.name": "demo"}
    parent, child = runs["parent"], runs["t000-s0"]
    assert parent.data.tags.items() >= {**common, "sweep.kind": "sweep", "mlflow.runName": "demo"}.items()
    assert (parent.info.status, parent.info.start_time) == ("RUNNING", 1_700_000_000_000)
    assert [entry.path for entry in store.client.list_artifacts(parent.info.run_id)] == ["sweep.json"]
    assert (
        child.data.tags.items()
        >= {
            **common,
            "sweep.trial_id": "t000-s0",
            "sweep.kind": "search",
            "sweep.config_hash": "0123456789ab",
            "sweep.seed": "0",
            "sweep.state": "finished",
            "sweep.git_dirty": "true",
            "mlflow.source.git.commit": "c" * 40,
            "mlflow.parentRunId": parent.info.run_id,
            "mlflow.runName": "t000-s0 lr=0.003",
        }.items()
    )
    assert "stop_reason" not in child.data.tags
    assert child.data.params == {"train.lr": "0.003", "train.epochs": "3", "evaluate.steps": "[1, 10]", "seed": "0"}


def test_times_are_those_of_the_journal(record: Record, store: Store) -> None:
    write_all(record)
    times = [int(json.loads(line)["time"] * 1000) for line in record.paths.journal("t000-s0").read_text().splitlines()]
    record.shipper(store.uri).ship()
    info = store.runs()["t000-s0"].info
    assert (info.start_time, info.end_time) == (times[0], times[-1])
    assert [m.timestamp for m in store.client.get_metric_history(info.run_id, "train/loss")] == times[1:3]


@pytest.mark.parametrize(
    ("state", "reason", "status"),
    [
        ("finished", None, "FINISHED"),
        ("stopped", "asha: not among the best at epoch 2", "KILLED"),
        ("failed", "diverged: loss is nan", "FAILED"),
        ("interrupted", "budget.hours = 1 spent", "KILLED"),
    ],
)
def test_states(record: Record, store: Store, state: Any, reason: str | None, status: str) -> None:
    record.begin().end(state, 2, reason)
    record.shipper(store.uri).ship()
    run = store.runs()["t000-s0"]
    assert (run.info.status, run.data.tags["sweep.state"], run.data.tags.get("stop_reason")) == (status, state, reason)


def test_labels_take_the_place_of_the_point_and_seeds_may_be_absent(record: Record, store: Store) -> None:
    record.begin("r000", kind="reference", label="noise", seed=None, overrides={})
    record.shipper(store.uri).ship()
    tags = store.runs()["r000"].data.tags
    assert (tags["sweep.label"], tags["sweep.kind"], tags["mlflow.runName"]) == ("noise", "reference", "r000 noise")
    assert "sweep.seed" not in tags


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"model.flow.depth": 3, "train.lr": 0.00123456}, "t0 depth=3 lr=0.00123"),
        ({"model.flow.activation": "gelu"}, "t0 activation=gelu"),
        ({}, "t0"),
    ],
)
def test_run_names_show_the_point(overrides: dict[str, Any], name: str) -> None:
    assert run_name({"trial": "t0", "label": None, "overrides": overrides}) == name


def test_values_that_are_not_finite(record: Record, store: Store) -> None:
    journal = record.begin()
    journal.epoch(1, {FD: math.nan})
    journal.epoch(2, {FD: math.inf})
    shipper = record.shipper(store.uri)
    shipper.ship()
    record.paths.shipped.unlink()
    record.shipper(store.uri).ship()
    (first, second) = store.history("t000-s0", FD)
    assert first[0] == 1
    assert math.isnan(first[1])
    assert second[1] > 1e308  # MLflow's way to store infinity


def test_more_metrics_than_a_request_takes(record: Record, store: Store) -> None:
    journal = record.begin()
    for epoch in range(1, 4):
        journal.epoch(epoch, {f"train/{i}": float(i) for i in range(400)})
    record.shipper(store.uri).ship()
    assert len(store.runs()["t000-s0"].data.metrics) == 400
    assert store.history("t000-s0", "train/399") == [(1, 399.0), (2, 399.0), (3, 399.0)]


def test_more_params_than_a_request_takes_and_long_ones(record: Record, store: Store) -> None:
    config = {"a": {f"x{i}": i for i in range(150)}, "long": "y" * 5000}
    identity = TrialIdentity("demo", "t000-s0", "search", None, 0, "0", 0)
    Journal(record.paths.journal("t000-s0")).trial(identity, config, {})
    record.shipper(store.uri).ship()
    params = store.runs()["t000-s0"].data.params
    assert (len(params), params["a.x149"], params["long"]) == (151, "149", "y" * 5000)


# Once, whatever happens


def test_shipping_again_sends_nothing(record: Record, store: Store) -> None:
    write_all(record)
    shipper = record.shipper(store.uri)
    assert [shipper.ship() for _ in range(3)] == [9, 0, 0]
    assert record.shipper(store.uri).ship() == 0
    assert shipper.pending() == 0
    check_all(store)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("loss", ["none", "lost", "stale"])
def test_journals_that_grow_between_shipments(record: Record, store: Store, restart: bool, loss: str) -> None:
    """Each event is shipped by itself: by a new shipper each time, or after the positions were lost or put back."""
    write_all(record)
    path = record.paths.journal("t000-s0")
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    shipper, stale = record.shipper(store.uri), None
    for line in lines:
        # Half of the line first: what is not whole yet is not sent.
        with path.open("ab") as file:
            file.write(line[: len(line) // 2])
        if restart or loss != "none":
            shipper = record.shipper(store.uri)
        shipper.ship()
        noted = record.paths.shipped
        if loss == "lost":
            noted.unlink(missing_ok=True)
        elif loss == "stale":
            if stale is not None:
                noted.write_bytes(stale)
            stale = noted.read_bytes() if noted.exists() else None
        with path.open("ab") as file:
            file.write(line[len(line) // 2 :])
    record.shipper(store.uri).ship()
    assert path.read_bytes() == b"".join(lines)
    check_all(store)


@pytest.mark.parametrize("table", ["metrics", "latest_metrics", "tags", "params"])
def test_a_store_that_fails_in_between_loses_and_repeats_nothing(record: Record, store: Store, table: str) -> None:
    shipper = record.shipper(store.uri)
    shipper.ship()
    write_all(record)
    with store.without(table), pytest.raises(Exception, match=f"no such table: {table}"):
        shipper.ship()
    shipper.ship()
    check_all(store)
    assert store.runs()["t000-s0"].data.params["train.lr"] == "0.003"


def test_a_retried_trial_goes_on_in_its_run(record: Record, store: Store) -> None:
    journal = record.begin()
    for epoch in (1, 2, 3):
        journal.epoch(epoch, {"train/loss": 4.0 - epoch})
    journal.end("interrupted", 3, "budget.hours = 1 spent")
    shipper = record.shipper(store.uri)
    shipper.ship()
    assert store.runs()["t000-s0"].info.status == "KILLED"
    again = record.begin()
    shipper.ship()
    assert store.runs()["t000-s0"].info.status == "RUNNING"
    for epoch in (1, 2, 3, 4):
        again.epoch(epoch, {"train/loss": 4.0 - epoch})
    again.end("finished", 4)
    record.shipper(store.uri).ship()
    run = store.runs()["t000-s0"]
    assert store.history("t000-s0", "train/loss") == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.0)]
    assert (run.info.status, run.data.tags["sweep.state"]) == ("FINISHED", "finished")
    assert "stop_reason" not in run.data.tags


def test_positions_of_another_store_are_not_used(record: Record, new_store: Callable[[str], Store]) -> None:
    write_all(record)
    first, second = new_store("first"), new_store("second")
    for store in (first, second, first):
        record.shipper(store.uri).ship()
        check_all(store)


def test_positions_of_an_emptied_store_are_not_used(record: Record, new_store: Callable[[str], Store]) -> None:
    write_all(record)
    record.shipper(new_store("mlflow").uri).ship()
    emptied = new_store("mlflow")
    record.shipper(emptied.uri).ship()
    check_all(emptied)


def test_two_sweeps_of_one_name_do_not_share_runs(record: Record, store: Store) -> None:
    write_all(record)
    record.shipper(store.uri).ship()
    # The folder was removed, and the sweep launched again.
    shutil.rmtree(record.paths.root)
    record.sweep["id"] = "e" * 32
    record.paths.root.mkdir()
    record.paths.sweep_json.write_text("{}")
    record.begin()
    record.shipper(store.uri).ship()
    experiment = store.client.get_experiment_by_name("demo")
    runs = store.client.search_runs([experiment.experiment_id])
    assert sorted((run.data.tags["sweep.id"][0], run.data.tags["sweep.trial_id"]) for run in runs) == [
        ("e", "parent"), ("e", "t000-s0"), ("f", "parent"), ("f", "t000-s0"),
    ]  # fmt: skip


def test_artifacts_are_beside_a_local_store(record: Record, store: Store) -> None:
    write_all(record)
    record.shipper(store.uri).ship()
    assert (record.paths.storage / "mlartifacts").is_dir()
    assert [path.name for path in record.paths.mlflow_artifacts.rglob("config.json")] == ["config.json"]


def test_finishing_closes_the_parent_once(record: Record, store: Store) -> None:
    shipper = record.shipper(store.uri)
    shipper.ship()
    for state, status in (("interrupted", "KILLED"), ("finished", "FINISHED"), ("finished", "FINISHED")):
        sweep = json.loads(record.paths.sweep_json.read_text())
        record.paths.sweep_json.write_text(json.dumps(sweep | {"state": state}))
        shipper.finish()
        parent = store.runs()["parent"]
        assert (parent.info.status, parent.data.tags["sweep.state"]) == (status, state)
    assert store.history("parent", f"best/{FD}") == [(0, 1.0)]


def test_pending_counts_the_bytes_that_were_not_sent(record: Record, store: Store) -> None:
    journal = record.begin()
    shipper = record.shipper(store.uri)
    assert shipper.pending() == record.paths.journal("t000-s0").stat().st_size
    shipper.ship()
    assert shipper.pending() == 0
    before = record.paths.journal("t000-s0").stat().st_size
    journal.epoch(1, {})
    assert shipper.pending() == record.paths.journal("t000-s0").stat().st_size - before


# In the background


def test_the_background_ships_what_comes(record: Record, store: Store) -> None:
    background = BackgroundShipper(record.shipper(store.uri), period=0.02)
    write_all(record)
    assert background.close()
    assert background.error is None
    check_all(store)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def test_an_unreachable_server_costs_nothing_but_the_shipping(record: Record, store: Store, closed_port: int) -> None:
    uri = f"http://ann:{SECRET}@127.0.0.1:{closed_port}"
    with within(15):
        background = BackgroundShipper(record.shipper(uri), period=0.02)
        write_all(record)
        before = record.paths.journal("t000-s0").read_bytes()
        assert background.close() is False
    assert background.error is not None
    assert "127.0.0.1" in background.error
    assert SECRET not in background.error
    assert not record.paths.shipped.exists()
    assert record.paths.journal("t000-s0").read_bytes() == before
    assert record.shipper(store.uri).ship() == 9
    check_all(store)


# Credentials


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"http://ann:{SECRET}@mlflow.example:5000/base", "http://mlflow.example:5000/base"),
        (f"https://{SECRET}@mlflow.example", "https://mlflow.example"),
        (f"https://ann:{SECRET}%40%2F%3A@mlflow.example", "https://mlflow.example"),
        (f"https://ann:{SECRET}@[::1]:5000", "https://[::1]:5000"),
        (f"postgresql+psycopg2://ann:{SECRET}@db:5432/mlflow?sslmode=require", "postgresql+psycopg2://db:5432/mlflow?sslmode=require"),
        (f"postgresql://ann:{SECRET}@{SECRET}@db/mlflow", "postgresql://db/mlflow"),
        # SQLAlchemy takes passwords that hold what ends the host of other URIs.
        (f"postgresql://ann:x/{SECRET}@db/mlflow", "postgresql://db/mlflow"),
        (f"postgresql://ann:x#{SECRET}@db/mlflow", "postgresql://db/mlflow"),
        (f"postgresql://ann:x?{SECRET}@db/mlflow", "postgresql://db/mlflow"),
        ("http://mlflow.example/a@b", "http://mlflow.example/a@b"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
        ("./mlruns", "./mlruns"),
    ],
)  # fmt: skip
def test_uris_are_shown_without_credentials(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_password_among_the_options_is_not_shown() -> None:
    # libpq and SQLAlchemy's drivers take credentials as options as well.
    assert SECRET not in without_password(f"postgresql://db/mlflow?user=ann&password={SECRET}&sslmode=require")


@pytest.mark.parametrize("uri", [f"http://ann:{SECRET}@h:1", f"http://{SECRET}@h:1/", f"http://ann:{SECRET}%40@h/base"])
def test_errors_are_told_without_credentials(uri: str) -> None:
    error = RuntimeError(f"request to {uri}/api\n   failed for {uri}")
    assert describe(error, uri) == f"request to {without_password(uri)}/api failed for {without_password(uri)}"


def test_errors_are_told_in_one_short_line() -> None:
    assert describe(RuntimeError(""), "http://h") == "RuntimeError"
    assert describe(ValueError("a\n  b" * 300), "http://h") == ("a b" * 300)[:300]


@pytest.mark.parametrize("user", [f"ann:{SECRET}", SECRET, f"ann:{SECRET}%40%2F"])
def test_what_an_http_client_says_holds_no_credentials(record: Record, closed_port: int, user: str) -> None:
    uri = f"http://{user}@127.0.0.1:{closed_port}/"
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        record.shipper(uri).ship()
    assert SECRET not in describe(caught.value, uri)


def test_nothing_stored_holds_credentials(sweep: Callable[..., Sweep], store: Store, tmp_path: Path) -> None:
    uri = f"http://ann:{SECRET}%40@h:1"
    made = sweep({"storage": str(tmp_path / "runs"), "tracking/uri": uri})
    paths = SweepPaths(made.folder)
    record = _new_record(make_plan(made, Capacity(1, 0, "here")), None)
    write_record(paths, record)
    shipper = Shipper(paths, store.uri, "demo", record)
    shipper.ship()
    shipper.uri = uri
    shipper._save_positions()
    written = [path.name for path in paths.storage.rglob("*.json")]
    assert sorted(written) == ["shipped.json", "sweep.json", "sweep.json"]  # one is the parent run's artifact
    assert [path for path in paths.storage.rglob("*.json") if SECRET in path.read_text()] == []
    assert json.loads(paths.shipped.read_text())["uri"] == "http://h:1"
    assert json.loads(paths.sweep_json.read_text())["spec"]["tracking"]["uri"] == "http://h:1"
    assert [run for run in store.runs().values() if SECRET in str(run.to_dictionary())] == []


def test_the_sweeps_own_store(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "runs" / "demo")
    assert tracking_uri(None, paths) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking_uri("http://h", paths) == "http://h"


def test_the_link_lists_the_trials_of_this_sweep_best_first(record: Record, new_store: Callable[..., Store]) -> None:
    store = new_store("runs/mlflow")
    assert comparison_link("http://127.0.0.1:5000", record.paths) is None
    record.begin()
    record.shipper(store.uri).ship()
    link = comparison_link("http://127.0.0.1:5000", record.paths)
    assert link is not None
    page, _, query = link.partition("?")
    experiment = MlflowClient(store.uri).get_experiment_by_name("demo")
    assert experiment is not None
    assert page == f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs"
    assert parse_qs(query) == {
        "searchFilter": [f"tags.`sweep.id` = '{'f' * 32}' and tags.`sweep.kind` != 'parent'"],
        "orderByKey": [f"metrics.`{FD}`"],
        "orderByAsc": ["true"],
    }


def test_another_server_has_positions_of_its_own(record: Record, new_store: Callable[..., Store]) -> None:
    record.begin().end("finished", 0)
    own, other = new_store("own"), new_store("other")
    shipper = record.shipper(own.uri)
    assert shipper.ship() == 2
    before = record.paths.shipped.read_bytes()
    shipper = Shipper(record.paths, other.uri, "demo", shipper.sweep)
    assert [shipper.ship(), shipper.ship()] == [2, 0]
    assert record.paths.shipped.read_bytes() == before
    assert set(other.runs()) == set(own.runs()) == {"parent", "t000-s0"}


def test_every_run_says_where_it_comes_from(record: Record, store: Store) -> None:
    identity = TrialIdentity("demo", "t000-s0", "search", None, 0, "0" * 12, 0)
    origin = {"packages": {"torch": "2.15.0"}, "hardware": {"cpus": 2}, "data_checksum": "ab", "git": {"commit": None}}
    Journal(record.paths.journal("t000-s0")).trial(identity, {"seed": 0}, origin)
    record.shipper(store.uri).ship()
    tags = store.runs()["t000-s0"].data.tags
    assert json.loads(tags["sweep.packages"]) == {"torch": "2.15.0"}
    assert json.loads(tags["sweep.hardware"]) == {"cpus": 2}
    assert tags["sweep.data_checksum"] == "ab"
