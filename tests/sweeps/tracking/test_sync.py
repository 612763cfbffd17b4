"""MLflow has what the journals have: all of it, once, whatever went wrong on the way."""

from __future__ import annotations

import json
import math
import shutil
import socket
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from analysis.record.uri import describe, without_password
from linearizer_core.experiment.evaluation import Curve
from linearizer_core.experiment.journal import Journal, JournalWarning, TrialIdentity, committed, state_of
from sweeps.record.damage import damage_told
from sweeps.record.opening import opened
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import write_record
from sweeps.spec.model import Sweep
from sweeps.tracking.cursors import NoteWarning
from sweeps.tracking.parent_run import finish
from sweeps.tracking.process import BackgroundSync
from sweeps.tracking.run import run_name
from sweeps.tracking.sync import Sync, tracking_uri
from sweeps.tracking.views import comparison_link, experiment_tags, view_key, view_of

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
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
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
    assert files == {"checkpoint", "curves.csv", "trial.json"}
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
    assert record.sync(store.uri).send() == 9
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
    record.sync(store.uri).send()
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
    journal = record.begin()
    if state == "finished":
        journal.summary({})
    journal.end(state, 2, reason)
    record.sync(store.uri).send()
    run = store.runs()["t000-s0"]
    assert (run.info.status, run.data.tags["sweep.state"], run.data.tags.get("stop_reason")) == (status, state, reason)


def test_labels_take_the_place_of_the_point_and_seeds_may_be_absent(record: Record, store: Store) -> None:
    record.begin("r000", kind="reference", label="noise", seed=None, overrides={})
    record.sync(store.uri).send()
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
    sync = record.sync(store.uri)
    sync.send()
    record.paths.cursors.unlink()
    record.sync(store.uri).send()
    (first, second) = store.history("t000-s0", FD)
    assert first[0] == 1
    assert math.isnan(first[1])
    assert second[1] > 1e308  # MLflow's way to store infinity


def test_more_metrics_than_a_request_takes(record: Record, store: Store) -> None:
    journal = record.begin()
    for epoch in range(1, 4):
        journal.epoch(epoch, {f"train/{i}": float(i) for i in range(400)})
    record.sync(store.uri).send()
    assert len(store.runs()["t000-s0"].data.metrics) == 400
    assert store.history("t000-s0", "train/399") == [(1, 399.0), (2, 399.0), (3, 399.0)]


def test_more_params_than_a_request_takes_and_long_ones(record: Record, store: Store) -> None:
    config = {"a": {f"x{i}": i for i in range(150)}, "long": "y" * 5000}
    identity = TrialIdentity("demo", "t000-s0", "search", None, 0, "0", 0)
    Journal(record.paths.journal("t000-s0")).trial(identity, config, {})
    record.sync(store.uri).send()
    params = store.runs()["t000-s0"].data.params
    assert (len(params), params["a.x149"], params["long"]) == (151, "149", "y" * 5000)


# Once, whatever happens


def test_shipping_again_sends_nothing(record: Record, store: Store) -> None:
    write_all(record)
    sync = record.sync(store.uri)
    assert [sync.send() for _ in range(3)] == [9, 0, 0]
    assert record.sync(store.uri).send() == 0
    assert sync.pending() == 0
    check_all(store)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("loss", ["none", "lost", "stale"])
