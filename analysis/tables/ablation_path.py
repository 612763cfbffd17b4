"""The path from a base configuration to the best one, one change at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.names import metric_of
from analysis.configuration.objective import way_of
from analysis.configuration.replicates import replicates
from analysis.configuration.words import ARROWS, word, words_of
from analysis.record.runs import Record, RecordError
from analysis.render.cells import MISSING, Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.tests import Comparison

MOST_CHANGES = 12
"""The most axes whose orders of change are searched; 12 axes have 4,096 subsets."""
NOT_MEASURED = "not measured"


def ablation_path(
    record: Recorded,
    metric: str | None = None,
    base: str | None = None,
    *,
    unequal: bool = False,
) -> Table:
    """The effect of each change from a base to the best configuration, with the differing axes changed one by one.

    The order of changes is the one with the most measured configurations on the way; of several, the one with the best
    values. Steps that were not measured are marked and never interpolated. Each measured step has its paired difference
    from the previous measured one, with its 95 % interval. These are not tests, since the path is chosen by values.
    ``base`` is a configuration's name; by default the spec's own values, measured or not. ``metric`` is the first
    objective by default. Raises ``RecordError`` for an unknown name or metric, if base and best are the same, if
    nothing between the two was measured, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> table = analysis.ablation_path(analysis.example(), base="t000")
    >>> [row.cells[0].value for row in table.rows]
    ['base: depth 1, rank 4', 'rank: 4 → 32', 'depth: 1 → 4']
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = metric_of(record, metric)
    direction = way_of(record, key, "there is no best to go to")
    frame = configurations.of_kinds(["search"])
    states = ["finished", "stopped"] if unequal else ["finished"]
    frame = frame[frame["state"].isin(states) & np.isfinite(frame[key].astype("float64"))]
    losses = frame[key].astype("float64") * (1 if direction == "min" else -1)
    if base is not None:
        record.checked(base, list(frame["name"]), "finished configuration")
    if frame.empty:
        raise RecordError(f"{record.names}: no configuration has finished with a value of {key}")
    started: Any = losses.idxmin() if base is None else frame.index[frame["name"] == base][0]
    sweep = record.sweep(str(frame.at[started, "sweep"]))
    same = frame["sweep"] == sweep.name
    frame, losses = frame[same], losses[same]
    axes = list(sweep.axes)
    words = pd.DataFrame({axis: words_of(frame[axis]) for axis in axes})
    places = {tuple(row): index for index, row in zip(words.index, words.to_numpy().tolist(), strict=True)}
    end: Any = losses.idxmin()
    if base is None:
        start = {axis: word(value) if (value := _leaf(sweep.spec, axis)) is not None else MISSING for axis in axes}
    else:
        start = dict(words.loc[frame.index[frame["name"] == base][0]])
    goal = dict(words.loc[end])
    changes = [axis for axis in axes if start[axis] != goal[axis]]
    if not changes:
        raise RecordError(f"{record.names}: {frame['name'][end]} is the base and the best; give another base")
    if len(changes) > MOST_CHANGES:
        raise RecordError(f"{record.names}: base and best differ in {len(changes)} axes, more than {MOST_CHANGES}")

    def found(done: frozenset[str]) -> Any:
        return places.get(tuple(goal[axis] if axis in done else start[axis] for axis in axes))

    order = _path(changes, {done: found(done) for done in _subsets(changes)}, losses.to_dict())
    steps = [found(frozenset(order[:count])) for count in range(len(order) + 1)]
    if all(step is None for step in steps[1:-1]) and len(steps) > 2:
        raise RecordError(
            f"{record.names}: no configuration between the base and {frame['name'][end]} was trained; use a grid"
        )
    measured = [step for step in steps if step is not None]
    if not unequal:
        _check_equal(record, frame.loc[measured], key)
    compared = replicates(record, frame.loc[measured], key, pd.Series(measured, measured), axes, unequal)
    short, rows, before = axis_labels(record), [], None
    for count, step in enumerate(steps):
        axis = order[count - 1] if count else ""
        point = ", ".join(f"{short[each]} {start[each]}" for each in axes if start[each] != MISSING)
        name = f"{short[axis]}: {start[axis]} → {goal[axis]}" if count else f"base: {point}"
        if step is None:
            rows.append(Row((Cell(name), Cell(""), Cell(reason=NOT_MEASURED), Cell(""))))
            continue
        gap: Comparison | None = None if before is None else compared.comparison(step, before)
        rows.append(
            Row(
                (
                    Cell(name),
                    Cell(str(frame["name"][step])),
                    compared.cell(step, "t"),
                    Cell("") if gap is None else Cell(gap.difference, gap.half_width, gap.n),
                )
            )
        )
        before = step
    spec = number_format([float(frame[key][step]) for step in measured])
    return Table(
        name="ablation-path",
        title=f"{record.names}: {label_of(record, key)}, from the base to the best, one change at a time",
        columns=(
            Column("change", "change", "left"),
            Column("configuration", "configuration", "left"),
            Column(f"mean{ARROWS[direction]}", key, spec=spec),
            Column("− measured before", "difference from the one measured before", spec=spec),
        ),
        rows=tuple(rows),
        notes=(
            f"{len(measured)} of {len(steps)} configurations on the way were measured; no order of changes has more. "
            "±: 95 % interval, of differences paired over common seeds (Student t). Since best and order are chosen by "
            "their values, the steps are descriptive, not tests.",
        ),
    )


def _subsets(changes: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(axis for bit, axis in enumerate(changes) if mask >> bit & 1) for mask in range(2 ** len(changes))]


def _path(changes: Sequence[str], found: Mapping[frozenset[str], Any], losses: Mapping[Any, float]) -> list[str]:
    """The order of changes with the most measured configurations on the way; of several, the smallest losses."""

    @cache
    def way(done: frozenset[str]) -> tuple[int, float, tuple[str, ...]]:
        """The number of measured configurations so far, minus their losses, and the order."""
        step = found[done]
        here = (0, 0.0) if step is None else (1, -losses[step])
        if not done:
            return *here, ()
        count, gain, order = max(
            ((*way(done - {axis})[:2], (*way(done - {axis})[2], axis)) for axis in changes if axis in done),
            key=lambda each: each[:2],
        )
        return count + here[0], gain + here[1], order

    return list(way(frozenset(changes))[2])


def _check_equal(record: Record, frame: pd.DataFrame, key: str) -> None:
    trials = {(row["sweep"], trial) for row in frame.to_dict("records") for trial in row["trials"]}
    runs = record.runs
    chosen = [pair in trials for pair in zip(runs["sweep"], runs["trial"], strict=True)]
    check_equal(record, runs[chosen], f"{key}, from the base to the best,")


def _leaf(spec: Mapping[str, Any], name: str) -> Any:
    """The base configuration's value of a dotted name; None if the spec does not set it."""
    value: Any = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
