"""Whether two axes interact: the analysis of variance of a metric over both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.levels import categories, is_number
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.replicates import population, seed_values
from analysis.configuration.words import short_names
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.anova import Anova, Effect, Kind, repeated_anova, two_way_anova
from analysis.statistics.intervals import LEVEL
from analysis.tables.layout import with_axes


def interaction(
    record: Recorded,
    rows: str,
    cols: str,
    metric: str | None = None,
    *,
    kind: Kind = "categorical",
    unequal: bool = False,
) -> Table:
    """The effects of two axes on a metric and their interaction, by an analysis of variance over configurations.

    A configuration is one observation, the mean of its seeds: seeds are repeated measures, and configurations differ by
    more than seeds do. If every pair of values is one configuration, the effects of the axes are tested against their
    interaction (the remaining differences between configurations), and the interaction against the differences between
    seeds (``categorical`` only, since a configuration can deviate from slopes by itself).

    ``kind`` is ``categorical``, which compares the axes' values (or bins), or ``linear``, which fits slopes, over the
    logarithm if the spec or the values are logarithmic. ``metric`` is the first objective by default. Raises
    ``RecordError`` for an unknown axis or metric, for too few values, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> table = analysis.interaction(analysis.example(), "model.flow.depth", "model.operator.rank")
    >>> [(row.cells[0].value, row.cells[2].value) for row in table.rows]
    [('depth', 2), ('rank', 3), ('depth × rank', 6), ('residual', 11)]
    """
    configurations = Configurations.of(record)
    record = configurations.record
    if kind not in ("categorical", "linear"):
        raise RecordError(f"{record.names}: kind must be categorical or linear, got {kind!r}")
    rows, cols = axis_of(record, rows), axis_of(record, cols)
    if rows == cols:
        raise RecordError(f"{record.names}: an interaction needs two different axes, got {rows!r} twice")
    key = metric_of(record, metric)
    if not unequal:
        check_equal(record, record.runs[record.runs["kind"] == "search"], f"the interaction of {rows} and {cols}")
    frame = population(configurations, key, unequal)
    frame, left_out = with_axes(frame[frame["counts"]], [rows, cols])
    if frame.empty:
        raise RecordError(f"{record.names}: no configuration with {rows} and {cols} has a finite {key}")
    factors = [_factor(record, frame, axis, kind) for axis in (rows, cols)]
    first, second = (factor.to_numpy() for factor, _ in factors)
    cells = pd.DataFrame({"a": first, "b": second})
    values = seed_values(record, frame, key, unequal)
    alone = kind == "categorical" and not cells.duplicated().any()
    repeated = [(place, seed, each) for place, index in enumerate(frame.index) for seed, each in values[index].items()]
    try:
        if alone:
            place, seed, y = (np.array(column) for column in zip(*repeated, strict=True))
            found = repeated_anova(y, first[place], second[place], seed)
        else:
            found = two_way_anova(frame[key].to_numpy(dtype=np.float64), first, second, kind)
    except ValueError as error:
        raise RecordError(
            f"{record.names}: {key} by {rows} and {cols}: {error}; more {'seeds' if alone else 'configurations'} or "
            "levels would help"
        ) from None
    short, labels = short_names(record.axes), axis_labels(record)
    names = [words for _, words in factors]
    labelled = [(names[0], found.a), (names[1], found.b), (f"{labels[rows]} × {labels[cols]}", found.interaction)]
    body = [_row(label, effect, found.residual) for label, effect in [*labelled, ("residual", found.residual)]]
    spec = number_format([float(effect.squares) for _, effect in labelled])
    return Table(
        name=f"interaction-{short[rows]}-{short[cols]}",
        title=f"{record.names}: variance of {label_of(record, key)} by {labels[rows]} and {labels[cols]}",
        columns=(
            Column("source", "source", "left"),
            Column("SS", "sum of squares", spec=spec),
            Column("df", "degrees of freedom", spec="d"),
            Column("MS", "mean square", spec=spec),
            Column("F", "F", spec=".2f"),
            Column("p", "p", spec=".2g"),
            Column("partial η²", "partial eta squared", spec=".3f"),
        ),
        rows=tuple(body),
        notes=(*_notes(record, frame, rows, cols, found, len(repeated) if alone else None, key), *left_out),
    )


def _factor(record: Record, frame: pd.DataFrame, axis: str, kind: Kind) -> tuple[pd.Series[Any], str]:
    """An axis as a factor, and its name in the table."""
    short = axis_labels(record)[axis]
    if kind == "categorical":
        return categories(record, axis, frame[axis]).astype("str"), short
    if not is_number(frame[axis]):
        raise RecordError(f"{record.names}: {axis} has no numbers for fitting a slope; use categorical")
    numbers = frame[axis].astype("float64")
    drawn = any(sweep.dimension(axis).get("log") for sweep in record.sweeps)
    if (numbers > 0).all() and (drawn or axis.endswith(".rank")):
        return pd.Series(np.log2(numbers.to_numpy()), numbers.index), f"log₂ {short}"
    return numbers, short


def _row(label: str, effect: Effect, residual: Effect) -> Row:
    squares = float(effect.squares)
    mean = squares / effect.freedom if effect.freedom else None
    tests = [None if each is None else float(each) for each in (effect.f, effect.p, effect.eta)]
    significant = tests[1] is not None and tests[1] < LEVEL and effect is not residual
    cells = [Cell(label), Cell(squares), Cell(effect.freedom), Cell(mean), *map(Cell, tests)]
    return Row(tuple(cells), bold=significant)


def _notes(
    record: Record, frame: pd.DataFrame, rows: str, cols: str, found: Anova, seeds: int | None, key: str
) -> list[str]:
    """Notes on the result; ``seeds`` is the number of single values if the interaction is tested against seeds."""
    p = found.interaction.p
    if p is None or not np.isfinite(p):
        verdict = "The interaction cannot be tested: the main effects explain everything."
    elif float(p) < LEVEL:
        verdict = f"They interact: the effect of {rows} on {key} depends on {cols} (p = {float(p):.2g})."
    else:
        verdict = f"No interaction is found (p = {float(p):.2g}); that is not proof of none."
    pairs = frame[[rows, cols]].astype("str")
    empty = pairs[rows].nunique() * pairs[cols].nunique() - len(pairs.drop_duplicates())
    over = f"Over {len(frame)} configurations, each the mean of its seeds, which are repeats and not observations."
    notes = [verdict, f"{over} Sums of squares of type II; bold: p < {LEVEL:g}."]
    if seeds is not None:
        notes.append(
            "Each pair of values is one configuration. The axes are tested against the interaction, that is, the "
            "remaining differences between configurations; the interaction is tested against the residual of "
            f"{seeds} values after configurations and seeds."
        )
    if empty:
        notes.append(f"{empty} pairs of values have no configuration.")
    others = [axis for axis in record.axes if axis not in (rows, cols)]
    if others:
        notes.append(f"Other axes are part of the residual: {', '.join(others)}.")
    return notes
