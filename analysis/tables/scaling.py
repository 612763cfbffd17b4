"""How a metric scales with an axis: a power law with a floor, a logarithmic law, and whether the data support them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, joined_labels, label_of
from analysis.configuration.levels import categories, is_number
from analysis.configuration.names import metric_of
from analysis.configuration.replicates import population
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.intervals import LEVEL, Array
from analysis.statistics.laws import FEWEST, POOR, fit_logarithm, fit_power_law


def scaling(record: Recorded, metric: str | None = None, *, unequal: bool = False) -> Table:
    """Fitted laws of a metric over each numeric axis with positive values, at each level of the other one.

    A configuration is one value, the mean of its seeds: seeds are repeats, and say nothing about how configurations
    deviate from the law. If the sweep searches two numeric axes, an axis is fitted at each value (or bin) of the other;
    otherwise over all configurations. Every row says if the data do not support the law. ``metric`` is the first
    objective by default. Raises ``RecordError`` for an unknown metric, if no axis has three values, and for unequal
    training (unless ``unequal``).

    >>> import analysis
    >>> analysis.scaling(analysis.example())
    <Table scaling, 14 × 10>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = metric_of(record, metric)
    if not unequal:
        check_equal(record, record.runs[record.runs["kind"] == "search"], f"the scaling of {key}")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"]]
    short = axis_labels(record)
    numeric = [axis for axis in record.axes if is_number(frame[axis]) and (frame[axis].dropna() > 0).all()]
    numeric = [axis for axis in numeric if frame[axis].nunique() >= 3]
    if not numeric:
        raise RecordError(f"{record.names}: nothing to fit: no axis has three positive numbers with a finite {key}")
    rows = []
    for axis in numeric:
        for label, part in _parts(record, frame, axis):
            part = part[part[axis].notna()]
            x, y = (part[name].to_numpy(dtype=np.float64) for name in (axis, key))
            rows += _laws(short[axis], label, x, y)
    return Table(
        name="scaling",
        title=f"{record.names}: {label_of(record, key)} against {joined_labels(record, numeric)}",
        columns=(
            Column("over", "over", "left"),
            Column("at", "at", "left"),
            Column("law", "law", "left"),
            Column("a", "a", spec=".3g"),
            Column("b", "b", spec=".3g"),
            Column("c", "c", spec=number_format(frame[key])),
            Column("R²", "r2", spec=".3f"),
            Column("levels", "levels", spec="d"),
            Column("configurations", "configurations", spec="d"),
            Column("supported", "supported", "left"),
        ),
        rows=tuple(rows),
        notes=(
            "power: a x^-b + c, with the floor c; logarithm: a + b log₂ x. [low, high]: 95 % interval over "
            "configurations, each the mean of its seeds (power: by an F test of the least squares; logarithm: Student "
            "t); not shown if it is unbounded.",
            f"Not supported: fewer than {FEWEST} levels, an interval of b that covers 0, less than {100 * POOR:.0f} % "
            f"of the variance explained, or deviations from the means beyond their error (p < {LEVEL / 5:g}).",
        ),
    )


def _parts(record: Record, frame: pd.DataFrame, axis: str) -> list[tuple[str, pd.DataFrame]]:
    others = [other for other in record.axes if other != axis]
    if len(others) != 1:
        return [("all", frame)]
    frame = frame[frame[others[0]].notna()]
    column = categories(record, others[0], frame[others[0]])
    name = axis_labels(record)[others[0]]
    return [(f"{name} {level}", frame[column == level]) for level in column.cat.categories]


def _laws(over: str, at: str, x: Array, y: Array) -> list[Row]:
    rows = []
    for kind, fit in (("power", fit_power_law), ("logarithm", fit_logarithm)):
        try:
            law: Any = fit(x, y)
        except ValueError:
            count = len(np.unique(x))
            verdict = Cell(f"no: {count} level{'' if count == 1 else 's'}, too few to fit")
            rows.append(Row((Cell(over), Cell(at), Cell(kind), *[Cell()] * 4, Cell(count), Cell(len(y)), verdict)))
            continue
        cells = [
            Cell(law.a),
            Cell(law.b, interval=_finite(law.b_interval)),
            Cell("") if law.c is None else Cell(law.c, interval=_finite(law.c_interval)),
            Cell(law.r2),
            Cell(law.levels),
            Cell(law.count),
            Cell("yes" if law.supported else f"no: {'; '.join(law.doubts)}"),
        ]
        rows.append(Row((Cell(over), Cell(at), Cell(kind), *cells)))
    return rows


def _finite(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return interval if interval is not None and np.isfinite(interval).all() else None
