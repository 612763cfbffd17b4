"""Pareto fronts over any objectives of a sweep, and the hypervolume that they dominate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.levels import is_number
from analysis.configuration.names import metric_of
from analysis.configuration.objective import better, first_objective
from analysis.configuration.replicates import population, seed_values
from analysis.record.runs import Direction, Record, RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.fronts import hypervolume, nondominated
from analysis.statistics.intervals import Array
from analysis.tables.layout import header

COSTS = ("cost/params", "cost/sample_mflop_collapsed")
"""Costs added as objectives if the sweep has only one."""


def front(
    record: Recorded,
    objectives: Mapping[str, Direction] | None = None,
    *,
    reference: Mapping[str, float] | None = None,
    unequal: bool = False,
) -> Table:
    """The Pareto front: the configurations of the search that are not dominated by another one.

    ``objectives`` are metric keys and their directions; by default the sweep's, with size and sampling cost added if
    there is only one. The last column gives the number of seeds at which a configuration is on the front of that seed
    alone. For up to three objectives, a note gives the share of the box between the best values and the ``reference``
    (by default the worst values of all finished configurations) that the front dominates. Raises ``RecordError`` for
    an unknown metric, fewer than two objectives, nothing finished, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> table = analysis.front(analysis.example())
    >>> [row.cells[0].value for row in table.rows]
    ['t011', 't007', 't006', 't003', 't002', 't001', 't000']
    """
    configurations = Configurations.of(record)
    record = configurations.record
    asked = _default_objectives(record) if objectives is None else objectives
    wanted = {metric_of(record, metric): direction for metric, direction in asked.items()}
    for metric, direction in wanted.items():
        if direction not in ("min", "max"):
            raise RecordError(f"{record.names}: {metric} must be min or max, got {direction!r}")
    if len(wanted) < 2:
        raise RecordError(f"{record.names}: a front needs two objectives, got {', '.join(wanted) or 'none'}")
    frame = population(configurations, next(iter(wanted)))
    runs = record.runs[(record.runs["kind"] == "search") & (record.runs["state"] == "finished")]
    if not unequal:
        check_equal(record, runs, "a front")
    frame = frame[frame["state"] == "finished"]
    finite = pd.Series(np.isfinite(frame[list(wanted)].to_numpy(dtype=np.float64)).all(axis=1), frame.index)
    left_out, frame = int((~finite).sum()), frame[finite]
    if frame.empty:
        raise RecordError(f"{record.names}: no finished configuration has {' and '.join(wanted)}")
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in wanted.values()])
    points = frame[list(wanted)].to_numpy(dtype=np.float64) * signs
    kept = nondominated(points)
    times, seeds = _fronts_of_seeds(record, frame, list(wanted), signs)
    first = next(iter(wanted))
    order = frame[kept].sort_values(first, ascending=wanted[first] == "min").index
    axes, short = record.axes, axis_labels(record)
    rows = []
    for index in order:
        row = frame.loc[index]
        cells = [Cell(row["name"]), *(_axis_cell(row[axis]) for axis in axes)]
        for metric in wanted:
            half_width = float(row[f"{metric} ci95"])
            fixed = np.isnan(half_width) or metric == "cost/params"
            cells.append(Cell(float(row[metric]), None if fixed else half_width))
        rows.append(Row((*cells, Cell(f"{times[index]} of {seeds[index]}"))))
    notes = [f"{len(rows)} of {len(frame)} finished configurations; no other one is better in every objective."]
    notes += _volume_note(record, wanted, points, signs, reference)
    if left_out:
        notes.append(f"Left out: {left_out} finished without a finite value of every objective.")
    columns = [
        Column("configuration", "configuration", "left"),
        *(
            Column(short[axis], axis, "right" if is_number(frame[axis]) else "left", _axis_spec(frame[axis]))
            for axis in axes
        ),
        *(Column(header(record, metric), metric, spec=number_format(frame[metric])) for metric in wanted),
        Column("seeds", "front of seeds", "left"),
    ]
    words = " and ".join(f"{label_of(record, metric)} ({direction})" for metric, direction in wanted.items())
    return Table("pareto", f"{record.names}: Pareto front of {words}", tuple(columns), tuple(rows), tuple(notes))


def _default_objectives(record: Record) -> dict[str, Direction]:
    if len(record.objective) > 1:
        return record.objective
    key, direction = first_objective(record)
    costs: list[str] = [cost for cost in COSTS if cost in record.metrics]
    return {key: direction} | {cost: better(record, cost) or "min" for cost in costs}


def _fronts_of_seeds(
    record: Record, frame: pd.DataFrame, metrics: list[str], signs: Array
) -> tuple[dict[Any, int], dict[Any, int]]:
    """For each configuration, at how many seeds it is on the front of that seed, and its number of seeds."""
    columns = {metric: seed_values(record, frame, metric, unequal=False) for metric in metrics}
    long = pd.DataFrame(
        [(index, seed, *(columns[metric][index].get(seed, np.nan) for metric in metrics))
         for index in frame.index for seed in columns[metrics[0]][index]],
        columns=["index", "seed", *metrics],
    ).dropna()  # fmt: skip
    times, seeds = dict.fromkeys(frame.index, 0), dict.fromkeys(frame.index, 0)
    for _, group in long.groupby("seed"):
        kept = nondominated(group[metrics].to_numpy(dtype=np.float64) * signs)
        for index, on_front in zip(group["index"], kept, strict=True):
            seeds[index] += 1
            times[index] += int(on_front)
    return times, seeds


def _axis_cell(value: Any) -> Cell:
    if pd.isna(value):
        return Cell()
    if isinstance(value, bool | np.bool_):
        return Cell(str(value).lower())
    return Cell(value.item() if isinstance(value, np.generic) else value)


def _axis_spec(values: pd.Series[Any]) -> str:
    if not is_number(values):
        return ""
    return "d" if pd.api.types.is_integer_dtype(values) else ".3g"


def _volume_note(
    record: Record, wanted: Mapping[str, Direction], points: Array, signs: Array, reference: Mapping[str, float] | None
) -> list[str]:
    if len(wanted) > 3:
        return []
    corner = points.max(axis=0)
    if reference is not None:
        if set(reference) != set(wanted):
            raise RecordError(f"the reference must have {', '.join(wanted)}, got {', '.join(reference)}")
        if not all(math.isfinite(value) for value in reference.values()):
            raise RecordError(f"the reference must be finite, got {dict(reference)}")
        corner = np.array([reference[metric] for metric in wanted]) * signs
    box = float(np.prod(corner - points.min(axis=0)))
    told = ", ".join(
        f"{label_of(record, metric)} {value:.4g}" for metric, value in zip(wanted, corner * signs, strict=True)
    )
    if box <= 0:
        return [
            f"No hypervolume: an objective has one value only, or the reference ({told}) is better than the best value."
        ]
    volume = hypervolume(points, corner)
    return [
        f"Hypervolume {volume:.4g} from the reference ({told}), "
        f"{100 * volume / box:.1f} % of the box between it and the best values."
    ]
