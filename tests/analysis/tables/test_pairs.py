"""The effect of one axis against another, and the tests behind it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis import (
    Column,
    RecordError,
    configurations,
    load,
    marginal,
    pivot,
)
from analysis.configuration.margin import margin_of
from analysis.tables.pairs import comparisons
from tests.analysis.record_factory import DEPTH, FD, RANK, SweepFiles, frame_of, point
from tests.analysis.tables.ablations import CELLS, cells_of, gridded, half_width, small


def test_pivot_is_a_grid_of_means(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(2, 8), 10.0)
    files.finished(1, point(2, 8, lr=1e-3), 14.0)
    files.finished(2, point(3, 8), 3.0)
    files.finished(3, point(3, 16), 5.0)
    files.failed(4, point(2, 16), "out of memory")
    files.finished(5, point(4, 16), 6.0)
    table = pivot(load([files.path]), DEPTH, RANK)
    assert (
        table.to_markdown()
        == """\
### demo: mean collapsed classifier FD by depth (rows) and rank (columns)

| depth / rank |           8 |       16 |
| ------------ | ----------: | -------: |
| 2            | 12 ± 25 (2) | – failed |
| 3            |   **3 (1)** |    5 (1) |
| 4            |           – |    6 (1) |

- ±: half width of the 95 % confidence interval over configurations (Student t).
- In brackets: the number of configurations in the mean.
- Bold: the best mean. Not tested: no two cells have two configurations each to compare.
- Failed and left out: 1 of 6 trials: t004-s0 (out of memory).
"""
    )
    width = half_width([10.0, 14.0])
    assert table.to_csv() == (
        f"{DEPTH},{RANK} = 8,{RANK} = 8 ci95,{RANK} = 8 n,{RANK} = 16,{RANK} = 16 n,{RANK} = 16 note\n"
        f"2,12.0,{width!r},2,,0,failed 0/1\n3,3.0,,1,5.0,1,\n4,,,,6.0,1,\n"
    )


def test_what_is_not_told_from_the_best_is_marked_by_paired_tests(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    cells = cells_of(pivot(record, DEPTH, RANK))
    assert [(name, cell.bold, cell.marker) for name, cell in cells.items()] == [
        ("1 4", True, ""), ("1 8", False, "~"), ("2 4", False, ""), ("2 8", False, ""),
    ]  # fmt: skip
    values = record.runs.pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    for depth, rank in CELLS:
        cell, column = cells[f"{depth} {rank}"], values[depth, rank]
        assert (cell.value, cell.count) == (pytest.approx(column.mean()), 6)
        assert cell.half_width == pytest.approx(half_width(column.tolist()))
    # Over the seeds alone, whose shifts are wide, nothing would be told from the best but the last.
    assert stats.ttest_ind(values[1, 4], values[2, 4]).pvalue < 0.05 / 6
    note = "~: undecided (neither different from it nor equal). Tested by the paired t over common seeds, with Holm's"
    assert any(note in text for text in pivot(record, DEPTH, RANK).notes)


def test_equal_is_what_two_one_sided_tests_show_within_a_margin(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    values = record.runs.pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    gaps = values[1, 8] - values[1, 4]
    # The margin at which the corrected test is at its level: a little more shows that they are equal, less does not.
    reach = stats.t.ppf(1 - 0.05 / 6, len(gaps) - 1) * gaps.std() / math.sqrt(len(gaps))
    margin = abs(gaps.mean()) + reach
    for share, marker, verdict in ((1.01, "≈", "equal"), (0.99, "~", "undecided")):
        assert cells_of(pivot(record, DEPTH, RANK, margin=share * margin))["1 8"].marker == marker
        table = comparisons(record, DEPTH, RANK, margin=share * margin)
        assert frame_of(table)["verdict"][1].startswith(verdict)
        assert any(f"equal within ± {share * margin:.3g}" in note for note in table.notes)
    assert frame_of(comparisons(record, DEPTH, RANK))["verdict"].tolist()[2:] == ["different"] * 2
    with pytest.raises(RecordError, match="the margin must be above 0, got -1"):
        pivot(record, DEPTH, RANK, margin=-1)


def test_what_is_open_says_how_many_seeds_would_decide(tmp_path: Path) -> None:
    """By the noncentral t distribution of statsmodels at the corrected level."""
    record = load([gridded(tmp_path).path])
    frame = frame_of(comparisons(record, DEPTH, RANK))
    values = record.runs.pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    gaps = values[1, 8] - values[1, 4]
    verdict, needed = frame["verdict"][1].split(": ")
    assert verdict == "undecided"
    solved = TTestPower().solve_power(abs(gaps.mean()) / gaps.std(), power=0.8, alpha=0.05 / 6)
    assert int(needed) in (math.ceil(solved), math.ceil(solved) + 1)
    seen = TTestPower().solve_power(nobs=6, power=0.8, alpha=0.05 / 6) * gaps.std()
    assert frame["seen from"][1] == pytest.approx(seen, rel=1e-3)
    assert frame["p sign flips"].tolist()[2:] == pytest.approx([2 / 2**6] * 2)


def test_the_margin_is_what_the_metrics_own_error_hides(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    assert margin_of(record, FD) is None
    record.runs["quality/classifier_fd_error"] = 2.0
    assert margin_of(record, FD) == 3.92


def test_comparisons_are_scipys_paired_tests(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    frame = frame_of(comparisons(record, DEPTH, RANK))
    values = record.runs.pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    references = [stats.ttest_rel(values[cell], values[1, 4]) for cell in ((1, 8), (2, 4), (2, 8))]
    assert frame["p"].tolist()[1:] == pytest.approx([each.pvalue for each in references], rel=1e-6)
    # Ordered by p from the last on, with six, five and four pairs to correct for.
    assert frame["p holm"].tolist()[1:] == pytest.approx(
        [min(4 * references[0].pvalue, 1), 5 * references[1].pvalue, 6 * references[2].pvalue], rel=1e-6
    )
    gaps = [values[cell] - values[1, 4] for cell in ((1, 8), (2, 4), (2, 8))]
    assert frame["d_z"].tolist()[1:] == pytest.approx([gap.mean() / gap.std() for gap in gaps])
    assert frame["p wilcoxon"].tolist()[2:] == pytest.approx([2 / 2**6] * 2)
    assert frame["difference from the best"].tolist()[1:] == pytest.approx([gap.mean() for gap in gaps])


def test_a_cell_without_values_is_no_candidate_for_the_best(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [1, 2, 3, 4, 5, 6]}}, seeds=range(3))
    for depth in range(1, 7):
        for seed in range(3):
            if depth == 6:
                files.failed(depth, {DEPTH: depth}, "out of memory", seed=seed)
            else:
                files.finished(depth, {DEPTH: depth}, depth + 0.1 * seed * (depth % 3), seed=seed)
    record = load([files.path])
    assert "with Holm's correction for all 10 pairs of cells," in marginal(record, DEPTH).to_markdown()
    assert "corrected for 10 comparisons" in comparisons(record, DEPTH).to_markdown()


def test_a_seed_that_failed_is_seen_and_not_the_best(tmp_path: Path) -> None:
    cells = cells_of(pivot(load([gridded(tmp_path, left_out=(1, 4, 2)).path]), DEPTH, RANK))
    column = Column("x", "x", spec=".2f")
    assert "(5/6)" in column.text(cells["1 4"])
    assert [name for name, cell in cells.items() if cell.bold] == ["1 8"]


def test_intervals_by_bootstrap_are_asymmetric_and_say_so(tmp_path: Path) -> None:
    record = load([gridded(tmp_path, seeds=12).path])
    table = pivot(record, DEPTH, RANK, ci="bootstrap")
    cell = cells_of(table)["2 8"]
    values = record.runs.loc[(record.runs[DEPTH] == 2) & (record.runs[RANK] == 8), FD]
    # The level at which a bootstrap of normal values is as wide as Student's interval.
    level = 2 * stats.norm.cdf(math.sqrt(12 / 11) * stats.t.ppf(0.975, 11)) - 1
    low, high = stats.bootstrap(
        (values.to_numpy(),), np.mean, confidence_level=level, rng=np.random.default_rng(0)
    ).confidence_interval
    assert cell.interval == (pytest.approx(low), pytest.approx(high))
    assert "[low, high]: 95 % confidence interval over seeds (BCa bootstrap)." in table.notes
    assert f"{RANK} = 8 ci95 low" in frame_of(table).columns
    assert "BCa bootstrap" in configurations(record, ci="bootstrap").to_markdown()


def test_few_seeds_have_no_bootstrap_interval_and_say_why(tmp_path: Path) -> None:
    record = load([gridded(tmp_path, seeds=5).path])
    for table in (pivot(record, DEPTH, RANK, ci="bootstrap"), configurations(record, [FD], ci="bootstrap")):
        assert all(cell.interval is None and cell.half_width is None for row in table.rows for cell in row.cells)
        assert "No interval for fewer than 10 values: the bootstrap of so few covers less than 95 %." in table.notes


def test_seeds_of_configurations_that_differ_besides_are_no_observations(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    table = marginal(record, DEPTH)
    means = record.runs.groupby([DEPTH, RANK])[FD].mean()
    frame = frame_of(table)
    assert frame[FD].tolist() == pytest.approx([means[1].mean(), means[2].mean()])
    assert frame[f"{FD} ci95"].tolist() == pytest.approx([half_width(means[depth].tolist()) for depth in (1, 2)])
    assert frame[f"{FD} n"].tolist() == [2, 2]
    # Ranks belong together: the two differences are 20 and about 50, and two pairs are few.
    tests = frame_of(comparisons(record, DEPTH))
    assert tests["p"][1] == pytest.approx(stats.ttest_rel(means[2], means[1]).pvalue)
    assert "paired t over configurations equal in all other axes" in table.to_markdown()


def test_controls_stand_below_in_a_column_of_their_own(tmp_path: Path) -> None:
    files = gridded(tmp_path)
    files.control(0, "g = identity", {DEPTH: 1, RANK: 4}, 99.0)
    files.reference(0, "noise", 400.0)
    table = pivot(load([files.path]), DEPTH, RANK)
    assert [(row.block, row.cells[-1].value) for row in table.rows] == [
        ("", ""), ("", ""), ("controls", 99.0), ("references", 400.0),
    ]  # fmt: skip
    assert all(cell.value == "" for row in table.rows[2:] for cell in row.cells[1:-1])


def test_axes_are_checked(tmp_path: Path) -> None:
    record = load([small(tmp_path).path])
    with pytest.raises(RecordError, match=r"no axis 'model\.flow\.dept'; did you mean model\.flow\.depth"):
        marginal(record, "model.flow.dept")
    with pytest.raises(RecordError, match="rows and columns must be two axes"):
        pivot(record, DEPTH, DEPTH)
