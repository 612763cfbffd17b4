"""The effects of two axes together, and the tests behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, joined_labels, label_of
from analysis.configuration.levels import categories
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.objective import better
from analysis.configuration.replicates import replicates
from analysis.configuration.words import ARROWS, short_names
from analysis.record.runs import RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.intervals import Method
from analysis.tables.differences import difference_cells, difference_columns, tests_in_words
from analysis.tables.layout import (
    BLOCKS,
    check_method,
    estimated,
    population_notes,
    searched_configurations,
    stopped_notes,
)


def pivot(
    record: Recorded,
    rows: str,
    cols: str,
    metric: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
) -> Table:
    """The mean of a metric for each pair of values (or bins) of two axes, with its 95 % confidence interval.

    Means are over seeds if every pair is one configuration, otherwise over the finished configurations of the search,
    each the mean of its seeds. Their number is in brackets; a pair without a value says why. The best is bold; pairs
    that equal it within ``margin`` (by default from the metric's own error), that are undecided, or that could not be
    tested are marked. Controls and references are listed below, in a column of their own. ``metric`` is the first
    objective by default. Configurations stopped early are not in means, and their pairs are marked, unless ``unequal``
    includes their last evaluations. Raises ``RecordError`` for an unknown axis or metric, and if finished
    configurations were not trained equally (unless ``unequal``).

    >>> import analysis
    >>> analysis.pivot(analysis.example(), "model.operator.rank", "model.flow.depth")
    <Table pivot-rank-depth, 8 × 5>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    check_method(record, ci)
    rows, cols = axis_of(record, rows), axis_of(record, cols)
    if rows == cols:
        raise RecordError(f"{record.names}: rows and columns must be two axes, got {rows!r} twice")
    metric = metric_of(record, metric)
    frame, keys, left_out = _crossed(configurations, metric, [rows, cols], unequal)
    down, across = categories(record, rows, frame[rows]), categories(record, cols, frame[cols])
    compared = replicates(record, frame, metric, keys, [rows, cols], unequal, margin)
    cells, said = compared.cells(better(record, metric), ci)
    short, labels, beside = short_names(record.axes), axis_labels(record), _beside(configurations, metric, ci)
    body = [
        Row(
            (Cell(row), *(cells.get((row, col), Cell()) for col in across.cat.categories), *([Cell("")] * bool(beside)))
        )
        for row in down.cat.categories
    ]
    for name, block, cell in beside:
        body.append(Row((Cell(name), *[Cell("")] * len(across.cat.categories), cell), block))
    spec = number_format([cell.value for row in body for cell in row.cells if isinstance(cell.value, float)])
    columns = [
        Column(f"{labels[rows]} / {labels[cols]}", rows, "left"),
        *(Column(str(col), f"{cols} = {col}", spec=spec) for col in across.cat.categories),
        *([Column("beside", "beside", spec=spec)] if beside else []),
    ]
    return Table(
        name=f"pivot-{short[rows]}-{short[cols]}",
        title=f"{record.names}: mean {label_of(record, metric)} by {labels[rows]} (rows) and {labels[cols]} (columns)",
        columns=tuple(columns),
        rows=tuple(body),
        notes=(*said, *left_out, *population_notes(configurations, frame, metric)),
    )


def comparisons(
    record: Recorded,
    rows: str,
    cols: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
    margin: float | None = None,
) -> Table:
    """The best of an axis's values, or of the pairs of two axes, against every other: the tests behind ``pivot``.

    Each row has the difference of means with its interval; p after Holm's correction for all pairs and before, by
    flipping signs, and Wilcoxon's for six or more pairs; effect sizes; the detectable difference; and the verdict:
    different, equal within ``margin``, or undecided, with how many replicates would decide it. Raises ``RecordError``
    as ``pivot`` does, and if there is no best.

    >>> import analysis
    >>> analysis.comparisons(analysis.example(), "model.flow.depth")
    <Table comparisons-depth, 3 × 11>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    metric = metric_of(record, metric)
    axes = [axis_of(record, axis) for axis in (rows, cols) if axis is not None]
    if len(set(axes)) < len(axes):
        raise RecordError(f"{record.names}: comparisons of pairs need two different axes, got {axes[0]!r} twice")
    frame, keys, left_out = _crossed(configurations, metric, axes, unequal)
    compared = replicates(record, frame, metric, keys, axes, unequal, margin)
    top = compared.best(better(record, metric))
    if top is None:
        raise RecordError(f"{record.names}: nothing to compare: {metric} has no best value among {' × '.join(axes)}")
    # A cell without a value could not have been chosen.
    candidates = sum(not group.values.empty and not group.survivors for group in compared.groups.values())
    found = compared.against(top, list(compared.groups), chosen_among=candidates)
    means, short, labels = compared.cells(better(record, metric), "t")[0], short_names(record.axes), axis_labels(record)
    order = sorted(found.found, key=lambda key: abs(found.found[key].difference))
    body = [
        Row((*map(Cell, key if isinstance(key, tuple) else (key,)), means[key], *difference_cells(found, key)))
        for key in [top, *order]
    ]
    spec = number_format([cell.value for cell in means.values() if isinstance(cell.value, float)])
    return Table(
        name=f"comparisons-{'-'.join(short[axis] for axis in axes)}",
        title=f"{record.names}: {label_of(record, metric)} by {joined_labels(record, axes)}, against the best",
        columns=(
            *(Column(labels[axis], axis, "left") for axis in axes),
            Column(f"mean{ARROWS[better(record, metric)]}", metric, spec=spec),
            *difference_columns("best", spec),
        ),
        rows=tuple(body),
        notes=(
            *tests_in_words(compared, found, chosen=True),
            *left_out,
            *population_notes(configurations, frame, metric),
        ),
    )


def _beside(configurations: Configurations, metric: str, ci: Method) -> list[tuple[str, str, Cell]]:
    """Controls and references: name, block and value."""
    frame = configurations.of_kinds(["control", "reference"])
    found = []
    for row in frame.to_dict("records"):
        if row["state"] == "failed":
            found.append((row["name"], BLOCKS[row["kind"]], Cell(reason="failed")))
            continue
        count = None if pd.isna(row["seeds"]) else int(row["seeds"])
        cell = replace(estimated(configurations.record, row, metric, ci), count=count)
        found.append((row["name"], BLOCKS[row["kind"]], cell))
    return found


def _crossed(
    configurations: Configurations, metric: str, axes: Sequence[str], unequal: bool
) -> tuple[pd.DataFrame, pd.Series[Any], list[str]]:
    """The search's configurations, checked for equal training, and the cell of each: its level, or levels of two axes.

    The third value is notes on configurations in which an axis is inactive.
    """
    record = configurations.record
    frame, left_out = searched_configurations(configurations, metric, unequal, *axes)
    if not unequal:
        runs = record.runs[(record.runs["kind"] == "search") & (record.runs["state"] == "finished")]
        check_equal(record, runs, f"{metric} by {' and '.join(axes)}")
        left_out += stopped_notes(frame)
    columns = [categories(record, axis, frame[axis]).astype("object") for axis in axes]
    keys = list(zip(*columns, strict=True)) if len(axes) > 1 else list(columns[0])
    return frame, pd.Series(keys, frame.index, dtype="object"), left_out
