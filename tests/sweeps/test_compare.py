"""Trials and sweeps side by side, on the command line."""

from __future__ import annotations

import json
import math
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
FD, TEST = "quality/classifier_fd_collapsed", "test/classifier_fd_collapsed"


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
    assert "1 other key is the same" in out
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
                exact = {"linearity/penrose_1": 6.81e-07 + 1e-9 * number, "quality/swd_k4": value / 2}
                journal.summary({FD: value, TEST: value / 3, **more, **exact})
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
    assert list(found).index(FD) + 1 == list(found).index(TEST)
    hidden = {"cost/params", "spectrum/condition", "quality/swd_k4", "linearity/penrose_1"}
    assert not hidden & set(found)
    assert "more metrics: 2 different, 2 the same up to rounding; --all shows them" in out
    assert (
        "corrected among the 2 main metrics (Holm), so that one can be undecided although 0 lies outside"
        in " ".join(out.split())
    )
    assert run_cli("compare", "demo/t000", "demo/t001", "--all") == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert found["cost/params"] == ["7", "7", "+0", "(+0.0%)"]
    assert found["spectrum/condition"][-1] == f"{half:.2g}"  # neither way is better: no verdict
    assert found["quality/swd_k4"][-1] == "better"
    assert found["linearity/penrose_1"] == ["6.81e-07", "6.82e-07", "+1e-09", "(+0.1%)"]  # rounding: no verdict
    assert "no verdict where the difference is rounding in float32" in out
    assert "more metrics" not in out


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


def test_other_metrics_than_the_objective_are_corrected_for_how_many_are_shown(seeded: Record) -> None:
    contrasts = ls.compare("demo/t000", "demo/t001").contrasts
    gaps = np.array([-1.0, -1.1, -0.9, -1.0, -1.1])
    p = stats.ttest_1samp(gaps, 0).pvalue
    assert contrasts[FD][0].p == pytest.approx(p)
    # The PSNR falls by the same at every seed, p = 0, so this one is the last of the two that are shown.
    assert contrasts["linearity/collapse_psnr"][0].p == 0
    assert contrasts[TEST][0].p == pytest.approx(p, rel=1e-6)
    assert contrasts["quality/swd_k4"][0].p == pytest.approx(p, rel=1e-6)  # shown with --all: a family of its own
    for same in ("cost/params", "linearity/penrose_1"):  # the same, or so up to rounding: nothing to test
        assert contrasts[same][0].p is None
        assert contrasts[same][0].verdict == ""
    assert contrasts["spectrum/condition"][0].p is None  # neither way is better
    assert contrasts["spectrum/condition"][0].verdict == ""


def test_the_correction_is_holms_over_the_main_metrics(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.paths.storage.parent)
    shifts = np.array([0.5, 0.4, 1.1, 1.5])
    noise = np.random.default_rng(3).normal(size=(2, 4, 6))
    keys = [FD, TEST, "quality/recall_collapsed", "cost/train_seconds"]
    write_seeds(record, 0, [dict(zip(keys, row, strict=True)) for row in noise[0].T])
    write_seeds(record, 1, [dict(zip(keys, row, strict=True)) for row in (noise[1].T + shifts)])
    contrasts = ls.compare("demo/t000", "demo/t001").contrasts
    raw = [stats.ttest_rel(noise[1][i] + shift, noise[0][i]).pvalue for i, shift in enumerate(shifts)]
    assert contrasts[FD][0].p == pytest.approx(raw[0])
    order = np.argsort(raw[1:])
    expected = np.maximum.accumulate(np.array(raw[1:])[order] * [3, 2, 1]).clip(max=1)
    assert [contrasts[keys[1 + i]][0].p for i in order] == pytest.approx(expected.tolist())


def write_seeds(record: Record, number: int, seeds: list[dict[str, float]], **more: Any) -> None:
    """The finished trials of a configuration, with the metrics of each seed."""
    for seed, metrics in enumerate(seeds):
        identity = TrialIdentity("demo", f"t{number:03d}-s{seed}", "search", None, number, f"{number:012x}", seed)
        journal = Journal(record.paths.journal(identity.trial))
        journal.trial(identity, {"model": {"flow": {"depth": 2 + number}}, "seed": seed, **more}, {})
        journal.summary(metrics)
        journal.end("finished", 3)


