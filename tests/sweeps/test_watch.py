"""``status --watch``: drawn again until the sweep has ended."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console
from rich.text import Text

from linearizer_core.experiment.journal import Journal
from sweeps.cli.statuses import read_all, shown
from sweeps.cli.watch import Look, watch
from sweeps.record.paths import SweepPaths
from sweeps.status import OpenTrial, status_of

Cli = Callable[..., int]
RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    """A sweep of which one trial has not ended."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return SweepPaths(tmp_path / "runs" / "cut")


class Looks:
    """Gives one look after the other."""

    def __init__(self, *looks: Look) -> None:
        self._rest = list(looks)

    def __call__(self) -> Look:
        return self._rest.pop(0)


def test_into_a_pipe_each_news_is_said_once(tmp_path: Path) -> None:
    looks = [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3)]
    with (tmp_path / "out").open("w") as file:
        watch(Looks(*(Look(Text(text), news, news == 3) for text, news in looks)), Console(file=file), period=0.0)
    assert (tmp_path / "out").read_text().split() == ["a", "c", "e"]


def test_on_a_terminal_it_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    outer, inner = os.openpty()
    with os.fdopen(inner, "w") as file:
        console = Console(file=file, force_terminal=True)
        watch(Looks(*(Look(Text(text), text, text == "last") for text in ("first", "last"))), console, period=0.0)
        drawn = ""
        while "last" not in drawn:
            drawn += os.read(outer, 1 << 16).decode()
    os.close(outer)
    # The first look is erased before the second is drawn.
    assert "\x1b[2K" in drawn[drawn.index("first") : drawn.index("last")]


def test_what_runs_is_shown_with_its_epoch(cut: SweepPaths) -> None:
    (idle,) = status_of(cut.root).open
    assert (idle.trial, idle.state) == ("t001-s1", "interrupted")
    console = Console(width=160, file=(cut.storage / "out").open("w"))
    with cut.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (open_trial,) = status_of(cut.root).open
        assert open_trial == OpenTrial("t001-s1", "running", 2, 4, pytest.approx(0.2502, abs=1e-4))
        look = shown(read_all(["cut"], cut.storage))
        console.print(look.shown)
    assert not look.over
    console.file.close()
    assert "epoch 2 of 4  swd_collapsed 0.2502" in (cut.storage / "out").read_text()
    assert shown(read_all(["cut"], cut.storage)).over


def test_a_further_epoch_is_news_and_time_alone_is_not(cut: SweepPaths) -> None:
    def news() -> object:
        return shown(read_all(["cut"], cut.storage)).news

    before = news()
    assert news() == before
    Journal(cut.journal("t001-s1")).epoch(3, {})
    assert news() != before


def test_it_ends_with_the_sweep(cut: SweepPaths, run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    lock: IO[str] = cut.lock.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    journal = Journal(cut.journal("t001-s1"))
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1:
            journal.epoch(3, {})
        else:
            journal.summary({})
            journal.end("finished", 4)
            lock.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.cli.watch.time.sleep", sleep)
        assert run_cli("status", "cut", "--watch") == 0
    said = capsys.readouterr().out
    assert [said.count(text) for text in ("epoch 2 of 4", "epoch 3 of 4", "6 of 13 ended (6 finished)")] == [1, 1, 1]
    assert min(sleeps) >= 2


def test_no_document_is_watched(cut: SweepPaths, run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("status", "cut", "--watch", "--json") == 2
    assert capsys.readouterr() == ("", "--json: prints one document, which --watch never ends; give only one\n")


def test_a_sweep_that_goes_away_is_told(cut: SweepPaths, run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(cut.root)
    assert run_cli("status", "before", "cut", "--watch") == 2
    said = capsys.readouterr()
    assert "13 of 13 ended" in said.out
    assert said.err.startswith("cut: no sweep of this name in runs")
