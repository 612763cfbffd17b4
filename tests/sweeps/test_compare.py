"""Trials and sweeps side by side, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment.journal import Journal, TrialIdentity
from sweeps.record.writers import only_launch

Cli = Callable[..., int]
Record = Any
FD = "quality/classifier_fd_collapsed"


@pytest.fixture
def trials(record: Record, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Three trials of one sweep, the last without metrics."""
    monkeypatch.chdir(record.paths.storage.parent)
    for number, (depth, value) in enumerate([(2, 10.0), (4, 8.0), (8, None)]):
        identity = TrialIdentity("demo", f"t{number:03d}-s0", "search", None, number, f"{number:012x}", 0)
        journal = Journal(record.paths.journal(identity.trial))
        journal.trial(identity, {"model": {"flow": {"depth": depth}}, "train": {"epochs": 3}}, {})
        if value is not None:
            journal.summary({FD: value, "cost/params": 100.0 * depth})
            journal.end("finished", 3)
    return record


def rows(text: str) -> dict[str, list[str]]:
    """First word of each line to the others."""
    return {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}


def test_two_trials_with_their_difference(run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("compare", "demo/t000-s0", "demo/t001-s0") == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert found["configuration"] == ["demo/t000-s0", "demo/t001-s0"]
    assert found["model.flow.depth"] == ["2", "4"]
    assert "train.epochs" not in found
    assert "1 other leaves are the same" in out
    assert found[FD] == ["10", "8", "-2", "(-20.0%)"]
    assert found["cost/params"] == ["200", "400", "+200", "(+100.0%)"]


def test_three_trials_one_of_which_runs(run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]) -> None:
    with only_launch("demo", trials.paths):
        assert run_cli("compare", "demo/t000-s0", "demo/t001-s0", "runs/demo/t002-s0") == 0
    found = rows(capsys.readouterr().out)
    assert found["state"] == ["finished", "finished", "running"]
    assert run_cli("compare", "demo/t000-s0", "demo/t002-s0") == 0
    assert rows(capsys.readouterr().out)["state"] == ["finished", "interrupted"]
    assert found["model.flow.depth"] == ["2", "4", "8"]
    assert found[FD] == ["10", "8", "–"]


def test_sweeps_by_their_best(run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]) -> None:
    for name, best, epochs in (("demo", ["t000-s0", "t001-s0"], 3), ("other", None, 9)):
        folder = trials.paths.storage / name
        folder.mkdir(exist_ok=True)
        sweep = trials.sweep | {"name": name, "best": best, "spec": {"name": name, "train": {"epochs": epochs}}}
        (folder / "sweep.json").write_text(json.dumps(sweep))
    assert run_cli("compare", "demo", "other") == 0
    found = rows(capsys.readouterr().out)
    assert found["train.epochs"] == ["3", "9"]
    assert found[FD] == ["9", "–"]
    assert found["cost/params"] == ["300", "–"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["demo/t000-s0"], "demo/t000-s0: give something to compare it with"),
        (["demo/t000-s0", "demo/t009-s0"], "demo/t009-s0: no trial t009-s0 in runs/demo; did you mean t00"),
        (["demo", "demmo/t000-s0"], "demmo: no sweep of this name in runs; did you mean demo?"),
    ],
)
def test_what_cannot_be_compared_is_named(
    run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str], names: list[str], said: str
) -> None:
    assert run_cli("compare", *names) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)


def test_a_sweep_is_promoted_by_trial(run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("promote", "demo") == 2
    assert capsys.readouterr().err == "demo: give the sweep and the trial, as SWEEP/TRIAL\n"
    assert run_cli("promote", str(Path("runs") / "demo" / "t000-s0")) == 2
    assert capsys.readouterr().err.startswith("demo/t000-s0: has no checkpoint")