def test_a_score_that_repeats_another_is_shown_once(
    run_cli: Cli, record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(record.paths.storage.parent)
    monkeypatch.setenv("COLUMNS", "200")
    split = {"quality/recall_collapsed": 0.5, "quality/recall_sampled": 0.5, "test/recall_collapsed": 0.4}
    for number in (0, 1):
        values = {FD: 9.0 - number, FD.replace("collapsed", "sampled"): 9.0 - number}
        recall = {key: value + 0.1 * number for key, value in split.items()}
        write_seeds(record, number, [{**values, **recall, "test/recall_sampled": 0.3}])
    assert run_cli("compare", "demo/t000", "demo/t001", "--all") == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert {key for key in found if "/" in key and not key.startswith("demo")} == {
        FD, "quality/recall_collapsed", "test/recall_collapsed", "test/recall_sampled",
    }  # fmt: skip
    assert "left out, the same as …_collapsed: quality/classifier_fd_sampled, quality/recall_sampled" in out


def test_what_was_not_measured_is_a_dash(
    run_cli: Cli, record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(record.paths.storage.parent)
    never, once = "quality/classifier_fd_infinite", "test/classifier_fd_infinite"
    write_seeds(record, 0, [{FD: 9.0, never: math.nan, once: math.nan}])
    write_seeds(record, 1, [{FD: 8.0, never: math.nan, once: 3.0}])
    for more in ([], ["--all"]):
        assert run_cli("compare", "demo/t000", "demo/t001", *more) == 0
        out = capsys.readouterr().out
        assert never not in out
        assert rows(out)[once] == ["–", "3"]


def test_what_a_sweep_maximises_is_better_when_higher(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.paths.storage.parent)
    goals = {"objective": {"reward": "max"}, "directions": {"liveliness": "max"}}
    record.paths.sweep_json.write_text(json.dumps(record.sweep | goals))
    for number in (0, 1):
        write_seeds(record, number, [{"reward": 1.0 + number, "quality/liveliness_sampled": 2.0 + number}])
    found = ls.compare("demo/t000", "demo/t001")
    assert found.main == ["reward", "quality/liveliness_sampled"]
    assert [found.contrasts[key][0].verdict for key in found.main] == ["(better)", "(better)"]


def test_of_a_reference_only_metrics_are_compared(
    run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = TrialIdentity("demo", "r000", "reference", "noise", 0, "reference", None)
    journal = Journal(trials.paths.journal("r000"))
    journal.trial(identity, {"data": {"name": "digits"}}, {})
    journal.summary({FD: 99.0})
    journal.end("finished", 0)
    assert run_cli("compare", "demo/t000-s0", "demo/r000") == 0
    out = capsys.readouterr().out
    assert "demo/r000 is a reference and has no configuration; only metrics are compared" in out
    assert rows(out)[FD] == ["10", "99", "+89", "(+890.0%)", "(worse)"]
    assert not {"model.flow.depth", "data.name"} & set(rows(out))
    assert run_cli("compare", "demo/t000-s0", "demo/t001-s0", "demo/r000") == 0
    assert rows(capsys.readouterr().out)["model.flow.depth"] == ["2", "4", "–"]


def test_a_configuration_alone_is_compared_with_the_best(
    run_cli: Cli, trials: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    trials.paths.sweep_json.write_text(json.dumps(trials.sweep | {"best": ["t001-s0"]}))
    for name in ("demo/t000", "demo/t000-s0"):
        assert run_cli("compare", name) == 0
        out = capsys.readouterr().out
        assert f"only {name} was named; demo/t001 is the best configuration of its sweep" in out
        assert rows(out)[FD] == ["8", "10", "+2", "(+25.0%)", "(worse)"]
    for name, said in (("demo/t001", "is the best"), ("demo/t001-s0", "belongs to t001, the best")):
        assert run_cli("compare", name) == 2
        said = f"{name}: {said} configuration of demo; add a second name to compare it with\n"
        assert capsys.readouterr().err == said


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
        (["demo/t000-s0"], "demo/t000-s0: is named alone, and demo has no best configuration yet to compare it with"),
        (["demo"], "demo: needs at least two names to compare; alone, a configuration such as demo/t001 is enough"),
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
