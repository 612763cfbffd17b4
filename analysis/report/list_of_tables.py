"""Which tables a record gives: the ablation itself, and the statistics that support it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.configuration.levels import is_number
from analysis.record.runs import Record, RecordError
from analysis.render.table import Table
from analysis.statistics.intervals import Method
from analysis.tables.anytime import anytime
from analysis.tables.configurations import configurations
from analysis.tables.importance import importance
from analysis.tables.interaction import interaction
from analysis.tables.marginal import marginal
from analysis.tables.one_factor import one_factor
from analysis.tables.pairs import comparisons, pivot
from analysis.tables.pareto import front
from analysis.tables.scaling import scaling
from analysis.tables.steps import steps_to_quality


@dataclass(frozen=True)
class Tables:
    """Tables, and for each that could not be made why, in one line."""

    made: list[Table]
    refused: list[str]


def ablation_tables(
    record: Record,
    metrics: Sequence[str] | None = None,
    rows: str | None = None,
    cols: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
) -> Tables:
    """What ``linsweep table`` prints.

    Every configuration and a table for each axis; or, where they are given, the axis ``rows`` or ``cols`` alone, or
    the grid of both, with the tests behind it. ``metrics`` are the columns of the first, and the first of them is
    what the others are about. Raises ``RecordError`` where what was asked for by name cannot be made.
    """
    metric = metrics[0] if metrics else None
    if rows is not None and cols is not None:
        grid = pivot(record, rows, cols, metric, ci=ci, unequal=unequal)
        more = _tried([lambda: comparisons(record, rows, cols, metric, unequal=unequal)])
        return Tables([grid, *more.made], more.refused)
    axis = rows or cols
    if axis is not None:
        return Tables([marginal(record, axis, metric, ci=ci, unequal=unequal)], [])
    whole = configurations(record, metrics, ci=ci)
    made = _tried([_marginal(record, axis, metric, ci, unequal) for axis in record.axes])
    return Tables([whole, *made.made], made.refused)


def statistics_tables(
    record: Record,
    metric: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
) -> Tables:
    """Everything else that the record supports.

    Changes one at a time, importances, laws, the interaction of the first two axes of numbers, the Pareto front,
    solver steps and, of several sweeps, what each had found by when. ``metric`` is the first objective by default.
    """
    wanted: list[Callable[[], Table]] = [
        lambda: one_factor(record, metric, ci=ci, unequal=unequal),
        lambda: importance(record, metric, unequal=unequal),
        lambda: scaling(record, metric, unequal=unequal),
    ]
    numeric = [axis for axis in record.axes if is_number(record.runs[axis])]
    if len(numeric) > 1:
        wanted.append(lambda: interaction(record, numeric[0], numeric[1], metric, unequal=unequal))
    wanted.append(lambda: front(record, unequal=unequal))
    if record.curves["metric"].astype("str").str.startswith("nfe/").any():
        wanted.append(lambda: steps_to_quality(record))
    if len(record.sweeps) > 1:
        wanted.append(lambda: anytime(record, metric, unequal=unequal))
    return _tried(wanted)


def _marginal(record: Record, axis: str, metric: str | None, ci: Method, unequal: bool) -> Callable[[], Table]:
    return lambda: marginal(record, axis, metric, ci=ci, unequal=unequal)


def _tried(wanted: Sequence[Callable[[], Table]]) -> Tables:
    found = Tables([], [])
    for make in wanted:
        try:
            found.made.append(make())
        except RecordError as error:
            found.refused.append(str(error))
    return found
