"""Ablation tables: known means, intervals and tests, what is ranked and what is only told, and every rendering."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from analysis import (
    Cell,
    Column,
    RecordError,
    Row,
    Table,
    best,
    by_configuration,
    configurations,
    load,
    marginal,
    pivot,
)
from analysis.render.cells import number_format
from analysis.render.latex import escaped
from analysis.tables.one_factor import one_factor
from analysis.tables.pairs import comparisons
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles


def point(depth: int = 3, rank: int = 16, lr: float = 2e-3) -> dict[str, object]:
    return {DEPTH: depth, RANK: rank, LR: lr}


def half_width(values: list[float]) -> float:
    """The reference: SciPy's Student t interval of a mean."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(high - low) / 2


def frame_of(table: Table) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(table.to_csv()))


def test_seeds_are_averaged_with_a_student_interval(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2))
    values = [10.0, 12.0, 17.0]
    for seed, value in enumerate(values):
        files.finished(0, point(), value, seed=seed, **{"cost/params": 500.0})
    row = frame_of(configurations(load([files.path]))).iloc[0]
    assert row[FD] == pytest.approx(13.0)
    assert row[f"{FD} ci95"] == pytest.approx(half_width(values))
    assert row["seeds"] == 3
    assert (row["configuration"], row["state"]) == ("t000", "finished")
    assert "cost/params ci95" not in row.index


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 10.0)
    table = configurations(load([files.path]))
    assert f"{FD} ci95" not in frame_of(table)
    assert "±" not in table.to_markdown()


