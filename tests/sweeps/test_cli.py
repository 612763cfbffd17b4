"""The command line, run in this process."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis
from sweeps.record.ledger import Ledger, Spent
from sweeps.record.lookup import find_sweep
from sweeps.search.growth import growth_of
from sweeps.spec.load import load
from sweeps.spec.model import Sweep, json_schema
from sweeps.spec.validation import InputError
from tests.sweeps.conftest import record_of

Cli = Callable[..., int]
FD = "quality/classifier_fd_collapsed"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def sweep_folder(storage: Path, name: str) -> Path:
    folder = storage / name
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text("{}")
    return folder


# Sweeps by name


def test_a_sweep_is_found_by_name_and_by_folder(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "runs", "demo")
    assert find_sweep("demo", tmp_path / "runs") == folder
    assert find_sweep(str(folder), Path("elsewhere")) == folder


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], "{storage} has no sweeps; launch one or give --storage"),
        (["demo", "other"], "did you mean demo?"),
        (["aaa", "bbb"], "known: aaa, bbb"),
    ],
)
def test_a_sweep_that_is_not_there(tmp_path: Path, known: list[str], said: str) -> None:
    storage = tmp_path / "runs"
    for name in known:
        sweep_folder(storage, name)
    (storage / "cache").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        find_sweep("demmo", storage)
    assert str(caught.value) == f"demmo: no sweep of this name in {storage}; {said.format(storage=storage)}"


@pytest.mark.parametrize("command", ["table", "sync"])
def test_an_unknown_sweep_is_wrong_input(run_cli: Cli, capsys: pytest.CaptureFixture[str], command: str) -> None:
    sweep_folder(Path("runs"), "demo")
    assert run_cli(command, "demmo") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "demmo: no sweep of this name in runs; did you mean demo?\n")


def test_the_ui_needs_a_database(run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("ui") == 2
    assert capsys.readouterr() == ("", "runs: has no mlflow.db; launch a sweep first\n")


@pytest.mark.parametrize("arguments", [("ui", "--port", "0"), ("plan",), ("plan", "x", "--sett", "a=b"), ("plann",)])
def test_wrong_usage_is_wrong_input(run_cli: Cli, arguments: tuple[str, ...]) -> None:
    assert run_cli(*arguments) == 2


def test_without_a_command_there_is_help(run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--help") == 0
    text = capsys.readouterr().out
    assert [name for name in ("plan", "launch", "table", "sync", "ui", "schema") if name not in text] == []


def test_schema(run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("schema") == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


# Plans


def test_a_plan_writes_nothing(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], spec_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = spec_file()
    assert run_cli("plan", path.name, "--set", "search.trials=4") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "tpe, 4 configurations × 1 seed (0)" in out
    assert f"Nothing was started. Next: linsweep launch {path.name} --set search.trials=4" in out
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_next_command_can_be_pasted(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], spec_file: Callable[..., Path]
) -> None:
    arguments = [
        spec_file().name,
        "--set",
        "search.space.train.lr={float: [0.002, 0.003]}",
        "--set",
        "search.seeds=[0]",
    ]
    assert run_cli("plan", *arguments) == 0
    _, _, command = capsys.readouterr().out.partition("Next: ")
    assert shlex.split(command) == ["linsweep", "launch", *arguments]


def test_a_plan_that_nothing_can_carry_out(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], spec_file: Callable[..., Path]
) -> None:
    assert run_cli("plan", spec_file().name, "--set", "resources.cpus_per_worker=100000") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("spec.yaml: resources: a trial needs 100000 CPUs; this machine has ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search.trials=20", None),
        ("budget.hours=1", None),
        ("tracking.experiment=other", None),
        ("resources.cpus_per_worker=1", None),
        ("labels={classifier_fd: FD}", None),
        ("search.seeds=[0, 1]", None),
        ("train.lr=0.125", None),  # which is searched
        ("train.sigma=0.125", "train.sigma: 0.3 → 0.125"),
        ("search.seed=1", "search.seed: 0 → 1"),
    ],
)
def test_a_folder_that_holds_another_sweep_is_refused(sweep: Callable[..., Sweep], text: str, said: str | None) -> None:
    before = sweep()
    assert growth_of(before).new == before.trials
    before.folder.mkdir(parents=True)
    (before.folder / "sweep.json").write_text(record_of(before))
    now = sweep(sets=[text])
    if said is None:
        assert growth_of(now).new == now.trials
        return
    with pytest.raises(InputError) as caught:
        growth_of(now)
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(f"name: runs/demo holds a sweep of this name with another spec ({said}); its trials ")
    assert problem.endswith("choose another name (--set name=…), or remove that folder")


# Sync


def test_sync_sends_what_is_missing_and_closes_the_sweep(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], record: Any, new_store: Callable[[str], Any], tmp_path: Path
) -> None:
    journal = record.begin()
    journal.summary({FD: 1.0})
    journal.end("finished", 0)
    store = new_store("runs/mlflow")
    for sent in (3, 0):
        assert run_cli("sync", "demo") == 0
        assert capsys.readouterr().out == f"demo: {sent} events sent to {store.uri}\n"
    assert set(store.runs()) == {"parent", "t000-s0"}
    other = new_store("other")
    assert run_cli("sync", "demo", "--to", other.uri) == 0
    assert set(other.runs()) == {"parent", "t000-s0"}
    # The sweep is over, and so says its run.
    assert other.runs()["parent"].info.status == "FINISHED"


def test_mlflow_is_told_of_a_launch_that_died(
    run_cli: Cli, record: Any, new_store: Callable[[str], Any], tmp_path: Path
) -> None:
    """As ``status`` and tables say it, until the sweep goes on."""
    record.begin().epoch(1, {FD: 1.0})
    record.sweep |= {"state": "running", "ended": None, "reason": None}
    record.paths.sweep_json.write_text(json.dumps(record.sweep))
    Ledger(record.paths, [Spent(1_700_000_000.0, 1_700_000_050.0)]).write()
    store = new_store("runs/mlflow")
    assert run_cli("sync", "demo") == 0
    parent = store.runs()["parent"]
    assert (parent.info.status, parent.data.tags["sweep.state"]) == ("KILLED", "interrupted")
    assert parent.info.end_time == 1_700_000_050_000
    sweeps = [analysis.load(source).sweep("demo") for source in (store.uri, record.paths.root)]
    assert [(sweep.state, sweep.document["reason"]) for sweep in sweeps] == [("interrupted", "its launch died")] * 2
    assert json.loads(record.paths.sweep_json.read_text()) == record.sweep
    sync = record.sync(store.uri)
    sync.sweep = record.sweep | {"spec": sync.sweep["spec"]}
    sync.connect()  # as the next launch does
    assert store.runs()["parent"].info.status == "RUNNING"


def test_a_server_that_is_away_is_told_in_one_line(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], record: Any
) -> None:
    record.begin()
    assert run_cli("sync", "demo", "--to", "http://ann:s3cret@127.0.0.1:1") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("http://127.0.0.1:1: ")
    assert len(err.splitlines()) == 1
    assert "s3cret" not in err


@pytest.mark.parametrize("command", [("plan", "quickstart"), ("launch", "quickstart"), ("sync", "quickstart")])
def test_a_broken_sweep_json_is_named(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "runs" / "quickstart" / "sweep.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "quickst')
    assert run_cli(*command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "sweep.json: is not a sweep's record" in err
    assert path.read_text() == '{"name": "quickst'
    assert [file.name for file in path.parent.iterdir() if file.name != "launch.lock"] == ["sweep.json"]


def test_fewer_trials_than_were_launched_are_refused(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "runs" / "quickstart" / "sweep.json"
    path.parent.mkdir(parents=True)
    path.write_text(record_of(load("quickstart")))
    assert run_cli("plan", "quickstart", "--set", "search.trials=3") == 2
    assert "search.trials: quickstart was launched with 18; the number can only grow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("storage=spec.txt/runs", "storage: must be a folder, "),
        ("storage=ftp://host/runs", "storage: must be a folder that all nodes can reach"),
        ("tracking.uri=mlflow.example", "tracking.uri: must begin with one of http://, https://, sqlite:///"),
    ],
)
def test_places_that_cannot_be_used_are_refused_by_plan(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path, value: str, said: str
) -> None:
    (tmp_path / "spec.txt").write_text("")
    assert run_cli("plan", "quickstart", "--set", value) == 2
    assert said in capsys.readouterr().err


def test_a_taken_port_is_told_before_anything_starts(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], record: Any, new_store: Callable[[str], Any]
) -> None:
    new_store("runs/mlflow")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_cli("ui", "--port", str(port)) == 2
    assert f"--port: {port} is not available: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["spec.yaml", "-spec.yaml"])
def test_a_supervised_launch_is_given_what_the_command_was(
    run_cli: Cli, spec_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec_file().rename(name)
    given: list[list[str]] = []
    monkeypatch.setattr("sweeps.supervise.supervise", lambda words, *_: given.append(words) or 0)
    assert run_cli("supervise", "--fresh", "--set", "search.trials=4", "--", name) == 0
    taken: list[tuple[str, bool, list[str] | None]] = []
    monkeypatch.setattr(
        "sweeps.cli.running._carry_out",
        lambda sweep, address, cluster, fresh, debug: taken.append((sweep.source, fresh, sweep.search.trials)),
    )
    assert run_cli("launch", *given[0]) == 0
    assert taken == [(name, True, 4)]
