"""The analysis of variance over two factors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from analysis.statistics.intervals import Array

Kind = Literal["categorical", "linear"]
NOTHING_LEFT = "there are as many cells as values: none is left to estimate the error from"


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
    Unbalanced designs are taken as they are: sums of squares are of type II, by the least squares of statsmodels.
    Raises ``ValueError`` for values that are not finite, a factor with one level, and if no observation is left to
    estimate the error from.
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
        raise ValueError(NOTHING_LEFT)
    return Anova(
        _effect(only_b - both, ranks - ranks_b, rest, freedom),
        _effect(only_a - both, ranks - ranks_a, rest, freedom),
        _effect(both - rest, full - ranks, rest, freedom),
        Effect(rest, freedom),
    )


def repeated_anova(
    values: Array, a: Sequence[Any] | Array, b: Sequence[Any] | Array, seeds: Sequence[Any] | Array
) -> Anova:
    """The two-way analysis of variance where each pair of levels is one unit, whose values ``seeds`` repeat.

    ``values``, the levels and the seeds are ``(observations,)``. Seeds are no units: the main effects are those of the
    units' means, against what these leave of an additive model, so that what a unit has of its own is no effect of a
    factor. The interaction is what the units' means leave, against what is left of the values beside units and seeds
    (a seed may be better than another for all units alike). Sums of squares are on the scale of single values: those of
    means are times the harmonic mean of the units' counts. Raises ``ValueError`` as ``two_way_anova`` does.
    """
    y, a, b, seeds = np.asarray(values, dtype=np.float64), np.asarray(a), np.asarray(b), np.asarray(seeds)
    if not np.isfinite(y).all():
        raise ValueError("values must be finite")
    _, first, unit, counts = np.unique(
        np.stack([np.unique(levels, return_inverse=True)[1] for levels in (a, b)]),
        axis=1, return_index=True, return_inverse=True, return_counts=True,
    )  # fmt: skip
    unit = unit.ravel()
    means = np.bincount(unit, weights=y) / counts
    scale = len(counts) / (1 / counts).sum()
    mains = [_columns(levels[first], "categorical") for levels in (a, b)]
    if any(columns.shape[1] == 0 for columns in mains):
        raise ValueError("a factor has one level only: nothing to compare")
    one = np.ones((len(means), 1))
    only_a, ranks_a = _left_over(means, one, mains[0])
    only_b, ranks_b = _left_over(means, one, mains[1])
    both, ranks = _left_over(means, one, *mains)
    between = len(means) - ranks
    repeats = _columns(seeds, "categorical")
    every = [np.ones((len(y), 1)), *(_columns(levels, "categorical") for levels in (a, b)), repeats]
    additive, reduced = _left_over(y, *every)
    rest, full = _left_over(y, np.ones((len(y), 1)), _columns(unit, "categorical"), repeats)
    freedom = len(y) - full
    if freedom < 1:
        raise ValueError(NOTHING_LEFT)
    return Anova(
        _effect(scale * (only_b - both), ranks - ranks_b, scale * both, between),
        _effect(scale * (only_a - both), ranks - ranks_a, scale * both, between),
        _effect(additive - rest, full - reduced, rest, freedom),
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
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.sm_exceptions import SingularMatrixWarning

    design = np.hstack(blocks)
    with warnings.catch_warnings():
        # Cells without an observation leave columns out of the rank: it is what is asked for.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        fits = [OLS(row, design).fit() for row in y.reshape(-1, y.shape[-1])]
    # What is left of values that the model holds whole is rounding, and no error to test against.
    rounding = y.shape[-1] * np.square(8 * np.finfo(np.float64).eps * np.abs(y).max(axis=-1, initial=0.0))
    left = np.array([fit.ssr for fit in fits]).reshape(y.shape[:-1])
    return np.where(left <= rounding, 0.0, left), int(fits[0].model.rank)


def _effect(squares: Array, freedom: int, rest: Array, rest_freedom: int) -> Effect:
    # What floating point leaves of nothing may be below zero.
    squares = np.maximum(squares, 0.0)
    if freedom == 0 or rest_freedom == 0:
        return Effect(squares, freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (squares / freedom) / (rest / rest_freedom)
        eta = squares / (squares + rest)
    return Effect(squares, freedom, f, special.fdtrc(freedom, rest_freedom, f), eta)