def test_journals_that_grow_between_shipments(record: Record, store: Store, restart: bool, loss: str) -> None:
    """Each event is shipped by itself: by a new sync each time, or after the cursors were lost or put back."""
    write_all(record)
    path = record.paths.journal("t000-s0")
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    sync, stale = record.sync(store.uri), None
    for line in lines:
        # Half of the line first: what is not whole yet is not sent.
        with path.open("ab") as file:
            file.write(line[: len(line) // 2])
        if restart or loss != "none":
            sync = record.sync(store.uri)
        sync.send()
        noted = record.paths.cursors
        if loss == "lost":
            noted.unlink(missing_ok=True)
        elif loss == "stale":
            if stale is not None:
                noted.write_bytes(stale)
            stale = noted.read_bytes() if noted.exists() else None
        with path.open("ab") as file:
            file.write(line[len(line) // 2 :])
    record.sync(store.uri).send()
    assert path.read_bytes() == b"".join(lines)
    check_all(store)


@pytest.mark.parametrize(
    "note",
    [b"", b"\0" * 200, b'{"uri": "sqlite', b"\xff\xfe", b"[]", b'{"runs": {}}']
    + [b'{"uri": "u", "experiment": "1", "parent": "p", "runs": %s}' % runs for runs in (b"[]", b'{"t000-s0": {}}')],
)
def test_a_damaged_note_is_as_good_as_none(record: Record, store: Store, note: bytes) -> None:
    write_all(record)
    record.sync(store.uri).send()
    record.paths.cursors.write_bytes(note)
    with pytest.warns(NoteWarning, match=r"shipped\.json: cannot be read \(\w+: .*\); the journals are sent again"):
        assert record.sync(store.uri).send() > 0
    check_all(store)
    assert record.sync(store.uri).send() == 0


@pytest.mark.parametrize("table", ["metrics", "latest_metrics", "tags", "params"])
def test_a_store_that_fails_in_between_loses_and_repeats_nothing(record: Record, store: Store, table: str) -> None:
    sync = record.sync(store.uri)
    sync.send()
    write_all(record)
    with store.without(table), pytest.raises(Exception, match=f"no such table: {table}"):
        sync.send()
    sync.send()
    check_all(store)
    assert store.runs()["t000-s0"].data.params["train.lr"] == "0.003"


def test_a_retried_trial_goes_on_in_its_run(record: Record, store: Store) -> None:
    journal = record.begin()
    for epoch in (1, 2, 3):
        journal.epoch(epoch, {"train/loss": 4.0 - epoch})
    journal.end("interrupted", 3, "budget.hours = 1 spent")
    sync = record.sync(store.uri)
    sync.send()
    assert store.runs()["t000-s0"].info.status == "KILLED"
    again = record.begin()
    sync.send()
    assert store.runs()["t000-s0"].info.status == "RUNNING"
    for epoch in (1, 2, 3, 4):
        again.epoch(epoch, {"train/loss": 4.0 - epoch})
    again.summary({})
    again.end("finished", 4)
    record.sync(store.uri).send()
    run = store.runs()["t000-s0"]
    assert store.history("t000-s0", "train/loss") == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.0)]
    assert (run.info.status, run.data.tags["sweep.state"]) == ("FINISHED", "finished")
    assert "stop_reason" not in run.data.tags


def test_positions_of_another_store_are_not_used(record: Record, new_store: Callable[[str], Store]) -> None:
    write_all(record)
    first, second = new_store("first"), new_store("second")
    for store in (first, second, first):
        record.sync(store.uri).send()
        check_all(store)


def test_positions_of_an_emptied_store_are_not_used(record: Record, new_store: Callable[[str], Store]) -> None:
    write_all(record)
    record.sync(new_store("mlflow").uri).send()
    emptied = new_store("mlflow")
    record.sync(emptied.uri).send()
    check_all(emptied)


def test_two_sweeps_of_one_name_do_not_share_runs(record: Record, store: Store) -> None:
    write_all(record)
    record.sync(store.uri).send()
    # The folder was removed, and the sweep launched again.
    shutil.rmtree(record.paths.root)
    record.sweep["id"] = "e" * 32
    record.paths.root.mkdir()
    record.paths.sweep_json.write_text("{}")
    record.begin()
    record.sync(store.uri).send()
    experiment = store.client.get_experiment_by_name("demo")
    runs = store.client.search_runs([experiment.experiment_id])
    assert sorted((run.data.tags["sweep.id"][0], run.data.tags["sweep.trial_id"]) for run in runs) == [
        ("e", "parent"), ("e", "t000-s0"), ("f", "parent"), ("f", "t000-s0"),
    ]  # fmt: skip


def test_artifacts_are_beside_a_local_store(record: Record, store: Store) -> None:
    write_all(record)
    record.sync(store.uri).send()
    assert (record.paths.storage / "mlartifacts").is_dir()
    assert [path.name for path in record.paths.mlflow_artifacts.rglob("config.json")] == ["config.json"]


def test_finishing_closes_the_parent_once(record: Record, store: Store) -> None:
    sync = record.sync(store.uri)
    sync.send()
    for state, status in (("interrupted", "KILLED"), ("finished", "FINISHED"), ("finished", "FINISHED")):
        sweep = json.loads(record.paths.sweep_json.read_text())
        record.paths.sweep_json.write_text(json.dumps(sweep | {"state": state}))
        finish(sync.connect(), sync.paths)
        parent = store.runs()["parent"]
        assert (parent.info.status, parent.data.tags["sweep.state"]) == (status, state)
    assert store.history("parent", f"best/{FD}") == [(0, 1.0)]


def test_pending_counts_the_bytes_that_were_not_sent(record: Record, store: Store) -> None:
    journal = record.begin()
    sync = record.sync(store.uri)
    assert sync.pending() == record.paths.journal("t000-s0").stat().st_size
    sync.send()
    assert sync.pending() == 0
    before = record.paths.journal("t000-s0").stat().st_size
    journal.epoch(1, {})
    assert sync.pending() == record.paths.journal("t000-s0").stat().st_size - before


# In the background


def test_the_background_ships_what_comes(
    record: Record, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.py").write_text("raise ImportError('a file of the user was taken for a package')")
    monkeypatch.chdir(tmp_path)
    background = BackgroundSync(record.sync(store.uri), period=0.02)
    write_all(record)
    assert background.close()
    assert background.error is None
    check_all(store)


def test_the_background_tells_of_each_line_that_cannot_be_read_once(
    record: Record, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = replace(record, paths=SweepPaths(Path("runs/demo")))
    journal = here.begin()
    journal.epoch(1, {FD: 2.0})
    here.paths.cursors.write_text("{")
    told: list[str] = []
    with damage_told(told.append):
        background = BackgroundSync(here.sync(store.uri), period=0.02)
        with journal.path.open("ab") as file:
            file.write(b"not JSON\n")
        wait_until(lambda: len(told) == 2)
        background._process.kill()  # type: ignore[union-attr]
        state_of(journal.path)  # as the launch does
        journal.end("failed", 1)
        assert background.close()
    assert sorted(text.split(": ")[:2] for text in told) == [
        ["runs/demo/journal/t000-s0.jsonl:3", "is not a JSON object with an event"],
        ["runs/demo/shipped.json", "cannot be read (JSONDecodeError"],
    ]
    assert store.history("t000-s0", FD) == [(1, 2.0)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_shipping_process_that_dies_is_started_again(record: Record, store: Store) -> None:
    background = BackgroundSync(record.sync(store.uri), period=0.02)
    for _ in range(2):
        while background._process is None or background._process.poll() is not None:
            time.sleep(0.01)
        background._process.kill()
    write_all(record)
    assert background.close()
    check_all(store)
    background.kill()  # which is of no consequence any more
    assert background.error is None


def test_a_shipping_process_can_be_ended_at_once(record: Record, store: Store) -> None:
    background = BackgroundSync(record.sync(store.uri))
    background.kill()
    assert background._process is None or background._process.poll() is not None
    write_all(record)
    assert background.close() is False
    assert record.sync(store.uri).send() == 9
    check_all(store)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def test_an_unreachable_server_costs_nothing_but_the_shipping(record: Record, store: Store, closed_port: int) -> None:
    uri = f"http://ann:{SECRET}@127.0.0.1:{closed_port}"
    with within(30):
        background = BackgroundSync(record.sync(uri), period=0.02)
        write_all(record)
        before = record.paths.journal("t000-s0").read_bytes()
        assert background.close() is False
    assert background.error is not None
    assert "127.0.0.1" in background.error
    assert SECRET not in background.error
    assert not record.paths.cursors.exists()
    assert record.paths.journal("t000-s0").read_bytes() == before
    assert record.sync(store.uri).send() == 9
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
        record.sync(uri).send()
    assert SECRET not in describe(caught.value, uri)


def test_nothing_stored_holds_credentials(sweep: Callable[..., Sweep], store: Store, tmp_path: Path) -> None:
    uri = f"http://ann:{SECRET}%40@h:1"
    made = sweep({"storage": str(tmp_path / "runs"), "tracking/uri": uri})
    paths = SweepPaths(made.folder)
    record = opened(made, 2, None, False, Console(quiet=True))
    write_record(paths, record)
    sync = Sync(paths, store.uri, "demo", record)
    sync.send()
    connection = sync.connect()
    sync.uri = uri
    sync._save(connection)
    written = [path.name for path in paths.storage.rglob("*.json")]
    assert sorted(written) == ["shipped.json", "sweep.json", "sweep.json"]  # one is the parent run's artifact
    assert [path for path in paths.storage.rglob("*.json") if SECRET in path.read_text()] == []
    assert json.loads(paths.cursors.read_text())["uri"] == "http://h:1"
    assert json.loads(paths.sweep_json.read_text())["spec"]["tracking"]["uri"] == "http://h:1"
    assert [run for run in store.runs().values() if SECRET in str(run.to_dictionary())] == []


def test_the_sweeps_own_store(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "runs" / "demo")
    assert tracking_uri(None, paths) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking_uri("http://h", paths) == "http://h"


def test_the_link_opens_the_view_of_this_sweep(record: Record, new_store: Callable[..., Store]) -> None:
    store = new_store("runs/mlflow")
    assert comparison_link(record.paths, "http://127.0.0.1:5000") is None
    record.begin()
    record.sync(store.uri).send()
    experiment = store.client.get_experiment_by_name("demo")
    assert experiment is not None
    page = f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs"
    key = "linsweep-" + 12 * "f"
    link = f"{page}?viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"
    assert comparison_link(record.paths, "http://127.0.0.1:5000") == link
    # Nobody is known to serve a storage folder's own database.
    assert comparison_link(record.paths) is None
    assert json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"]) == view_of(record.sweep)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    # MLflow shows this note above the runs.
    assert f"]({link.removeprefix('http://127.0.0.1:5000/')})" in experiment.tags["mlflow.note.content"]


def test_a_note_links_to_every_sweep_of_an_experiment_and_the_users_own_is_left(record: Record) -> None:
    note = "mlflow.note.content"
    other = {**record.sweep, "id": 32 * "e", "name": "other"}
    first = experiment_tags(record.sweep, "7", {})
    both = experiment_tags(other, "7", first)
    assert both[note].split("\n\n")[0] == first[note]
    assert view_key(other) in both[note]
    assert note not in experiment_tags(record.sweep, "7", both)  # it is there already
    assert note not in experiment_tags(record.sweep, "7", {note: "Runs of March. Ask Ada."})


def test_the_link_to_a_team_server_is_known_without_one_of_our_own(record: Record) -> None:
    note = {"uri": "https://mlflow.example/base", "experiment": "7", "parent": "p", "runs": {}}
    record.paths.cursors.write_text(json.dumps(note))
    record.sweep["spec"]["tracking"]["uri"] = note["uri"]
    record.paths.sweep_json.write_text(json.dumps(record.sweep))
    link = comparison_link(record.paths)
    assert link == comparison_link(record.paths, "http://127.0.0.1:5000")
    assert link is not None
    assert link.startswith("https://mlflow.example/base/#/experiments/7/runs?")


def test_a_view_shows_axes_objectives_and_curves_best_first(record: Record) -> None:
    record.sweep["axes"] = ["model.flow.depth", "train.lr"]
    record.sweep["objective"] = {"quality/recall_collapsed": "max", FD: "min"}
    record.sweep["spec"]["evaluate"] = {"quality": ["swd", "recall"]}
    view = view_of(record.sweep)
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`quality/recall_collapsed`", False)
    assert view["selectedColumns"][:4] == [
        "params.`model.flow.depth`", "params.`train.lr`", "metrics.`quality/recall_collapsed`", f"metrics.`{FD}`",
    ]  # fmt: skip
    charts = view["compareRunCharts"]
    curves = {chart["metricKey"]: chart for chart in charts if chart["type"] == "LINE"}
    assert {"nfe/swd", "nfe/recall", "train/loss"} <= set(curves)
    assert (curves["nfe/swd"]["xAxisKey"], curves["nfe/swd"]["xAxisScaleType"]) == ("step", "log")
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in charts} == sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    assert not any(key.startswith("rank/") for key in curves)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"operator": {"kind": "affine"}}},
        {"search": {"space": {"model.operator.kind": {"grid": ["time_lowrank", "affine"]}}}},
        {"controls": [{"name": "means alone", "set": {"model.operator.kind": "affine"}}]},
    ],
)
def test_a_view_has_charts_against_rank_where_a_trial_has_such_curves(record: Record, changed: dict[str, Any]) -> None:
    record.sweep["spec"] |= {"evaluate": {"quality": ["swd"]}, **changed}
    view = view_of(record.sweep)
    section = next(each["uuid"] for each in view["compareRunSections"] if each["name"] == "Quality against rank")
    charts = [chart for chart in view["compareRunCharts"] if chart["metricSectionId"] == section]
    assert [chart["metricKey"] for chart in charts] == ["rank/swd", "rank/test_swd"]
    assert {(chart["xAxisKey"], chart["xAxisScaleType"]) for chart in charts} == {("step", "log")}


