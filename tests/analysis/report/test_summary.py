"""The answer in words: right in both directions, with several objectives, constraints and sweeps."""

from __future__ import annotations

from pathlib import Path

from analysis import load
from analysis.report.summary import answer, summary, values
from tests.analysis.record_factory import DEPTH, FD, SweepFiles

SPACE = {DEPTH: {"int": [1, 6]}}
PSNR, PARAMS = "linearity/collapse_psnr", "cost/params"
QUALITY = "collapsed classifier FD"
"""What ``FD`` is called."""


def behind(text: str) -> str:
    """What stands behind the first sentence."""
    return text[text.index("Of ") :]


def test_the_next_best_of_a_maximised_metric_is_the_next_lower_one(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=SPACE, objective={PSNR: "max"})
    for number, value in enumerate((10.0, 2.0, 5.0)):
        files.finished(number, {DEPTH: 1 + number}, 1.0, **{PSNR: value})
    assert behind(summary(load([files.path]))) == (
        "Of 3 finished configurations t000 is best, with depth = 1, and reaches collapse PSNR (dB) = 10 (higher is "
        "better; one seed); the next best, t002, has 5."
    )


def test_a_trade_of_objectives_says_which_is_best_by_each(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=SPACE, objective={FD: "min", PSNR: "max", PARAMS: "min"})
    for number, (fd, psnr, params) in enumerate([(1.0, 10.0, 300.0), (2.0, 90.0, 300.0), (3.0, 80.0, 400.0)]):
        files.finished(number, {DEPTH: 1 + number}, fd, **{PSNR: psnr, PARAMS: params})
    assert behind(summary(load([files.path]))) == (
        f"Of 3 finished configurations t000 is best by {QUALITY}, the first of 3 objectives, with depth = 1, and "
        f"reaches {QUALITY} = 1 (lower is better; one seed); for collapse PSNR (dB) (higher is better), it has 10, and "
        "t001 is best with 90; for parameters (lower is better), it has 300 and is best; 2 of 3 are on the Pareto "
        f"front of all objectives; the next best by {QUALITY}, t001, has 2."
    )


def test_what_breaks_a_constraint_is_not_the_next_best(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=SPACE, objective={PSNR: "max"}, constraints={PARAMS: "<= 100"})
    for number, (psnr, params) in enumerate([(10.0, 50.0), (40.0, 500.0), (5.0, 60.0)]):
        files.finished(number, {DEPTH: 1 + number}, 1.0, **{PSNR: psnr, PARAMS: params})
    assert summary(load([files.path])).endswith(
        "one seed); t001, which breaks parameters <= 100, would have 40; the next best, t002, has 5."
    )
    files.failed(0, {DEPTH: 1}, "gone")
    only = SweepFiles(tmp_path, "broken", space=SPACE, constraints={PARAMS: "<= 100"})
    only.finished(0, {DEPTH: 1}, 1.0, **{PARAMS: 500.0})
    assert "no configuration meets the constraints, and this one breaks parameters <= 100" in summary(load([only.path]))


def test_every_value_says_its_split_and_its_seeds(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=SPACE)
    for number, value in enumerate((3.0, 1.0)):
        test = {FD.replace("quality/", "test/"): 10 * value}
        files.finished(number, {DEPTH: 1 + number}, value, **test)
    for seed, value in ((7, 2.0), (8, 2.0)):
        files.begin(f"k000-s{seed}", 1, {DEPTH: 2}, kind="confirm", seed=seed)
        files.complete(f"k000-s{seed}", value, **{FD.replace("quality/", "test/"): 40.0})
    record = load([files.path])
    assert answer(record).startswith(
        f"t001 (depth 2) has the best {QUALITY}: 1 on validation, 10 on test, 40 ± 0 on test at 2 fresh seeds. "
    )
    assert (
        "on the test split, which took no part in the choice, it has 10; at 2 fresh seeds it has 40 ± 0 on test, "
        "2 ± 0 on validation;" in values(record)
    )
    assert str(record.counts) == "4 trials: 4 finished"
    files.reference(0, "noise", 9.0)
    assert load([files.path]).counts.trials == 4  # nothing is trained for a reference


def test_the_next_best_of_several_sweeps_is_of_any_of_them(tmp_path: Path) -> None:
    one, two = (SweepFiles(tmp_path, name, space=SPACE) for name in ("one", "two"))
    one.finished(0, {DEPTH: 1}, 2.0)
    two.finished(0, {DEPTH: 2}, 1.0)
    assert summary(load([one.path, two.path])).endswith("(one seed); the next best, one/t000, has 2.")
