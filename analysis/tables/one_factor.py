"""The table of single changes from a base configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.names import metric_of
from analysis.configuration.objective import better
from analysis.configuration.replicates import replicates
from analysis.configuration.words import ARROWS, words_of
from analysis.record.runs import RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.intervals import Method
from analysis.tables.differences import difference_cells, difference_columns, tests_in_words
from analysis.tables.layout import check_method, failure_notes


def one_factor(
    record: Recorded,
    metric: str | None = None,
    base: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
) -> Table:
    """Configurations that differ from a base in one axis, and the controls, each compared with the base.

    ``base`` is a configuration's name; by default the configuration with the spec's own values, otherwise the best.
    Each row has the mean over seeds, the paired difference from the base with its interval, p with Holm's correction
    across the table, effect sizes, and the verdict as in ``comparisons``, with its ``margin``. ``metric`` is the first
    objective by default. Raises ``RecordError`` for an unknown name or metric, if nothing differs from the base in one
    axis only, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> analysis.one_factor(analysis.example(), base="t011")
    <Table one-factor, 7 × 11>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    check_method(record, ci)
    metric = metric_of(record, metric)
    every = configurations.frame
    states = ["finished", "stopped"] if unequal else ["finished"]
    finite = np.isfinite(every[metric].astype("float64"))
    every = every.assign(counts=every["state"].isin(states) & finite)
    start, chosen = _base(configurations, every, base)
    here = every[(every["sweep"] == every["sweep"][start]) & every["kind"].isin(["search", "control"])]
    axes = list(record.sweep(every["sweep"][start]).axes)
    words = {axis: words_of(here[axis]) for axis in axes}
    # An axis that is inactive in one of the two does not count: it changes with the axis it depends on.
    there = here[axes].notna()
    both = {index: [axis for axis in axes if there[axis][index] and there[axis][start]] for index in here.index}
    changed = {
        index: [axis for axis in both[index] if words[axis][index] != words[axis][start]]
        for index in here.index[here["kind"] == "search"]
    }
    near = {index: names[0] for index, names in changed.items() if len(names) == 1}
    controls = [index for index in here.index[here["kind"] == "control"] if index != start]
    if not near and not controls:
        raise RecordError(
            f"{record.names}: no configuration differs from {every['name'][start]} in one axis, and there are no "
            "controls"
        )
    order = [start, *sorted(near, key=lambda index: (axes.index(near[index]), index)), *controls]
    frame = here.loc[order]
    if not unequal:
        trials = {(row["sweep"], trial) for _, row in frame.iterrows() for trial in row["trials"]}
        runs = record.runs
        chosen_runs = [key in trials for key in zip(runs["sweep"], runs["trial"], strict=True)]
        check_equal(record, runs[chosen_runs], f"{metric}, one change at a time,")
    compared = replicates(record, frame, metric, pd.Series(order, order), record.axes, unequal, margin)
    among = int(here.loc[here["kind"] == "search", "counts"].sum()) if chosen else None
    found = compared.against(start, order, chosen_among=among)
    short = axis_labels(record)
    body = []
    for index in order:
        axis = near.get(index)
        new = [other for other in axes if there[other][index] and not there[other][start]]
        parts = [f"{short[each]} = {words[each][index]}" for each in (axis, *new) if each is not None]
        name = every["name"][index] if axis is None else ", ".join(parts)
        block = "controls" if index in controls else short[axis] if axis else ""
        label = f"base: {name}" if index == start else name
        body.append(Row((Cell(label), compared.cell(index, ci), *difference_cells(found, index)), block))
    spec = number_format([row.cells[1].value for row in body if isinstance(row.cells[1].value, float)])
    point = ", ".join(f"{short[axis]} {words[axis][start]}" for axis in axes if there[axis][start])
    return Table(
        name="one-factor",
        title=f"{record.names}: {label_of(record, metric)}, one change at a time from {point}",
        columns=(
            Column("change", "change", "left"),
            Column(f"mean{ARROWS[better(record, metric)]}", metric, spec=spec),
            *difference_columns("base", spec),
        ),
        rows=tuple(body),
        notes=(*tests_in_words(compared, found, chosen), *failure_notes(record)),
    )


def _base(configurations: Configurations, frame: pd.DataFrame, name: str | None) -> tuple[Any, bool]:
    """The row of the base configuration, and whether it was chosen by its value."""
    record = configurations.record
    tried = frame[frame["kind"].isin(["search", "control"])]
    if name is not None:
        record.checked(name, list(tried["name"]), "configuration")
        return tried.index[tried["name"] == name][0], False
    for sweep in record.sweeps:
        mine = tried[(tried["sweep"] == sweep.name) & (tried["kind"] == "search")]
        own = {axis: _leaf(sweep.spec, axis) for axis in sweep.axes}
        for index, row in mine.iterrows():
            active = [axis for axis in sweep.axes if not pd.isna(row[axis])]
            if row["counts"] and active and all(row[axis] == own[axis] for axis in active):
                return index, False
    top = configurations.best
    if top is None:
        raise RecordError(f"{record.names}: no finished configuration can be the base of a comparison")
    found = (tried["sweep"] == top.sweep) & (tried["trials"] == top.trials)
    return tried.index[found][0], True


def _leaf(spec: Mapping[str, Any], name: str) -> Any:
    """The base configuration's value of a dotted name."""
    value: Any = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
