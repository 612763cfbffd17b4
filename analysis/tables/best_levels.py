"""The values of an axis, each at its own best: for example, depths at their own best learning rates."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.levels import categories
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.objective import better
from analysis.configuration.replicates import population, replicates
from analysis.configuration.words import ARROWS, words_of
from analysis.record.runs import RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.tables.differences import difference_cells, difference_columns, tests_in_words


def best_levels(
    record: Recorded,
    axis: str,
    metric: str | None = None,
    *,
    unequal: bool = False,
    margin: float | None = None,
) -> Table:
    """Each value of an axis at its best configuration, chosen on the validation split and compared on the test split.

    A mean over all other axes includes settings that nobody would use, such as a depth at unsuitable learning rates.
    Here each value (or bin) is represented by its configuration with the best ``metric`` on validation, and its value
    on the test split, which took no part in the choice, is compared with the best one's, paired over seeds as in
    ``comparisons``. ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown axis or metric,
    a metric that is not measured on both validation (``quality/…``) and test, and for unequal training (unless
    ``unequal``).

    >>> import analysis
    >>> table = analysis.best_levels(analysis.example(), "depth")
    >>> [(row.cells[0].value, row.cells[1].value) for row in table.rows]
    [('4', 'rank 32'), ('2', 'rank 32'), ('1', 'rank 32')]
    """
    configurations = Configurations.of(record)
    record = configurations.record
    axis, key = axis_of(record, axis), metric_of(record, metric)
    told = re.sub("^quality/", "test/", key)
    direction = better(record, key)
    if direction is None or told == key or told not in record.metrics:
        raise RecordError(
            f"{record.names}: the best of each {axis} is chosen on validation and compared on test, but {key} is not "
            "measured on both; choose a quality/… metric that also has a test/… key"
        )
    if not unequal:
        runs = record.runs[(record.runs["kind"] == "search") & (record.runs["state"] == "finished")]
        check_equal(record, runs, f"the best {key} of each {axis}")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"] & frame[axis].notna() & np.isfinite(frame[told].astype("float64"))]
    if frame.empty:
        raise RecordError(f"{record.names}: no configuration has finished with values of {key} and {told}")
    levels = categories(record, axis, frame[axis]).astype("object")
    if levels.nunique() < 2:
        raise RecordError(f"{record.names}: nothing to compare: {axis} is {levels.iloc[0]} wherever {key} was measured")
    losses = frame[key].astype("float64") * (1 if direction == "min" else -1)
    best = losses.groupby(levels, sort=False).idxmin().tolist()
    chosen = frame.loc[best]
    compared = replicates(record, chosen, told, pd.Series(levels[best].tolist(), best), record.axes, unequal, margin)
    top = compared.best(direction)
    if top is None:
        raise RecordError(f"{record.names}: {told} has no best value among the values of {axis}")
    tests = compared.against(top, list(compared.groups), chosen_among=len(compared.groups))
    short, arrow = axis_labels(record), ARROWS[direction]
    others = [each for each in record.axes if each != axis and frame[each].nunique() > 1]
    words = {each: words_of(chosen[each]) for each in others}
    order = sorted(tests.found, key=lambda level: abs(tests.found[level].difference))
    rows = []
    for level in [top, *order]:
        index = next(index for index in best if levels[index] == level)
        place = ", ".join(f"{short[each]} {words[each][index]}" for each in others if not pd.isna(chosen[each][index]))
        tried = int((levels == level).sum())
        cells = [Cell(str(level)), Cell(place or str(chosen["name"][index])), Cell(tried)]
        cells += [Cell(float(chosen[key][index])), compared.cell(level, "t"), *difference_cells(tests, level)]
        rows.append(Row(tuple(cells)))
    specs = {name: number_format(chosen[name].astype("float64")) for name in (key, told)}
    notes = [
        "Each value at its best configuration on validation, compared on test, which took no part in the choice.",
        *tests_in_words(compared, tests, chosen=True),
    ]
    if len({row.cells[2].value for row in rows}) > 1:
        notes.append("The best of more configurations (tried) is better by chance alone.")
    return Table(
        name=f"best-{axis.rpartition('.')[2]}",
        title=f"{record.names}: {label_of(record, told)} by {short[axis]}, each at its own best",
        columns=(
            Column(short[axis], axis, "left"),
            Column("at", "configuration", "left"),
            Column("tried", "tried", spec="d"),
            Column(f"validation{arrow}", key, spec=specs[key]),
            Column(f"test{arrow}", told, spec=specs[told]),
            *difference_columns("best", specs[told]),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )
