"""The tables of a record: the ablation itself, and the statistics that support it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.configuration.blocks import has_several_sets
from analysis.configuration.chance import chance_axes
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.controls import recorded_controls
from analysis.configuration.curves import curve_keys
from analysis.configuration.labels import QUALITY
from analysis.configuration.levels import is_number
from analysis.configuration.names import metric_of
from analysis.record.frames import RANKS, STEPS
from analysis.record.runs import RecordError
from analysis.render.table import Table
from analysis.statistics.intervals import Method
from analysis.tables.ablation_path import ablation_path
from analysis.tables.across import across_sets
from analysis.tables.anytime import anytime
from analysis.tables.best_levels import best_levels
from analysis.tables.configurations import configurations
from analysis.tables.controls import controls
from analysis.tables.early_stopping import early_stopping
from analysis.tables.expected_best import expected_best
from analysis.tables.health import health
from analysis.tables.importance import importance
from analysis.tables.importance_pairs import importance_pairs
from analysis.tables.interaction import interaction
from analysis.tables.marginal import marginal
from analysis.tables.one_factor import one_factor
from analysis.tables.pairs import comparisons, pivot
from analysis.tables.pareto import front
from analysis.tables.partial_dependence import dependence_table
from analysis.tables.ranks import quality_by_rank
from analysis.tables.scaling import scaling
from analysis.tables.steps import steps_to_quality
from analysis.tables.variance import variance


@dataclass(frozen=True)
class Tables:
    """Tables, and one line per table that could not be made, with the reason."""

    made: list[Table]
    refused: list[str]


def ablation_tables(
    record: Recorded,
    metrics: Sequence[str] | None = None,
    rows: str | None = None,
    cols: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
    across: str | None = None,
) -> Tables:
    """The tables that ``linsweep table`` prints.

    By default: every configuration, one table per axis, the variance by source if seeds were searched, and tables of
    sampling ranks and controls if trials measured them. With ``rows`` or ``cols``: only that axis, or with both their
    grid and the tests behind it. With ``across``: a comparison over the values of a leaf, such as data sets, by
    configuration or by the values of the axis ``rows``. ``metrics`` are the columns of the first table; the other
    tables are about the first of them. Raises ``RecordError`` if a table that was asked for by name cannot be made.
    """
    found = Configurations.of(record)
    record = found.record
    metric = metric_of(record, metrics[0]) if metrics else None
    if across is not None:
        if cols is not None:
            raise RecordError(f"{record.names}: --across replaces --cols; give --rows, or neither")
        return Tables([across_sets(found, across, rows, metric, unequal=unequal)], [])
    if rows is not None and cols is not None:
        grid = pivot(found, rows, cols, metric, ci=ci, unequal=unequal, margin=margin)
        more = _tried([lambda: comparisons(found, rows, cols, metric, unequal=unequal, margin=margin)])
        return Tables([grid, *filter(_says_something, more.made)], more.refused)
    axis = rows or cols
    if axis is not None:
        return Tables([marginal(found, axis, metric, ci=ci, unequal=unequal, margin=margin)], [])
    whole = configurations(found, metrics, ci=ci)
    seeds = chance_axes(record)
    wanted = [_marginal(found, axis, metric, ci, unequal, margin) for axis in record.axes if axis not in seeds]
    if seeds:
        wanted.append(lambda: variance(found, metric, unequal=unequal))
    match = QUALITY.fullmatch(metric or "")
    about = match["metric"] if match else None
    if curve_keys(record, RANKS):
        wanted.append(lambda: quality_by_rank(found, about))
    if recorded_controls(record):
        wanted.append(lambda: controls(found, about))
    made = _tried(wanted)
    return Tables([whole, *made.made], made.refused)


def statistics_tables(
    record: Recorded,
    metric: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
) -> Tables:
    """All other tables that the record supports.

    Changes one at a time and from base to best, importances, partial dependence, laws, the expected best of fewer
    trials, early stopping, the first two numeric axes at their best levels and their interaction, the Pareto front,
    solver steps; for several sweeps, what each had found by when; and the comparison over several data sets.
    ``metric`` defaults to the first objective.
    """
    found = Configurations.of(record)
    record = found.record
    wanted: list[Callable[[], Table]] = [
        lambda: one_factor(found, metric, ci=ci, unequal=unequal, margin=margin),
        lambda: importance(found, metric, unequal=unequal),
        *([lambda: importance_pairs(found, metric, unequal=unequal)] if len(record.axes) > 1 else []),
        lambda: dependence_table(found, metric, unequal=unequal),
        lambda: scaling(found, metric, unequal=unequal),
        lambda: expected_best(found, metric, unequal=unequal),
        lambda: ablation_path(found, metric, unequal=unequal),
    ]
    numeric = [axis for axis in record.axes if is_number(record.runs[axis])]
    if (record.curves["metric"] == next(iter(record.objective), "")).any():
        wanted.append(lambda: early_stopping(found))
    for axis in numeric[:2] if len(record.axes) > 1 else ():
        wanted.append(_at_its_best(found, axis, metric, unequal, margin))
    if len(numeric) > 1:
        wanted.append(lambda: interaction(found, numeric[0], numeric[1], metric, unequal=unequal))
    wanted.append(lambda: front(found, unequal=unequal))
    if curve_keys(record, STEPS):
        wanted.append(lambda: steps_to_quality(found))
    if len(record.sweeps) > 1:
        wanted.append(lambda: anytime(found, metric, unequal=unequal))
    if has_several_sets(record):
        wanted.append(lambda: across_sets(found, metric=metric, unequal=unequal))
    return _tried(wanted)


def checks_of(record: Recorded, *, unequal: bool = False) -> Tables:
    """The health checks of a record."""
    return _tried([lambda: health(record, unequal=unequal)])


def _says_something(table: Table) -> bool:
    """Whether a table of comparisons has any that was tested."""
    place = [column.key for column in table.columns].index("verdict")
    return any(row.cells[place].value not in ("", "not tested") for row in table.rows)


def _marginal(
    record: Recorded, axis: str, metric: str | None, ci: Method, unequal: bool, margin: float | None
) -> Callable[[], Table]:
    return lambda: marginal(record, axis, metric, ci=ci, unequal=unequal, margin=margin)


def _at_its_best(
    record: Recorded, axis: str, metric: str | None, unequal: bool, margin: float | None
) -> Callable[[], Table]:
    return lambda: best_levels(record, axis, metric, unequal=unequal, margin=margin)


def _tried(wanted: Sequence[Callable[[], Table]]) -> Tables:
    found = Tables([], [])
    for make in wanted:
        try:
            found.made.append(make())
        except RecordError as error:
            found.refused.append(str(error))
    return found
