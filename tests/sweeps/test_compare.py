"""Trials and sweeps side by side, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import linsweep as ls
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
    assert found[FD] == ["10", "8", "-2", "(-20.0%)", "(better)"]
    assert found["cost/params"] == ["200", "400", "+200", "(+100.0%)", "(worse)"]
    assert "(better), (worse): too few seeds to test" in out


def test_three_trials_one_of_which_runs(run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]) -> None:
    with only_launch("demo", trials.paths):
        assert run_cli("compare", "demo/t000-s0", "demo/t001-s0", "runs/demo/t002-s0") == 0
    found = rows(capsys.readouterr().out)
    assert found["state"] == ["finished", "finished", "running"]
    assert run_cli("compare", "demo/t000-s0", "demo/t002-s0") == 0
    assert rows(capsys.readouterr().out)["state"] == ["finished", "interrupted"]
    assert found["model.flow.depth"] == ["2", "4", "8"]
    assert found[FD] == ["10", "8", "(better)", "–"]


def test_sweeps_by_their_best(run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]) -> None:
    for name, best, epochs in (("demo", ["t000-s0"], 3), ("other", None, 9)):
        folder = trials.paths.storage / name
        folder.mkdir(exist_ok=True)
        sweep = trials.sweep | {"name": name, "best": best, "spec": {"name": name, "train": {"epochs": epochs}}}
        (folder / "sweep.json").write_text(json.dumps(sweep))
    assert run_cli("compare", "demo", "other") == 0
    found = rows(capsys.readouterr().out)
    assert found["train.epochs"] == ["3", "9"]
    assert found[FD] == ["10", "–"]
    assert found["cost/params"] == ["200", "–"]


@pytest.fixture
def seeded(record: Record, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Three configurations of five seeds; the third has no seed in common with the others, and one that runs."""
    monkeypatch.chdir(record.paths.storage.parent)
    values = {0: [10.0, 11.0, 12.0, 13.0, 14.0], 1: [9.0, 9.9, 11.1, 12.0, 12.9], 2: [10.5, 13.0, 11.0, 12.5, None]}
    for number, row in values.items():
        for place, value in enumerate(row):
            seed = place + 10 * (number == 2)
            identity = TrialIdentity("demo", f"t{number:03d}-s{seed}", "search", None, number, f"{number:012x}", seed)
            journal = Journal(record.paths.journal(identity.trial))
            journal.trial(identity, {"model": {"flow": {"depth": 2 + number}}, "seed": seed}, {})
            if value is not None:
                psnr = 40.0 + [0, 3, 1, 4, 1][place] - (number == 1)
                more = {"linearity/collapse_psnr": psnr, "cost/params": 7.0, "spectrum/condition": value}
                journal.summary({FD: value, "test/swd_collapsed": value / 3, **more})
                journal.end("finished", 3)
    return record


def test_configurations_are_compared_over_their_seeds(
    run_cli: Cli, seeded: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_cli("compare", "demo/t000", "demo/t001") == 0
    out = capsys.readouterr().out
    found = rows(out)
    gaps = np.array([-1.0, -1.1, -0.9, -1.0, -1.1])
    half = stats.t.ppf(0.975, 4) * gaps.std(ddof=1) / 5**0.5
    assert found["model.flow.depth"] == ["2", "3"]
    low = stats.binomtest(5, 5).proportion_ci(method="wilson").low
    assert " ".join(found[FD]) == f"12 ± 2 (5) 10.98 ± 1.9 (5) -1.02 ± {half:.2g} 1.00 [{low:.2f}, 1.00] better"
    assert found["linearity/collapse_psnr"][-1] == "worse"  # the higher the better
    assert found["spectrum/condition"][-1] == f"{half:.2g}"  # neither way is better: no verdict
    assert "cost/params" not in found
    assert "1 other metric is identical to the last digit; --all shows them" in out
    assert run_cli("compare", "demo/t000", "demo/t001", "--all") == 0
    assert rows(capsys.readouterr().out)["cost/params"][:4] == ["7", "7", "+0", "(+0.0%)"]


def test_without_common_seeds_groups_are_compared(seeded: Record) -> None:
    both = ls.compare("demo/t000", "demo/t002")
    assert both.sides[1].state == "4 of 5 finished"
    (found,) = both.contrasts[FD]
    a, b = [10.0, 11.0, 12.0, 13.0, 14.0], [10.5, 13.0, 11.0, 12.5]
    assert found is not None
    assert not found.paired
    assert found.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert found.better is not None
    assert found.better.mean == pytest.approx(stats.mannwhitneyu(a, b).statistic / 20)
    assert found.verdict == "undecided"


def test_other_metrics_than_the_objective_are_corrected_for_how_many_they_are(seeded: Record) -> None:
    contrasts = ls.compare("demo/t000", "demo/t001").contrasts
    gaps = np.array([-1.0, -1.1, -0.9, -1.0, -1.1])
    p = stats.ttest_1samp(gaps, 0).pvalue
    assert contrasts[FD][0].p == pytest.approx(p)
    # Of the size, the same in all, p is 1; the other two are corrected for three.
    assert contrasts["test/swd_collapsed"][0].p == pytest.approx(2 * p, rel=1e-6)
    assert contrasts["spectrum/condition"][0].p is None  # neither way is better
    assert contrasts["spectrum/condition"][0].verdict == ""


def test_three_configurations_are_told_against_the_first(
    run_cli: Cli, seeded: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_cli("compare", "demo/t001", "demo/t000", "demo/t002") == 0
    found = rows(capsys.readouterr().out)
    assert [word for word in found[FD] if word in ("better", "worse", "undecided")] == ["worse", "undecided"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["demo/t000-s0"], "demo/t000-s0: needs at least two names to compare"),
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