@pytest.mark.parametrize(
    ("search", "grouped"),
    [
        ({"seeds": [0]}, False),
        ({"seeds": [0, 1]}, True),
        ({"seeds": [0], "confirm": {"top": 1, "seeds": [1, 2]}}, True),
        ({"seeds": [0], "confirm": None}, False),
    ],
)
def test_a_view_has_one_line_for_the_seeds_of_a_configuration(
    record: Record, search: dict[str, Any], grouped: bool
) -> None:
    record.sweep["spec"] |= {"search": search}
    view = view_of(record.sweep)
    assert view.get("useGroupedValuesInCharts", False) == grouped
    if grouped:
        by = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "sweep.configuration"}]}
        assert view["groupBy"] == by


def test_seeds_of_a_configuration_have_one_tag_in_common(record: Record, store: Store) -> None:
    for seed in (0, 1):
        point = {"model.flow.depth": 2}
        identity = TrialIdentity("demo", f"t003-s{seed}", "search", None, 3, "0" * 12, seed, point)
        Journal(record.paths.journal(f"t003-s{seed}")).trial(identity, {"seed": seed}, {})
    identity = TrialIdentity("demo", "r000", "reference", "noise", 0, "0" * 12, None)
    Journal(record.paths.journal("r000")).trial(identity, {}, {})
    record.sync(store.uri).send()
    tags = {trial: run.data.tags.get("sweep.configuration") for trial, run in store.runs().items()}
    assert tags == {"parent": None, "t003-s0": "t003 depth=2", "t003-s1": "t003 depth=2", "r000": None}


