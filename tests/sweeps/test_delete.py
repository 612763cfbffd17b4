"""Removing a sweep's record: what would go, a question, and nothing else."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import linsweep as ls
from sweeps.record.paths import SweepPaths
from sweeps.record.removal import removal_of, remove
from sweeps.spec.validation import InputError

Cli = Callable[..., int]
RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sweeps ``before`` and ``cut``, and what they share."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    (tmp_path / "runs" / "cache").mkdir()
    (tmp_path / "runs" / "mlflow.db").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``answer("y")``: somebody is at a terminal, and says so."""

    def say(text: str) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.confirm", lambda question: text == "y")

    return say


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_with_yes_it_goes_whole_and_nothing_else_does(
    run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [path for path in files(runs) if runs / "cut" not in (path, *path.parents)]
    assert run_cli("delete", "cut", "--yes") == 0
    assert files(runs) == others
    out = capsys.readouterr().out
    assert "journals, one per trial" in out
    assert out.splitlines()[-1].startswith("removed runs/cut: ")


def test_what_is_listed_is_what_is_there(runs: Path) -> None:
    found = removal_of(runs / "before")
    assert found.files == sum(path.is_file() for path in files(runs / "before"))
    assert found.size == sum(path.stat().st_size for path in files(runs / "before") if path.is_file())
    assert [entry.name for entry in found.entries] == sorted(path.name for path in (runs / "before").iterdir())
    assert [entry.name for entry in found.entries if not entry.meaning] == []


def test_each_file_is_called_what_it_is(runs: Path) -> None:
    folder = runs / "before"
    for name in ("cache.parquet", "shipped-0123456789ab.json", "error-20261128-101500-7.log"):
        (folder / name).write_text("x")
    (folder / "training").mkdir()
    (folder / "tune" / "empty").mkdir(parents=True)
    found = {entry.name: entry.meaning for entry in removal_of(folder).entries}
    assert found["cache.parquet"] == "a cache of the journals for faster reading"
    assert found["study.log"] == "the search's study in Optuna's format"
    assert found["shipped.json"] == "what MLflow has received"
    assert found["shipped-0123456789ab.json"] == "what another tracking server has received"
    assert found["error-20261128-101500-7.log"] == "the traceback of a launch that failed"
    assert not {"training", "tune"} & set(found)
    remove("before", folder)
    assert not folder.exists()


def test_files_of_ones_own_are_told(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "cut" / "notes.txt").write_text("mine")
    assert run_cli("delete", "cut") == 2
    told = [line for line in capsys.readouterr().out.splitlines() if "notes.txt" in line]
    assert [line.split() for line in told] == [
        ["cut/notes.txt", "1", "file", "4", "bytes", "not", "written", "by", "linsweep"]
    ]


def test_without_a_terminal_it_asks_nobody_and_removes_nothing(
    run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(runs)
    assert run_cli("delete", "cut") == 2
    assert files(runs) == before
    assert capsys.readouterr().err.startswith("cut: cannot ask without a terminal; give --yes to remove runs/cut: ")


def test_a_no_removes_nothing_and_a_yes_does(run_cli: Cli, runs: Path, answer: Callable[[str], None]) -> None:
    before = files(runs)
    answer("n")
    assert run_cli("delete", "cut") == 1
    assert files(runs) == before
    answer("y")
    assert run_cli("delete", "cut") == 0
    assert not (runs / "cut").exists()


def test_what_a_launch_holds_stays(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = SweepPaths(runs / "cut")
    with paths.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = files(runs)
        assert run_cli("delete", "cut", "--yes") == 2
        assert files(runs) == before
    assert capsys.readouterr().err == "cut: name: cut is running already\n"


def test_what_a_trial_of_a_dead_launch_still_writes_stays(runs: Path) -> None:
    before = files(runs)
    with (runs / "cut" / "journal" / "t001-s1.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"still writing .*t001-s1\.jsonl"):
            remove("cut", runs / "cut")
    assert [path for path in files(runs) if path.name != "launch.lock"] == before


def test_what_was_cut_short_can_be_done_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rmtree = shutil.rmtree

    def fail(path: Path) -> None:
        if path.name == "journal":
            raise PermissionError(13, "Permission denied", str(path))
        rmtree(path)

    monkeypatch.setattr("sweeps.record.removal.shutil.rmtree", fail)
    with pytest.raises(PermissionError):
        ls.delete("cut")
    assert (runs / "cut" / "sweep.json").exists()
    monkeypatch.undo()
    assert ls.delete(runs / "cut").done
    assert not (runs / "cut").exists()


def test_a_folder_elsewhere_that_is_linked_to_goes_with_its_link(runs: Path, tmp_path: Path) -> None:
    (runs / "cut").rename(tmp_path / "disk")
    (runs / "cut").symlink_to(tmp_path / "disk")
    outside = tmp_path / "checkpoint"
    outside.touch()
    (tmp_path / "disk" / "artifacts" / "link").symlink_to(outside)
    ls.delete("cut")
    assert not (runs / "cut").is_symlink()
    assert not (tmp_path / "disk").exists()
    assert outside.exists()


def test_a_sweep_that_is_not_there(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("delete", "cat", "--yes") == 2
    assert capsys.readouterr().err == "cat: no sweep of this name in runs; did you mean cut?\n"