def test_a_seed_without_a_value_leaves_its_configuration_without_one(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    files.finished(0, point(), 10.0, seed=0)
    files.finished(0, point(), "NaN", seed=1)
    files.finished(1, point(), 50.0, seed=0)
    files.finished(1, point(), "Infinity", seed=1)
    files.finished(2, point(), 80.0, seed=0)
    files.finished(2, point(), 90.0, seed=1)
    record = load([files.path])
    frame = by_configuration(record)
    assert math.isnan(frame[FD][0])
    assert frame[FD][1] == math.inf
    top = best(record)
    assert top is not None
    assert top.name == "t002"
    assert f"Finished without a finite {FD}: t001, t000." in configurations(record).notes


def small(tmp_path: Path, **options: object) -> SweepFiles:
    """Two finished, two stopped, one failed, a control and two references."""
    files = SweepFiles(tmp_path, **options)  # type: ignore[arg-type]
    files.finished(0, point(2), 20.5, **{"test/classifier_fd_collapsed": 21.0})
    files.stopped(1, point(1), 90.0)
    files.finished(2, point(4), 8.25, **{"test/classifier_fd_collapsed": 9.0})
    files.failed(3, point(5), "ValueError: loss_a\nis | nan")
    files.stopped(4, point(2), 5.0, epoch=40)
    files.control(0, "g = identity", point(4, 64), 30.0)
    files.reference(0, "real against real", 1.5)
    files.reference(1, "noise", 400.0)
    return files


def test_markdown_of_a_small_sweep(tmp_path: Path) -> None:
    table = configurations(load([small(tmp_path).path]))
    assert (
        table.to_markdown()
        == """\
### demo: classifier_fd of every configuration

| configuration     | depth |   rank |        lr | seeds | state        | collapsed ↓ |   test ↓ |
| ----------------- | ----: | -----: | --------: | ----: | ------------ | ----------: | -------: |
| **t002**          | **4** | **16** | **0.002** | **1** | **finished** |    **8.25** | **9.00** |
| t000              |     2 |     16 |     0.002 |     1 | finished     |       20.50 |    21.00 |
| t004 †            |     2 |     16 |     0.002 |     1 | stopped @ 40 |        5.00 |        – |
| t001 †            |     1 |     16 |     0.002 |     1 | stopped @ 20 |       90.00 |        – |
| *controls*        |       |        |           |       |              |             |          |
| g = identity      |     4 |     64 |     0.002 |     1 | finished     |       30.00 |        – |
| *references*      |       |        |           |       |              |             |          |
| real against real |     – |      – |         – |     – | finished     |        1.50 |     2.00 |
| noise             |     – |      – |         – |     – | finished     |      400.00 |   400.50 |

- Bold: the best finished configuration by quality/classifier_fd_collapsed.
- † stopped early: values are of its last evaluation, not comparable with finished ones.
- Failed and left out: 1 of 6 trials: t003-s0 (ValueError: loss_a is \\| nan).
"""
    )


def test_latex_of_a_small_sweep(tmp_path: Path) -> None:
    text = configurations(load([small(tmp_path, name="a_b").path])).to_latex()
    assert text.startswith(
        "% \\usepackage{booktabs, siunitx, graphicx}\n\\begin{table}[t]\n\\centering\n\\caption{a\\_b: class"
    )
    assert "\\label{tab:configurations}\n" in text
    assert "\\sbox0{\\begin{tabular}{lrrrrlrr}\n\\toprule\n" in text
    assert (
        "\\textbf{t002} & \\textbf{\\num{4}} & \\textbf{\\num{16}} & \\textbf{\\num{0.002}} & \\textbf{\\num{1}}"
        in text
    )
    row = r"t004 $^\dagger$ & \num{2} & \num{16} & \num{0.002} & \num{1} & stopped @ 40 & \num{5.00} & -- \\"
    assert f"{row}\n" in text
    assert "\\midrule\n\\multicolumn{8}{l}{\\emph{controls}} \\\\\ng = identity & \\num{4}" in text
    assert "(ValueError: loss\\_a is \\textbar{} nan)" in text
    assert text.endswith("\\end{flushleft}\n\\end{table}\n")


def test_csv_has_full_precision_and_no_markup(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(lr=0.0012345678901234), 1 / 3)
    files.reference(0, "noise, white", 400.0)
    assert configurations(load([files.path]), [FD]).to_csv() == (
        f"block,configuration,{DEPTH},{RANK},{LR},seeds,state,{FD}\n"
        ",t000,3,16,0.0012345678901234,1,finished,0.3333333333333333\n"
        'references,"noise, white",,,,,finished,400.0\n'
    )


def test_rich_shows_every_cell(tmp_path: Path) -> None:
    console = Console(width=160, file=io.StringIO())
    console.print(configurations(load([small(tmp_path).path])).to_rich())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in ("demo: classifier_fd of every configuration", "t004 †", "stopped @ 40", "400.50", "references"):
        assert expected in text


def test_maximised_objectives_are_ranked_from_the_top(tmp_path: Path) -> None:
    files = small(tmp_path, objective={FD: "max"})
    top = best(load([files.path]))
    assert top is not None
    assert (top.name, top.mean, top.direction) == ("t000", 20.5, "max")
    assert "collapsed ↑" in configurations(load([files.path])).to_markdown()


def test_the_best_says_where_it_is(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for seed in (0, 1):
        files.finished(0, point(4, 32), 8.0 + seed, seed=seed)
        files.finished(1, point(5, 32), 9.0 + seed, seed=seed)
    top = best(load([files.path]))
    assert top is not None
    assert (top.sweep, top.config_hash, top.trials) == ("demo", "s00000000000", ("t000-s0", "t000-s1"))
    assert top.overrides == point(4, 32)
    assert top.mean == 8.5
    assert top.half_width == pytest.approx(half_width([8.0, 9.0]))
    assert top.note is None


def test_a_configuration_without_all_seeds_is_not_the_best(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    files.finished(0, point(), 1.0, seed=0)
    files.failed(0, point(), "out of memory", seed=1)
    files.finished(1, point(), 2.0, seed=0)
    files.finished(2, point(), 6.0, seed=0)
    files.finished(2, point(), 8.0, seed=1)
    record = load([files.path])
    top = best(record)
    assert top is not None
    assert top.name == "t002"
    table = configurations(record)
    assert [table.columns[0].text(row.cells[0]) + row.marker for row in table.rows] == ["t002", "t000‡", "t001‡"]
    assert frame_of(table)["state"].tolist() == ["finished", "1 of 2 finished", "1 of 2 finished"]
    assert "Failed and left out: 1 of 5 trials: t000-s1 (out of memory)." in table.notes


def test_nothing_finished_nothing_best(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.stopped(0, point(), 5.0)
    record = load([files.path])
    assert best(record) is None
    assert "**" not in configurations(record).to_markdown()


def test_constraints_come_before_the_objective(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, constraints={"linearity/roundtrip": "<= 1e-3"})
    files.finished(0, point(), 1.0, **{"linearity/roundtrip": 0.5})
    record = load([files.path])
    alone = best(record)
    assert alone is not None
    assert alone.note == "no configuration keeps to the constraints; this one breaks linearity/roundtrip <= 1e-3"
    files.finished(1, point(), 2.0, **{"linearity/roundtrip": 1e-6})
    record = load([files.path])
    top = best(record)
    assert top is not None
    assert (top.name, top.note) == ("t001", None)
    table = configurations(record)
    assert [row.marker for row in table.rows] == ["", "§"]
    assert "§ breaks a constraint: linearity/roundtrip <= 1e-3." in table.notes


def test_several_objectives_are_ranked_by_the_first(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, objective={FD: "min", "linearity/collapse_psnr": "max"})
    files.finished(0, point(), 1.0, **{"linearity/collapse_psnr": 10.0})
    files.finished(1, point(), 2.0, **{"linearity/collapse_psnr": 90.0})
    top = best(load([files.path]))
    assert top is not None
    assert (top.name, top.note) == ("t000", f"by {FD}, the first of 2 objectives")


def test_confirmed_configurations_have_a_block_of_their_own(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 8.0)
    for seed, value in ((1, 10.0), (2, 12.0)):
        files.begin(f"k000-s{seed}", 0, point(), kind="confirm", seed=seed)
        files.complete(f"k000-s{seed}", value)
    frame = frame_of(configurations(load([files.path])))
    assert frame["configuration"].tolist() == ["t000", "k000"]
    assert frame["block"].fillna("").tolist() == ["", "confirmed at fresh seeds"]
    assert frame[FD].tolist() == [8.0, 11.0]


def test_default_columns_leave_timings_out(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(
        0,
        point(),
        8.0,
        curve={1: 30.0, 2: 20.0, 16: 9.0},
        **{"cost/params": 1200.0, "cost/train_seconds": 3.0, "linearity/collapse_psnr": 60.0, "quality/swd_k1": 1.0},
    )
    table = configurations(load([files.path]))
    assert [column.header for column in table.columns][6:] == [
        "collapsed ↓", "k=1 ↓", "k=16 ↓", "collapse PSNR ↑", "params ↓",
    ]  # fmt: skip


def test_metrics_can_be_chosen_and_an_unknown_one_is_told_of(tmp_path: Path) -> None:
    record = load([small(tmp_path).path])
    assert configurations(record, ["test/classifier_fd_collapsed"]).columns[-1].header == "test ↓"
    with pytest.raises(RecordError, match=r"no metric 'quality/clasifier_fd_colapsed'; did you mean quality/classif"):
        configurations(record, ["quality/clasifier_fd_colapsed"])


def test_two_sweeps_get_a_column(tmp_path: Path) -> None:
    first, second = SweepFiles(tmp_path, "first"), SweepFiles(tmp_path, "second")
    first.finished(0, point(), 8.0)
    second.finished(0, point(), 7.0)
    frame = frame_of(configurations(load([first.path, second.path])))
    assert frame["sweep"].tolist() == ["second", "first"]


def test_marginal_counts_what_was_stopped_or_failed(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    values = [4.0, 5.0, 9.0]
    for number, value in enumerate(values):
        files.finished(number, point(2), value)
    files.finished(3, point(3), 7.0)
    files.stopped(4, point(2), 1.0)
    files.failed(5, point(5), "out of memory")
    files.control(0, "g = identity", point(2), 0.1)
    table = marginal(load([files.path]), DEPTH)
    frame = frame_of(table)
    assert frame[DEPTH].tolist() == [2, 3, 5]
    assert frame["finished"].tolist() == [3, 1, 0]
    assert frame[f"best {FD}"].tolist()[:2] == [4.0, 7.0]
    assert frame[FD].tolist()[:2] == [6.0, 7.0]
    assert frame[f"{FD} ci95"][0] == pytest.approx(half_width(values))
    assert frame["stopped"].tolist() == [1, 0, 0]
    assert frame["failed"].tolist() == [0, 0, 1]
    assert "unfinished" not in frame
    assert "1 were stopped early and have no part in means: where more were, the rest look better." in table.notes


def test_marginal_averages_seeds_before_configurations(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for number, pair in enumerate([(1.0, 3.0), (10.0, 20.0)]):
        for seed, value in enumerate(pair):
            files.finished(number, point(2), value, seed=seed)
    frame = frame_of(marginal(load([files.path]), DEPTH))
    assert frame["finished"].tolist() == [2]
    assert frame[FD].tolist() == [8.5]
    assert frame[f"{FD} ci95"][0] == pytest.approx(half_width([2.0, 15.0]))


def test_marginal_bins_a_logarithmic_axis(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, rank in enumerate([4, 5, 8, 16, 17, 31, 33, 64, 128]):
        files.finished(number, point(rank=rank), float(rank))
    frame = frame_of(marginal(load([files.path]), RANK))
    # 4 to 128 in five bins, each a factor of two.
    assert frame[RANK].tolist() == ["4 to 7", "8 to 15", "16 to 31", "32 to 63", "64 to 128"]
    assert frame["finished"].tolist() == [2, 1, 3, 1, 2]
    assert frame[FD].tolist() == pytest.approx([4.5, 8.0, 64 / 3, 33.0, 96.0])


def test_an_edge_that_is_a_whole_number_begins_its_bin(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    # In floating point, 3 · 2² comes out just above 12.
    for number, rank in enumerate([3, 6, 12, 24, 48, 96]):
        files.finished(number, point(rank=rank), 1.0)
    frame = frame_of(marginal(load([files.path]), RANK))
    assert frame[RANK].tolist() == ["3 to 5", "6 to 11", "12 to 23", "24 to 47", "48 to 96"]
    assert frame["finished"].tolist() == [1, 1, 1, 1, 2]


def test_marginal_bins_many_whole_numbers_by_quantiles(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 20]}})
    for number in range(10):
        files.finished(number, {DEPTH: number + 1}, float(number))
    frame = frame_of(marginal(load([files.path]), DEPTH))
    assert frame[DEPTH].tolist() == ["1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 to 10"]
    assert frame["finished"].tolist() == [2, 2, 2, 2, 2]


def test_marginal_keeps_what_the_spec_lists(tmp_path: Path) -> None:
    space = {"model.kind": {"choice": ["mlp", "conv"]}, LR: {"grid": [1e-2, 1e-3]}}
    files = SweepFiles(tmp_path, space=space)
    files.finished(0, {"model.kind": "conv", LR: 1e-3}, 1.0)
    files.finished(1, {"model.kind": "mlp", LR: 1e-2}, 2.0)
    record = load([files.path])
    assert frame_of(marginal(record, "model.kind"))["model.kind"].tolist() == ["mlp", "conv"]
    assert frame_of(marginal(record, LR))[LR].tolist() == [0.01, 0.001]


def test_marginal_bins_tell_close_values_apart(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, lr in enumerate([0.0010001, 0.0010002, 0.0010003]):
        files.finished(number, point(lr=lr), 1.0)
    labels = frame_of(marginal(load([files.path]), LR))[LR].tolist()
    assert len(set(labels)) == len(labels) == 3


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
### demo: mean quality/classifier_fd_collapsed by model.flow.depth (rows) and model.operator.rank (columns)

| depth / rank |           8 |       16 |
| ------------ | ----------: | -------: |
| 2            | 12 ± 25 (2) | – failed |
| 3            |   **3 (1)** |    5 (1) |
| 4            |           – |    6 (1) |

- ±: half width of the 95 % confidence interval over configurations (Student t).
- In brackets: how many configurations a mean is of.
- Bold: the best mean. No tests: a cell has too few configurations.
- Failed and left out: 1 of 6 trials: t004-s0 (out of memory).
"""
    )
    width = half_width([10.0, 14.0])
    assert table.to_csv() == (
        f"{DEPTH},{RANK} = 8,{RANK} = 8 ci95,{RANK} = 8 n,{RANK} = 16,{RANK} = 16 n,{RANK} = 16 note\n"
        f"2,12.0,{width!r},2,,0,failed 0/1\n3,3.0,,1,5.0,1,\n4,,,,6.0,1,\n"
    )


# Cells over seeds

GRID = {DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8]}}
CELLS = {(1, 4): 10.0, (1, 8): 10.3, (2, 4): 30.0, (2, 8): 60.0}


def gridded(tmp_path: Path, seeds: int = 6, *, left_out: tuple[int, int, int] | None = None) -> SweepFiles:
    """A grid of depth and rank whose seeds shift all cells alike; one trial can be left out."""
    files, random = SweepFiles(tmp_path, space=GRID, seeds=range(seeds)), np.random.default_rng(0)
    shifts = 5 * random.normal(size=seeds)
    for number, ((depth, rank), mean) in enumerate(CELLS.items()):
        for seed in range(seeds):
            value = mean + float(shifts[seed] + 0.3 * random.normal())
            if (depth, rank, seed) == left_out:
                files.failed(number, {DEPTH: depth, RANK: rank}, "out of memory", seed=seed)
            else:
                files.finished(number, {DEPTH: depth, RANK: rank}, value, seed=seed)
    return files


def cells_of(table: Table) -> dict[str, Cell]:
    return {
        f"{row.cells[0].value} {column.header}": cell
        for row in table.rows
        for column, cell in zip(table.columns[1:], row.cells[1:], strict=True)
    }


def test_what_is_not_told_from_the_best_is_marked_by_paired_tests(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    cells = cells_of(pivot(record, DEPTH, RANK))
    assert [(name, cell.bold, cell.marker) for name, cell in cells.items()] == [
        ("1 4", True, ""), ("1 8", False, "≈"), ("2 4", False, ""), ("2 8", False, ""),
    ]  # fmt: skip
    values = record.runs.pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    for depth, rank in CELLS:
        cell, column = cells[f"{depth} {rank}"], values[depth, rank]
        assert (cell.value, cell.count) == (pytest.approx(column.mean()), 6)
        assert cell.half_width == pytest.approx(half_width(column.tolist()))
    # Over the seeds alone, whose shifts are wide, nothing would be told from the best but the last.
    assert stats.ttest_ind(values[1, 4], values[2, 4]).pvalue < 0.05 / 6
    note = "≈: not significantly different from it (paired t over common seeds, p ≥ 0.05 after Holm's correction for "
    assert any(note in text for text in pivot(record, DEPTH, RANK).notes)


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


def test_a_seed_that_failed_is_seen_and_not_the_best(tmp_path: Path) -> None:
    cells = cells_of(pivot(load([gridded(tmp_path, left_out=(1, 4, 2)).path]), DEPTH, RANK))
    column = Column("x", "x", spec=".2f")
    assert "(5/6)" in column.text(cells["1 4"])
    assert [name for name, cell in cells.items() if cell.bold] == ["1 8"]


def test_intervals_by_bootstrap_are_asymmetric_and_say_so(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    table = pivot(record, DEPTH, RANK, ci="bootstrap")
    cell = cells_of(table)["2 8"]
    values = record.runs.loc[(record.runs[DEPTH] == 2) & (record.runs[RANK] == 8), FD]
    low, high = stats.bootstrap((values.to_numpy(),), np.mean, rng=np.random.default_rng(0)).confidence_interval
    assert cell.interval == (pytest.approx(low), pytest.approx(high))
    assert "[low, high]: 95 % confidence interval over seeds (BCa bootstrap)." in table.notes
    assert f"{RANK} = 8 ci95 low" in frame_of(table).columns
    assert "BCa bootstrap" in configurations(record, ci="bootstrap").to_markdown()


def test_other_axes_are_averaged_within_a_seed_where_every_cell_has_the_same(tmp_path: Path) -> None:
    record = load([gridded(tmp_path).path])
    table = marginal(record, DEPTH)
    by_seed = record.runs.pivot_table(index="seed", columns=DEPTH, values=FD, aggfunc="mean")
    frame = frame_of(table)
    assert frame[FD].tolist() == pytest.approx(by_seed.mean().tolist())
    assert frame[f"{FD} ci95"].tolist() == pytest.approx([half_width(by_seed[depth].tolist()) for depth in (1, 2)])
    assert frame[f"{FD} n"].tolist() == [6, 6]
    assert "each over the same 2 configurations in every cell" in table.to_markdown()


def test_controls_stand_below_in_a_column_of_their_own(tmp_path: Path) -> None:
    files = gridded(tmp_path)
    files.control(0, "g = identity", {DEPTH: 1, RANK: 4}, 99.0)
    files.reference(0, "noise", 400.0)
    table = pivot(load([files.path]), DEPTH, RANK)
    assert [(row.block, row.cells[-1].value) for row in table.rows] == [
        ("", ""), ("", ""), ("controls", 99.0), ("references", 400.0),
    ]  # fmt: skip
    assert all(cell.value == "" for row in table.rows[2:] for cell in row.cells[1:-1])


def test_one_change_at_a_time_from_the_values_of_the_spec(tmp_path: Path) -> None:
    files = gridded(tmp_path)
    files.sweep["spec"]["model"] = {"flow": {"depth": 1}, "operator": {"rank": 4}}
    files.write_sweep()
    for seed in range(6):
        files.begin(f"c000-s{seed}", 0, {DEPTH: 1, RANK: 4}, kind="control", label="g linear", seed=seed)
        files.complete(f"c000-s{seed}", 50.0 + seed % 2)
    record = load([files.path])
    table = one_factor(record)
    assert [(row.block, row.cells[0].value) for row in table.rows] == [
        ("", "base: t000"), (DEPTH, "depth = 2"), (RANK, "rank = 8"), ("controls", "g linear"),
    ]  # fmt: skip
    assert "one change at a time from depth 1, rank 4" in table.title
    values = record.runs[record.runs["kind"] == "search"].pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    frame = frame_of(table)
    gap = values[2, 4] - values[1, 4]
    assert frame["difference from the base"][1] == pytest.approx(gap.mean())
    assert frame["difference from the base ci95"][1] == pytest.approx(half_width(gap.tolist()))
    # The base was not chosen by its value: three comparisons, no more.
    assert "corrected for 3 comparisons, those shown;" in table.to_markdown()
    assert frame["p holm"][2] == pytest.approx(stats.ttest_rel(values[1, 8], values[1, 4]).pvalue, rel=1e-6)
    named = one_factor(record, base="t003")
    assert [row.cells[0].value for row in named.rows][:3] == ["base: t003", "depth = 1", "rank = 4"]
    with pytest.raises(RecordError, match="no configuration 't009'"):
        one_factor(record, base="t009")


def test_one_change_at_a_time_from_the_best_corrects_for_its_choice(tmp_path: Path) -> None:
    table = one_factor(load([gridded(tmp_path).path]))
    assert table.rows[0].cells[0].value == "base: t000"
    assert any("corrected for 6 comparisons" in note and "chosen by its value" in note for note in table.notes)


# Unequal training


def test_early_stopped_trials_are_not_compared_with_finished_ones_unasked(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(2, 8), 10.0)
    files.stopped(1, point(3, 8), 4.0)
    record = load([files.path])
    for of in (pivot, comparisons):
        with pytest.raises(RecordError, match=r"1 trials that were stopped early with 1 finished; .*--unequal"):
            of(record, DEPTH, RANK)
    cells = cells_of(pivot(record, DEPTH, RANK, unequal=True))
    assert (cells["3 8"].value, cells["3 8"].marker, cells["3 8"].bold) == (4.0, "†", False)
    assert cells["2 8"].bold
    assert frame_of(marginal(record, DEPTH))[FD].tolist() == pytest.approx([10.0, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("overrides", "epochs", "words"),
    [
        ({}, 40, "1 trials of 80 epochs of the data in batches of 128; 1 trials of 40 epochs"),
        ({"train.batch_size": 64}, 80, "1 trials of 80 epochs of the data in batches of 64"),
        ({"train.steps": 10}, 80, "1 trials of 800 steps"),
    ],
)
def test_longer_training_is_not_compared_with_shorter_unasked(
    tmp_path: Path, overrides: dict[str, int], epochs: int, words: str
) -> None:
    files = SweepFiles(tmp_path)
    files.sweep["spec"]["train"] = {"batch_size": 128, "steps": 0}
    files.write_sweep()
    files.finished(0, point(2, 8), 10.0)
    files.begin("t001-s0", 1, {**point(3, 8), **overrides})
    files.add("t001-s0", "summary", metrics={FD: 12.0})
    files.end("t001-s0", epoch=epochs)
    record = load([files.path])
    with pytest.raises(RecordError, match="unequal training") as caught:
        pivot(record, DEPTH, RANK)
    assert words in str(caught.value)
    with pytest.raises(RecordError, match="unequal training"):
        marginal(record, DEPTH)
    assert cells_of(pivot(record, DEPTH, RANK, unequal=True))["3 8"].value == 12.0


def test_batches_that_a_recipe_brings_count_as_training(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [2, 3]}, "recipe": {"choice": ["paper", "default"]}})
    for number, (depth, recipe, batch) in enumerate([(2, "paper", 64), (3, "paper", 64), (2, "default", 128)]):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, {DEPTH: depth, "recipe": recipe}, config={"train.batch_size": batch})
        files.complete(trial, 1.0 + number)
    record = load([files.path])
    with pytest.raises(RecordError, match=r"2 trials of 80 epochs of the data in batches of 64; 1 trials .* of 128"):
        pivot(record, DEPTH, "recipe")


def test_equal_steps_an_epoch_make_batches_of_any_size_equal(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, (steps, epoch) in enumerate([(100, 10), (50, 20)]):
        files.begin(f"t{number:03d}-s0", number, {**point(number + 1), "train.steps": steps})
        files.add(f"t{number:03d}-s0", "summary", metrics={FD: 1.0})
        files.end(f"t{number:03d}-s0", epoch=epoch)
    assert len(pivot(load([files.path]), DEPTH, RANK).rows) == 2


def test_axes_are_checked(tmp_path: Path) -> None:
    record = load([small(tmp_path).path])
    with pytest.raises(RecordError, match=r"no axis 'model\.flow\.dept'; did you mean model\.flow\.depth"):
        marginal(record, "model.flow.dept")
    with pytest.raises(RecordError, match="rows and columns must be two axes"):
        pivot(record, DEPTH, DEPTH)


def test_a_sweep_without_a_value_says_so(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, state="running")
    with pytest.raises(RecordError, match=f"demo: no value yet of the objective '{FD}'"):
        configurations(load([files.path]))


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = small(tmp_path).path

    def rendered() -> list[str]:
        record = load([path])
        tables = [configurations(record), marginal(record, RANK), pivot(record, DEPTH, LR, unequal=True)]
        texts = [(table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()) for table in tables]
        return [text for each in texts for text in each]

    first = rendered()
    assert first == rendered()
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in first)


def one_cell(cell: Cell, spec: str = "", *, bold: bool = False) -> Table:
    return Table("t", "T", (Column("x", "x", spec=spec),), (Row((cell,), bold=bold),))


@pytest.mark.parametrize(
    ("cell", "spec", "bold", "expected"),
    [
        (Cell(1.5e-7), ".2e", False, r"\num{1.50e-7}"),
        (Cell(1.5e-7), ".2e", True, r"\textbf{\num{1.50e-7}}"),
        (Cell(-2.0, 0.5), ".1f", False, r"\num{-2.00 +- 0.50}"),
        (Cell(1.5e-7, 2e-8), ".2e", False, r"\num{1.50 +- 0.20 e-7}"),
        (Cell(2.0, interval=(1.5, 2.6), count=3), ".1f", False, r"\num{2.00} [\num{1.50}, \num{2.60}] (3)"),
        (Cell(2.0, 0.5, count=2, of=3, marker="≈"), ".1f", False, r"\num{2.00 +- 0.50} (2/3) $\approx$"),
        (Cell(1234.0), ",.0f", False, r"\num{1234}"),
        (Cell(0.0), ".2e", False, r"\num{0}"),
        (Cell("50 % of a_b & {c} #1 $x^2$ ~ \\d"), "", False,
         r"50 \% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2\$ \textasciitilde{} \textbackslash{}d"),
        (Cell(None), "", False, "--"),
        (Cell(math.nan), ".1f", False, "--"),
        (Cell(count=0, of=3, reason="failed"), ".1f", False, "-- failed"),
    ],
)  # fmt: skip
def test_latex_cells(cell: Cell, spec: str, bold: bool, expected: str) -> None:
    assert f"\\midrule\n{expected} \\\\\n\\bottomrule" in one_cell(cell, spec, bold=bold).to_latex()


@pytest.mark.parametrize(
    ("value", "error", "spec", "expected"),
    [
        (31.4421, 6.8511, ".2f", "31.4 ± 6.9"),
        (1040.01, 133.48, ".2f", "1,040 ± 130"),
        (12345.6, 1049.0, ".2f", "12,300 ± 1,000"),
        (0.123456, 0.00996, ".4f", "0.123 ± 0.010"),
        (5.0, 0.0996, ".1f", "5.00 ± 0.10"),
        (-0.001, 0.5, ".1f", "0.00 ± 0.50"),
        (2.0, 0.0, ".1f", "2.0 ± 0"),
        (1.234e-7, 5.6e-9, ".2e", "(1.234 ± 0.056)e-07"),
        (1e-9, 2e-7, ".2e", "(0.0 ± 2.0)e-07"),
        (math.inf, 1.0, ".1f", "inf"),
        (7, 1.25, "d", "7.0 ± 1.2"),
    ],
)
def test_numbers_are_rounded_to_two_digits_of_their_error(value: float, error: float, spec: str, expected: str) -> None:
    assert Column("x", "x", spec=spec).text(Cell(value, error)) == expected


def test_html_has_every_cell_and_escapes_markup() -> None:
    cells = (Cell("<b> & co"), Cell(1.5e-7, 2e-8, count=3, of=4, marker="≈"), Cell(reason="failed"))
    columns = (Column("name", "name", "left"), Column("a<b ↓", "a", spec=".2e"), Column("c", "c"))
    table = Table("t", "A & B", columns, (Row(cells, "block", "†", bold=True),), ("Note <1>.",))
    text = table.to_html()
    ElementTree.fromstring(f"<div>{text}</div>")
    for expected in (
        "<caption>A &amp; B</caption>",
        '<th style="text-align: right">a&lt;b ↓</th>',
        '<tr><th colspan="3" scope="rowgroup">block</th></tr>',
        "<td><b>&lt;b&gt; &amp; co †</b></td>",
        '<td style="text-align: right"><b>(1.50 ± 0.20) × 10<sup>−7</sup> (3/4) ≈</b></td>',
        "– failed",
        "<li>Note &lt;1&gt;.</li>",
    ):
        assert expected in text
    assert table.to_html(standalone=True).startswith('<!doctype html><html lang="en"><meta charset="utf-8">')


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_within_the_page(tmp_path: Path) -> None:
    files = gridded(tmp_path)
    files.control(0, "g = identity & {co} §", {DEPTH: 1, RANK: 4}, 99.0)
    record = load([files.path])
    names = [f"some/metric_{index}" for index in range(16)]
    wide = Table(
        "wide", "Wide", tuple(Column(f"a long header {name}", name, spec=".2e") for name in names),
        (Row(tuple(Cell(1.5e-7 * index, 2e-8, marker="≈") for index in range(16)), "block", "†", bold=True),),
        ("100 % of a_b: − · × ≥ ≤ η² ₂ ρ Δ …",),
    )  # fmt: skip
    long = Table("long", "Long", wide.columns[:3], tuple(Row(wide.rows[0].cells[:3]) for _ in range(100)), ("n",))
    tables = [configurations(record), long, pivot(record, DEPTH, RANK, ci="bootstrap"), one_factor(record), wide]
    body = "\n".join(table.to_latex() for table in tables)
    preamble = "\\documentclass{article}\\usepackage{booktabs,siunitx,graphicx,lscape}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{preamble}{body}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overfull" not in done.stdout
    assert "\\begin{landscape}" in tables[-1].to_latex()
    pages = long.to_latex().split("\\begin{table}[p]")[1:]
    assert [page.count(" \\\\\n") - 1 for page in pages] == [45, 45, 10]
    assert [page.count("(continued)") for page in pages] == [0, 1, 1]
    assert [page.count("\\par n") for page in pages] == [0, 0, 1]


def test_markdown_escapes_what_would_be_markup() -> None:
    assert "| a\\|b \\*c\\* \\<d> \\_e\\_ f_g |" in one_cell(Cell("a|b *c* <d> _e_ f_g")).to_markdown()


def test_latex_escapes_every_special_character() -> None:
    assert escaped("±†–↓") == r"$\pm$$^\dagger$--$\downarrow$"


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        ([1.3, 900.0], ".2f"),
        ([12.0, 3000.5], ".1f"),
        ([0.0123, 4.0], ".4f"),
        ([1e-7, 2.0], ".2e"),
        ([1200.0, 5.0, math.nan, math.inf], ",.0f"),
        ([], ",.0f"),
    ],
)
def test_number_formats(values: list[float], spec: str) -> None:
    assert number_format(values) == spec


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(84.5, 3e-14), "84.50 ± 0"),
        (Cell(84.5, interval=(84.5 - 1e-14, 84.5 + 1e-14)), "84.50 [84.50, 84.50]"),
        (Cell(84.5, 3e-6), "84.5000000 ± 0.0000030"),
    ],
)
def test_the_digits_of_rounding_errors_are_not_shown(cell: Cell, text: str) -> None:
    assert Column("c", "c", spec=".2f").text(cell) == text
