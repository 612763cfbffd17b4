"""Whether two axes act together: the analysis of variance of a metric over both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from analysis.configuration.budget import check_equal
from analysis.configuration.levels import is_number, levels, short_names
from analysis.configuration.ranking import first_objective
from analysis.configuration.replicates import population, seed_values
from analysis.record.runs import Record, RecordError
from analysis.render.table import Cell, Column, Row, Table, number_format
from analysis.statistics.tests import LEVEL, Array

Kind = Literal["categorical", "linear"]


@dataclass(frozen=True)
class Effect:
    """A source of variation: sum of squares, degrees of freedom, F, its p, and partial η² = SS / (SS + residual SS).

    The arrays have the leading dimensions of the values that were analysed; the residual has no F.
    """

    squares: Array
    freedom: int
    f: Array | None = None
    p: Array | None = None
    eta: Array | None = None


@dataclass(frozen=True)
class Anova:
    """Two main effects, each adjusted for the other (type II), their interaction, and the residual."""

    a: Effect
    b: Effect
    interaction: Effect
    residual: Effect


def two_way_anova(
    values: Array, a: Sequence[Any] | Array, b: Sequence[Any] | Array, kind: Kind = "categorical"
) -> Anova:
    """The two-way analysis of variance of values (…, observations) over two factors (observations).

    ``categorical`` compares the levels of the factors, ``linear`` fits a slope for each and one for their product.
    Unbalanced designs are taken as they are: sums of squares are of type II. Raises ``ValueError`` for values that
    are not finite, a factor with one level, and where no observation is left to estimate the error from.
    """
    y = np.asarray(values, dtype=np.float64)
    if not np.isfinite(y).all():
        raise ValueError("values must be finite")
    mains = [_columns(np.asarray(factor), kind) for factor in (a, b)]
    if any(columns.shape[1] == 0 for columns in mains):
        raise ValueError("a factor has one level only: nothing to compare")
    one = np.ones((y.shape[-1], 1))
    product = (mains[0][:, :, None] * mains[1][:, None, :]).reshape(len(one), -1)
    only_a, ranks_a = _left_over(y, one, mains[0])
    only_b, ranks_b = _left_over(y, one, mains[1])
    both, ranks = _left_over(y, one, *mains)
    rest, full = _left_over(y, one, *mains, product)
    freedom = y.shape[-1] - full
    if freedom < 1:
        raise ValueError("there are as many cells as values: none is left to estimate the error from")
    return Anova(
        _effect(only_b - both, ranks - ranks_b, rest, freedom),
        _effect(only_a - both, ranks - ranks_a, rest, freedom),
        _effect(both - rest, full - ranks, rest, freedom),
        Effect(rest, freedom),
    )


def _columns(factor: np.ndarray[Any, Any], kind: Kind) -> Array:
    """The regressors of a factor without the constant, centred."""
    if kind == "linear":
        slope = factor.astype(np.float64) - factor.astype(np.float64).mean()
        return slope[:, None] if np.ptp(slope) > 0 else slope[:, None][:, :0]
    indicators = (factor[:, None] == np.unique(factor)[None, 1:]).astype(np.float64)
    return indicators - indicators.mean(axis=0)


def _left_over(y: Array, *blocks: Array) -> tuple[Array, int]:
    """The sum of squares that a linear model leaves over, and its rank."""
    left, sizes, _ = np.linalg.svd(np.hstack(blocks), full_matrices=False)
    rank = int((sizes > sizes[0] * 1e-10).sum())
    basis = left[:, :rank]
    return np.square(y - (y @ basis) @ basis.T).sum(axis=-1), rank


def _effect(squares: Array, freedom: int, rest: Array, rest_freedom: int) -> Effect:
    # What floating point leaves of nothing may be below zero.
    squares = np.maximum(squares, 0.0)
    if freedom == 0:
        return Effect(squares, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (squares / freedom) / (rest / rest_freedom)
        eta = squares / (squares + rest)
    return Effect(squares, freedom, f, special.fdtrc(freedom, rest_freedom, f), eta)


def interaction(
    record: Record,
    rows: str,
    cols: str,
    metric: str | None = None,
    *,
    kind: Kind = "categorical",
    unequal: bool = False,
) -> Table:
    """The effects of two axes on a metric and their interaction, by an analysis of variance over all seeds.

    ``kind`` says whether the axes' values (or bins) are compared as they are or fitted by slopes, in the logarithm
    where the spec or the values have them so (``linear``). ``metric`` is the first objective by default. Raises
    ``RecordError`` for an unknown axis or metric, where there are too few values, and for unequal training, unless
    ``unequal``.
    """
    if rows == cols:
        raise RecordError(f"{record.names}: an interaction is of two axes, got {rows!r} twice")
    for axis in (rows, cols):
        record.checked(axis, record.axes, "axis")
    key = first_objective(record)[0] if metric is None else record.checked(metric, record.metrics, "metric")
    if not unequal:
        check_equal(record, record.runs[record.runs["kind"] == "search"], f"the interaction of {rows} and {cols}")
    frame = population(record, key, unequal)
    frame = frame[frame["counts"] & frame[rows].notna() & frame[cols].notna()]
    if frame.empty:
        raise RecordError(f"{record.names}: no configuration with {rows} and {cols} has a finite {key}")
    values = seed_values(record, frame, key, unequal)
    factors = [_factor(record, frame, axis, kind) for axis in (rows, cols)]
    y = np.array([value for index in frame.index for value in values[index].values()])
    repeats = [len(values[index]) for index in frame.index]
    first, second = (np.repeat(factor.to_numpy(), repeats) for factor, _ in factors)
    try:
        found = two_way_anova(y, first, second, kind)
    except ValueError as error:
        raise RecordError(
            f"{record.names}: {key} by {rows} and {cols}: {error}; more seeds or levels would help"
        ) from None
    short = short_names(record.axes)
    names = [words for _, words in factors]
    labelled = [(names[0], found.a), (names[1], found.b), (f"{short[rows]} × {short[cols]}", found.interaction)]
    body = [_row(label, effect, found.residual) for label, effect in [*labelled, ("residual", found.residual)]]
    spec = number_format([float(effect.squares) for _, effect in labelled])
    return Table(
        name=f"interaction-{short[rows]}-{short[cols]}",
        title=f"{record.names}: variance of {key} by {rows} and {cols}",
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
        notes=tuple(_notes(record, frame, rows, cols, found, len(y), key)),
    )


def _factor(record: Record, frame: pd.DataFrame, axis: str, kind: Kind) -> tuple[pd.Series[Any], str]:
    """An axis as a factor, and its name in the table."""
    short = short_names(record.axes)[axis]
    if kind == "categorical":
        return levels(record, axis, frame[axis]).astype("str"), short
    if not is_number(frame[axis]):
        raise RecordError(f"{record.names}: {axis} has no numbers that a slope could be fitted to; take categorical")
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


def _notes(record: Record, frame: pd.DataFrame, rows: str, cols: str, found: Anova, count: int, key: str) -> list[str]:
    p = found.interaction.p
    if p is None:
        verdict = "The interaction cannot be tested: no cell is left that the main effects do not explain."
    elif float(p) < LEVEL:
        verdict = f"They act together: the effect of {rows} on {key} depends on {cols} (p = {float(p):.2g})."
    else:
        verdict = f"No interaction is found (p = {float(p):.2g}); that is not proof of none."
    pairs = frame[[rows, cols]].astype("str")
    empty = pairs[rows].nunique() * pairs[cols].nunique() - len(pairs.drop_duplicates())
    notes = [
        verdict,
        f"{count} values of {len(frame)} configurations; sums of squares of type II; bold: p < {LEVEL:g}.",
    ]
    if empty:
        notes.append(f"{empty} pairs of values have no configuration.")
    others = [axis for axis in record.axes if axis not in (rows, cols)]
    if others:
        notes.append(f"What varies besides is in the residual: {', '.join(others)}.")
    return notes