def test_a_view_has_a_contour_over_axes_of_numbers_alone(record: Record) -> None:
    space = {"model.flow.depth": {"int": [1, 4]}, "model.flow.mixing": {"choice": ["lu", "p4"]}}
    space |= {"train.lr": {"grid": [1e-3, 3e-3]}, "train.compile": {"grid": [True, False]}}
    record.sweep["axes"] = list(space)
    record.sweep["spec"] |= {"search": {"space": space}}
    contours = [chart for chart in view_of(record.sweep)["compareRunCharts"] if chart["type"] == "CONTOUR"]
    assert [(chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in contours] == [("model.flow.depth", "train.lr")]
    assert {chart["zaxis"]["key"] for chart in contours} == {FD}


def test_another_server_has_positions_of_its_own(record: Record, new_store: Callable[..., Store]) -> None:
    record.begin().end("finished", 0)
    own, other = new_store("own"), new_store("other")
    sync = record.sync(own.uri)
    assert sync.send() == 2
    before = record.paths.cursors.read_bytes()
    sync = Sync(record.paths, other.uri, "demo", sync.sweep)
    assert [sync.send(), sync.send()] == [2, 0]
    assert record.paths.cursors.read_bytes() == before
    assert set(other.runs()) == set(own.runs()) == {"parent", "t000-s0"}


def test_every_run_says_where_it_comes_from(record: Record, store: Store) -> None:
    identity = TrialIdentity("demo", "t000-s0", "search", None, 0, "0" * 12, 0)
    origin = {"packages": {"torch": "2.15.0"}, "hardware": {"cpus": 2}, "data_checksum": "ab", "git": {"commit": None}}
    Journal(record.paths.journal("t000-s0")).trial(identity, {"seed": 0}, origin)
    record.sync(store.uri).send()
    tags = store.runs()["t000-s0"].data.tags
    assert json.loads(tags["sweep.packages"]) == {"torch": "2.15.0"}
    assert json.loads(tags["sweep.hardware"]) == {"cpus": 2}
    assert tags["sweep.data_checksum"] == "ab"


def test_the_data_set_is_an_input_of_the_run(record: Record, store: Store) -> None:
    identity = TrialIdentity("demo", "t000-s0", "search", None, 0, "0" * 12, 0)
    data = {"name": "digits", "root": "/somewhere", "size": 8}
    Journal(record.paths.journal("t000-s0")).trial(identity, {"data": data}, {"data_checksum": "a1" * 32})
    for _ in range(2):
        record.sync(store.uri).send()
        record.paths.cursors.unlink()
    (found,) = store.runs()["t000-s0"].inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("digits", "a1" * 18)
    assert json.loads(found.dataset.source) == {"name": "digits", "size": 8}


# What goes wrong with one of many


def test_lines_that_cannot_be_read_keep_neither_the_others_nor_other_journals(record: Record, store: Store) -> None:
    journal = record.begin("t000-s0")
    with journal.path.open("ab") as file:
        file.write(b"not JSON\n")
    journal.epoch(1, {FD: 2.0})
    record.paths.journal("t001-s0").write_text("not JSON\n")
    write_all(record, "t002-s0")
    sync = record.sync(store.uri)
    with pytest.warns(JournalWarning, match=r"t00[01]-s0.jsonl:[12]: is not a JSON object with an event") as told:
        sync.send()
    assert len(told) == 2
    assert set(store.runs()) == {"parent", "t000-s0", "t002-s0"}
    check_all(store, "t002-s0")
    assert store.history("t000-s0", FD) == [(1, 2.0)]
    # Further on the line keeps its number, and what was told of is not read again.
    record.paths.journal("t001-s0").unlink()
    with journal.path.open("ab") as file:
        file.write(b"\0\0\0\n")
    with pytest.warns(JournalWarning, match=r"t000-s0.jsonl:4: contains NUL bytes") as told:
        record.sync(store.uri).send(everything=False)
    assert [str(warning.message).split("/")[-1][:15] for warning in told] == ["t000-s0.jsonl:4"]


def test_an_attempt_in_another_folder_goes_on_in_its_run(record: Record, store: Store) -> None:
    identity = TrialIdentity("demo", "t000-s0", "search", None, 0, "0" * 12, 0)
    for root in ("/first", "/second"):
        Journal(record.paths.journal("t000-s0")).trial(identity, {"data": {"root": root}}, {})
        record.sync(store.uri).send()
    assert store.runs()["t000-s0"].data.params == {"data.root": "/first"}
    assert store.runs()["t000-s0"].data.tags["sweep.attempt"] == "2"


def test_a_trial_that_is_trained_for_more_epochs_has_a_run_of_that_length(record: Record, store: Store) -> None:
    first, more = (TrialIdentity("demo", "t000-s0", "search", None, 0, str(n) * 12, 0) for n in (0, 1))
    journal = Journal(record.paths.journal("t000-s0"))
    for identity, epochs in ((first, 1), (more, 2)):
        journal.trial(identity, {"train": {"epochs": epochs}}, {})
        journal.epoch(epochs, {FD: 1.0 / epochs})
        journal.summary({FD: 1.0 / epochs})
        journal.end("finished", epochs)
        for _ in range(2):  # the second finds nothing to do
            record.sync(store.uri).send()
        run = store.runs()["t000-s0"]
        assert run.data.params == {"train.epochs": str(epochs)}
        assert run.data.tags["sweep.config_hash"] == identity.config_hash
        assert run.data.metrics[FD] == 1.0 / epochs
        assert run.info.status == "FINISHED"


def test_a_run_that_was_deleted_is_made_again(record: Record, store: Store) -> None:
    write_all(record)
    record.sync(store.uri).send()
    store.client.delete_run(store.runs()["t000-s0"].info.run_id)
    record.sync(store.uri).send()
    check_all(store)


def test_a_trial_that_was_set_aside_loses_its_run(record: Record, store: Store) -> None:
    write_all(record, "k000-s1", kind="confirm")
    sync = record.sync(store.uri)
    sync.send()
    record.paths.superseded.mkdir()
    record.paths.journal("k000-s1").rename(record.paths.superseded / "k000-s1.jsonl")
    sync.send(everything=False)
    assert set(store.runs()) == {"parent", "k000-s1"}
    sync.send()
    assert set(store.runs()) == {"parent"}
    write_all(record, "k000-s1", kind="confirm")
    sync.send()
    check_all(store, "k000-s1")


def test_a_warning_among_results_is_kept(record: Record, store: Store) -> None:
    journal = record.begin()
    journal.summary({FD: 1.0})
    journal.warning("the disk is nearly full")
    journal.end("finished", 1)
    record.sync(store.uri).send()
    assert store.runs()["t000-s0"].data.tags["sweep.warnings"] == "the disk is nearly full"


# How much is read, and how often


def test_a_journal_is_read_in_pieces_that_fit_into_memory(record: Record) -> None:
    journal = record.begin()
    metrics = {f"train/{i}": i / 7 for i in range(300)}
    for epoch in range(1, 401):
        journal.epoch(epoch, metrics)
    journal.summary(metrics)
    journal.end("finished", 400)
    size = journal.path.stat().st_size
    whole = list(committed(journal.path, 0, size))
    tracemalloc.start()
    found = 0
    for piece in committed(journal.path, 0, size // 100):
        found += len(piece.events)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 4
    assert found == len(whole[0].events) == 403
    assert piece.end == whole[0].end == size


FIELDS: dict[str, dict[str, Any]] = {
    "trial": {
        "sweep": "demo", "trial": "t", "kind": "search", "number": 0, "config_hash": "0", "seed": 0, "attempt": 1,
        "resumed_epoch": 0, "label": None, "overrides": {}, "config": {}, "provenance": {},
    },
    "epoch": {"epoch": 1, "metrics": {}},
    "curve": {"metric": "nfe/swd", "steps": [], "values": []},
    "artifact": {"path": "a"},
    "warning": {"message": "a"},
    "end": {"state": "finished", "reason": None, "epoch": 1},
}  # fmt: skip


@given(
    kinds=st.lists(st.sampled_from(list(FIELDS)), max_size=30),
    size=st.integers(1, 400),
)
def test_pieces_are_what_nothing_can_take_back(kinds: list[str], size: int) -> None:
    kinds = ["trial", *kinds]
    events = [{"event": kind, "time": float(number), **FIELDS[kind]} for number, kind in enumerate(kinds)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event"')
        pieces = list(committed(path, 0, size))
        # Going on from the end of any piece gives the rest.
        for number, piece in enumerate(pieces):
            assert [e for p in committed(path, piece.end, size) for e in p.events] == [
                e for p in pieces[number + 1 :] for e in p.events
            ]
    results = ("curve", "artifact")
    # A result counts where an end comes before any other attempt, all else unless it is behind a result that waits.
    expected = []
    for place, event in enumerate(events):
        later = [kind for kind in kinds[place:] if kind in ("end", "trial")]
        before = [kind for kind in kinds[:place] if kind in (*results, "end", "trial")]
        waits = bool(before) and before[-1] in results and event["event"] not in ("end", "trial")
        if event["event"] in results:
            if later[:1] == ["end"]:
                expected.append(event)
        elif not waits or later:
            expected.append(event)
    assert [event for piece in pieces for event in piece.events] == expected


def test_what_has_not_grown_is_not_opened(record: Record, store: Store) -> None:
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event == "open" and str(arguments[0]).endswith(".jsonl"):
            opened.append(Path(str(arguments[0])).stem)

    write_all(record, "t000-s0")
    running = record.begin("t001-s0")
    sync = record.sync(store.uri)
    sync.send()
    sys.addaudithook(watch)
    try:
        sync.send(everything=False)
        sync.send()
        assert opened == []
        running.epoch(1, {"train/loss": 1.0})
        opened.clear()
        sync.send(everything=False)
        assert set(opened) == {"t001-s0"}
    finally:
        watching[0] = False


def test_an_ended_trial_is_looked_at_again_only_with_everything(record: Record, store: Store) -> None:
    write_all(record)
    sync = record.sync(store.uri)
    sync.send()
    record.begin()
    assert [sync.send(everything=False), sync.send()] == [0, 1]


def test_what_is_lacking_is_told_in_words(record: Record, store: Store) -> None:
    sync = record.sync(store.uri)
    write_all(record)
    record.begin("t001-s0")
    assert sync.lack().endswith(" KiB of the journals of 2 trials")
    sync.send()
    assert sync.lack() == "0 KiB of the journals of 0 trials"
    record.begin("t002-s0")
    # Another process knows from the note.
    assert record.sync(store.uri).lack() == "1 KiB of the journals of 1 trial"


# The sweep's own run


def test_the_parent_holds_what_the_sweep_came_to(record: Record, store: Store) -> None:
    write_all(record, "t000-s0")
    record.begin("t001-s0").end("stopped", 1, "asha")
    record.begin("r000", kind="reference", label="noise", seed=None).end("finished", 0)
    for folder in (record.paths.tables, record.paths.report):
        folder.mkdir()
        (folder / "index.html").write_text(folder.name)
    sync = record.sync(store.uri)
    sync.send()
    finish(sync.connect(), sync.paths)
    parent = store.runs()["parent"]
    files = {entry.path for entry in store.client.list_artifacts(parent.info.run_id)}
    assert files == {"sweep.json", "spec.yaml", "environment.json", "summary.json", "tables", "report"}
    assert parent.data.metrics.items() >= {"trials/finished": 1.0, "trials/stopped": 1.0, f"best/{FD}": 1.0}.items()


def test_the_parent_tells_what_each_axis_matters(record: Record, store: Store) -> None:
    record.sweep |= {"axes": ["train.lr", "model.flow.depth"], "family": "diffusion"}
    space = {"train.lr": {"float": [0.0, 1.0]}, "model.flow.depth": {"int": [1, 8]}}
    record.sweep["spec"]["search"] = {"space": space, "seeds": [0]}
    record.paths.sweep_json.write_text(json.dumps(record.sweep))
    for number in range(24):
        lr, depth = (number * 7 % 24) / 24, 1 + number % 8
        point = {"train.lr": lr, "model.flow.depth": depth}
        journal = record.begin(f"t{number:03d}-s0", number=number, config_hash=f"{number:012x}", overrides=point)
        journal.epoch(3, {"train/loss": lr})
        journal.summary({FD: (lr - 0.5) ** 2})
        journal.end("finished", 3)
    sync = record.sync(store.uri)
    sync.send()
    finish(sync.connect(), sync.paths)
    metrics = store.runs()["parent"].data.metrics
    assert metrics["importance/lr"] > 0.8
    assert metrics["importance/lr"] + metrics["importance/depth"] == pytest.approx(1)
