"""The table of one axis's effect."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.levels import categories
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.objective import better
from analysis.configuration.replicates import replicates
from analysis.configuration.words import ARROWS, short_names
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.intervals import Method
from analysis.tables.layout import check_method, population_notes, searched_configurations, stopped_notes


def marginal(
    record: Recorded,
    axis: str,
    metric: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
) -> Table:
    """The effect of one axis, with one row per value, or at most five bins of values.

    For the finished configurations of the search, a row has their number, the best, and the mean with its 95 %
    confidence interval; then the numbers of those stopped early and failed, which are not in the mean (with
    ``unequal``, stopped ones are). ``metric`` is the first objective by default; ``margin`` is as in ``pivot``. Raises
    ``RecordError`` for an unknown axis or metric, and if finished configurations were not trained equally (unless
    ``unequal``).

    >>> import analysis
    >>> table = analysis.marginal(analysis.example(), "model.flow.depth")
    >>> [(row.cells[0].value, round(row.cells[3].value, 1)) for row in table.rows]
    [('1', 91.4), ('2', 69.5), ('4', 70.7)]
    """
    configurations = Configurations.of(record)
    record = configurations.record
    check_method(record, ci)
    axis, metric = axis_of(record, axis), metric_of(record, metric)
    direction = better(record, metric)
    frame, left_out = searched_configurations(configurations, metric, unequal, axis)
    searched = record.runs[record.runs["kind"] == "search"]
    if not unequal:
        check_equal(record, searched[searched["state"] == "finished"], f"{metric} by {axis}")
    column = categories(record, axis, frame[axis])
    taking = frame[frame["counts"] | (frame["state"] != "stopped")]
    compared = replicates(record, taking, metric, column[taking.index].astype("object"), [axis], unequal, margin)
    means, said = compared.cells(direction, ci)
    rows = []
    for level in column.cat.categories:
        here = frame[column == level]
        values = here.loc[here["counts"], metric]
        others = [int((here["state"] == state).sum()) for state in ("stopped", "failed", "unfinished")]
        cells = [Cell(level), Cell(len(values)), Cell(_top(values, direction)), means.get(level, Cell())]
        rows.append([*cells, *map(Cell, others)])
    spec, arrow = number_format(frame.loc[frame["counts"], metric]), ARROWS[direction]
    columns = [
        Column(str(label_of(record, axis)), axis, "left"),
        Column("finished", "finished", spec="d"),
        Column(f"best{arrow}", f"best {metric}", spec=spec),
        Column(f"mean{arrow}", metric, spec=spec),
        *(Column(state, state, spec="d") for state in ("stopped", "failed", "unfinished")),
    ]
    # Columns without information are left out: the best of a metric without a direction, and zeros.
    silent = {2} if direction is None else set()
    silent |= {6} if all(row[6].value == 0 for row in rows) else set()
    kept = [index for index in range(len(columns)) if index not in silent]
    if not unequal:
        said += stopped_notes(frame)
    return Table(
        name=f"marginal-{short_names(record.axes)[axis]}",
        title=f"{record.names}: {label_of(record, metric)} by {label_of(record, axis)}",
        columns=tuple(columns[index] for index in kept),
        rows=tuple(Row(tuple(row[index] for index in kept)) for row in rows),
        notes=(*said, *left_out, *population_notes(configurations, frame, metric)),
    )


def _top(values: pd.Series[Any], direction: str | None) -> float | None:
    if direction is None or values.empty:
        return None
    return float(values.min() if direction == "min" else values.max())
