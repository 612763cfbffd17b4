"""Ablation tables: known means and intervals, what is ranked and what is only told, and the four renderings."""

from __future__ import annotations

import io
import math
from pathlib import Path

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
from analysis.tables import latex, number_format
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
    assert text.startswith("\\begin{table}[t]\n\\centering\n\\caption{a\\_b: classifier\\_fd of every configuration}\n")
    assert "\\label{tab:configurations}\n" in text
    assert "\\begin{tabular}{lrrrrlrr}\n\\toprule\n" in text
    assert "\\textbf{t002} & \\textbf{4} & \\textbf{16} & \\textbf{0.002} & \\textbf{1}" in text
    assert "t004 $^\\dagger$ & 2 & 16 & 0.002 & 1 & stopped @ 40 & 5.00 & -- \\\\\n" in text
    assert "\\midrule\n\\multicolumn{8}{l}{\\emph{controls}} \\\\\ng = identity & 4" in text
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
    files.finished(1, point(2, 8), 14.0)
    files.finished(2, point(3, 8), 3.0)
    files.finished(3, point(3, 16), 5.0)
    files.stopped(4, point(2, 16), 1.0)
    table = pivot(load([files.path]), DEPTH, RANK)
    assert (
        table.to_markdown()
        == """\
### demo: mean quality/classifier_fd_collapsed by model.flow.depth (rows) and model.operator.rank (columns)

| depth / rank |      8 |  16 |
| ------------ | -----: | --: |
| 2            | 12 (2) |   – |
| 3            |  **3** |   5 |

- In brackets: how many configurations a mean is of, where more than one.
"""
    )
    assert table.to_csv() == (
        f"{DEPTH},{RANK} = 8,{RANK} = 8 n,{RANK} = 16,{RANK} = 16 n\n2,12.0,2,,0\n3,3.0,1,5.0,1\n"
    )


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
        tables = [configurations(record), marginal(record, RANK), pivot(record, DEPTH, LR)]
        return [text for table in tables for text in (table.to_markdown(), table.to_latex(), table.to_csv())]

    first = rendered()
    assert first == rendered()
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in first)


def one_cell(cell: Cell, spec: str = "", *, bold: bool = False) -> Table:
    return Table("t", "T", (Column("x", "x", spec=spec),), (Row((cell,), bold=bold),))


@pytest.mark.parametrize(
    ("cell", "spec", "bold", "expected"),
    [
        (Cell(1.5e-7), ".2e", False, r"$1.50 \times 10^{-7}$"),
        (Cell(1.5e-7), ".2e", True, r"\textbf{$\mathbf{1.50 \times 10^{-7}}$}"),
        (Cell(-2.0, 0.5), ".1f", False, r"$-$2.0 $\pm$ 0.5"),
        (Cell(1234.0), ",.0f", False, "1,234"),
        (Cell(0.0), ".2e", False, "0"),
        (Cell("50 % of a_b & {c} #1 $x^2$ ~ \\d"), "", False,
         r"50 \% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2\$ \textasciitilde{} \textbackslash{}d"),
        (Cell(None), "", False, "--"),
        (Cell(math.nan), ".1f", False, "--"),
    ],
)  # fmt: skip
def test_latex_cells(cell: Cell, spec: str, bold: bool, expected: str) -> None:
    assert f"\\midrule\n{expected} \\\\\n\\bottomrule" in one_cell(cell, spec, bold=bold).to_latex()


def test_markdown_escapes_what_would_be_markup() -> None:
    assert "| a\\|b \\*c\\* \\<d> \\_e\\_ f_g |" in one_cell(Cell("a|b *c* <d> _e_ f_g")).to_markdown()


def test_latex_escapes_every_special_character() -> None:
    assert latex("±†–↓") == r"$\pm$$^\dagger$--$\downarrow$"


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
