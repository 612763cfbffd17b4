"""Small sweeps to make tables of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import stats

from analysis import (
    Cell,
    Column,
    Row,
    Table,
)
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, point


def half_width(values: list[float]) -> float:
    """The reference: SciPy's Student t interval of a mean."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(high - low) / 2


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


def one_cell(cell: Cell, spec: str = "", *, bold: bool = False) -> Table:
    return Table("t", "T", (Column("x", "x", spec=spec),), (Row((cell,), bold=bold),))
