"""The sweeps of a storage folder, a line each."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import linsweep as ls
from linearizer_core.experiment.journal import Journal
from sweeps.listing import listing
from sweeps.record.paths import SweepPaths
from sweeps.status import status_of

Cli = Callable[..., int]
RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sweeps ``before``, which finished, and ``cut``, whose launch died."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def rows(text: str) -> dict[str, str]:
    """The first word of each line, and the rest of it."""
    return {words[0]: " ".join(words[1:]) for line in text.splitlines() if (words := line.split())}


def test_the_last_begun_first_with_their_best(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("list") == 0
    found = rows(capsys.readouterr().out)
    assert list(found) == ["sweep", "cut", "before"]
    # Of a sweep without a best yet, the best so far: the configuration whose seeds have all finished.
    assert found["cut"].startswith("interrupted 5 of 13 t000 swd_collapsed = 0.2269")
    assert found["before"].startswith("finished 13 of 13 t000 swd_collapsed = 0.2269")


def test_a_renamed_folder_is_listed_by_the_name_that_commands_take(
    run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "before").rename(runs / "kept")
    assert run_cli("list") == 0
    assert "kept" in rows(capsys.readouterr().out)


def test_a_home_folder_is_spelt_out(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(runs.parent))
    monkeypatch.chdir("/")
    assert [each.sweep.name for each in ls.list("~/runs").sweeps] == ["cut", "before"]
    assert len(list(ls.logs("cut/t001-s1", storage="~/runs"))) == 3


def test_a_broken_sweep_does_not_hide_the_others(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "before" / "sweep.json").write_text("{")
    assert run_cli("list") == 2
    said = capsys.readouterr()
    assert list(rows(said.out)) == ["sweep", "cut"]
    assert said.err.startswith("runs/before/sweep.json: is not a sweep's record")
    assert [*listing(runs).unreadable] == ["before"]


def test_an_empty_folder_says_what_to_do_and_a_missing_one_is_wrong_input(
    run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli("list") == 2
    assert capsys.readouterr() == ("", "runs: is not a folder; launch a sweep or give --storage\n")
    (tmp_path / "runs").mkdir()
    assert run_cli("list") == 0
    assert capsys.readouterr().out.rstrip() == "runs holds no sweep; to run a first one: linsweep launch quickstart"


def test_what_was_interrupted_waits_while_a_launch_is_up(runs: Path) -> None:
    paths = SweepPaths(runs / "cut")
    Journal(paths.journal("t001-s1")).end("interrupted", 2, "RuntimeError: no memory")
    assert status_of(paths.root).trials == {"finished": 5, "interrupted": 1}
    with paths.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert status_of(paths.root).trials == {"finished": 5, "waiting": 1}


def test_nothing_is_best_while_nobody_has_the_objective(runs: Path) -> None:
    path = runs / "cut" / "sweep.json"
    record = json.loads(path.read_text())
    objective = {"quality/recall_collapsed": "max"}
    path.write_text(json.dumps(record | {"objective": objective}))
    assert status_of(runs / "cut").best is None
