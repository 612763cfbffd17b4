"""The table of controls, which must be worse than the configuration, and how many times worse they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.controls import (
    TIMES,
    WORDS,
    Control,
    controls_of,
    judged,
    metric_of_controls,
    recorded_controls,
    spec_controls,
)
from analysis.configuration.labels import metric_label
from analysis.configuration.objective import better
from analysis.configuration.sampled import sampled_key, stem
from analysis.configuration.variety import precision_and_recall
from analysis.configuration.words import ARROWS
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.tables.layout import BLOCKS, caveat_notes, python_value

LOST, UNTOLD = "✗", "?"
"""Marks after a ratio: the control is not beaten; the ratio has no interval, since there is one seed."""


def controls(record: Recorded, metric: str | None = None) -> Table:
    """Each configuration's value on the test split, that of each control, and how many times worse the control is.

    A control is beaten if it is at least 1.5 times worse, and by more than the interval. The spec's controls are rows
    of their own, compared with the best configuration (at fresh seeds if it was confirmed). Ratios are means over seeds
    of each seed's ratio, with 95 % Student t intervals. Precision and recall are shown if they were recorded.
    ``metric`` is a quality metric, by default the first objective's. Raises ``RecordError`` if no control has been
    measured.

    >>> import analysis
    >>> table = analysis.controls(analysis.load("affine/operators"))
    >>> [row.cells[1].value for row in table.rows]
    ['all', 'not flat', 'all']
    """
    configurations = Configurations.of(record)
    record = configurations.record
    names = recorded_controls(record)
    if not names and configurations.of_kinds(["control"]).empty:
        raise RecordError(f"{record.names}: no control was recorded")
    metric = metric_of_controls(record, metric)
    key = sampled_key(record, "test", metric)
    if key not in record.metrics:
        raise RecordError(f"{record.names}: no configuration has a value of {key}")
    top = judged(configurations)
    spec = {} if top is None else {each.name: each for each in spec_controls(configurations, top, metric)}
    frame = configurations.ranked
    frame = frame[frame["kind"].isin(["search", "confirm", "control"]) & (frame["finished"] > 0) & frame[key].notna()]
    beside = precision_and_recall(record, key)
    rows: list[tuple[Mapping[Any, Any], list[Control], Control | None]] = []
    for row in frame.to_dict("records"):
        against = spec.get(str(row["name"])) if row["kind"] == "control" else None
        rows.append((row, controls_of(record, row, metric), against))
    if not any(found or against for _, found, against in rows):
        raise RecordError(f"{record.names}: no control has finished")
    shown = [name for name in names if any(control.name == name for _, found, _ in rows for control in found)]
    values = [float(row[key]) for row, _, _ in rows] + [each.value.mean for _, found, _ in rows for each in found]
    spec_of, arrow = number_format(values), ARROWS[better(record, key)]
    columns = [
        Column("configuration", "configuration", "left"),
        Column("beaten", "beaten", "left"),
        Column(f"{metric_label(record, metric)}{arrow}", key, spec=spec_of),
        *(Column(stem(name) + ARROWS["max"], name, spec=".3f") for name in beside),
    ]
    if spec:
        columns.append(Column("× best", "times the best", spec=".2f"))
    for name in shown:
        columns += [Column(f"{name}{arrow}", f"test {name}", spec=spec_of), Column("×", f"times {name}", spec=".2f")]
    return Table(
        name="controls",
        title=f"{record.names}: {metric_label(record, metric)} of the controls, on the test split",
        columns=tuple(columns),
        rows=tuple(_row(row, found, against, key, beside, shown, bool(spec)) for row, found, against in rows),
        notes=tuple(_notes(record, rows, shown, key, top, bool(spec))),
    )


def _row(
    row: Mapping[Any, Any],
    found: Sequence[Control],
    against: Control | None,
    key: str,
    beside: Sequence[str],
    shown: Sequence[str],
    spec: bool,
) -> Row:
    cells = [Cell(row["name"]), Cell(_verdict([*found, *([against] if against else [])]))]
    cells += [_value(row, name) for name in (key, *beside)]
    if spec:
        cells.append(Cell() if against is None else _ratio(against))
    by_name = {each.name: each for each in found}
    for name in shown:
        each = by_name.get(name)
        if each is None:
            cells += [Cell(), Cell()]
        else:
            cells += [Cell(each.value.mean, _half(each.value.low, each.value.high), each.value.n), _ratio(each)]
    return Row(tuple(cells), BLOCKS[row["kind"]])


def _verdict(found: Sequence[Control]) -> str:
    """``all`` if all controls are beaten, otherwise the names of those that are not."""
    lost = [each.name for each in found if not each.beaten and each.told]
    if lost:
        return f"not {', '.join(lost)}"
    return UNTOLD if any(not each.told for each in found) else "all" if found else ""


def _ratio(control: Control) -> Cell:
    marker = "" if control.beaten else LOST if control.told else UNTOLD
    return Cell(control.ratio.mean, control.half_width, marker=marker)


def _value(row: Mapping[Any, Any], key: str) -> Cell:
    half = float(row[f"{key} ci95"])
    seeds = row["seeds"]
    return Cell(python_value(row[key]), None if math.isnan(half) else half, None if pd.isna(seeds) else int(seeds))


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def _notes(
    record: Record,
    rows: Sequence[tuple[Mapping[Any, Any], Sequence[Control], Control | None]],
    shown: Sequence[str],
    key: str,
    top: Mapping[Any, Any] | None,
    spec: bool,
) -> list[str]:
    notes = [
        "×: how many times worse than the configuration's own value; the mean over seeds of each seed's ratio. Beaten: "
        f"at least {TIMES:g} times worse, and by more than the interval; {LOST}: not beaten. In brackets: number of "
        "seeds. ±: 95 % interval (Student t)."
    ]
    if any(not each.told for _, found, against in rows for each in [*found, *([against] if against else [])]):
        notes.append(f"{UNTOLD}: with one seed there is no interval, and no conclusion.")
    if shown:
        told = "; ".join(f"{name}: {WORDS[name][0]}" for name in shown if name in WORDS)
        notes.append(f"With the same g, rank and noise: {told}.")
    if spec and top is not None:
        where = ", at fresh seeds" if top["kind"] == "confirm" else ""
        notes.append(f"The spec's controls are compared with {top['name']}, the best{where}, by seed.")
    return notes + caveat_notes(record, [key])
