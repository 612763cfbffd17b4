"""Two-way analysis of variance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from analysis.statistics.intervals import Array

Kind = Literal["categorical", "linear"]
NOTHING_LEFT = "there are as many cells as values, so none is left to estimate the error"


@dataclass(frozen=True)
class Effect:
    """A source of variation: sum of squares, degrees of freedom, F, its p, and partial η² = SS / (SS + residual SS).

    The arrays have the leading dimensions of the analysed values; the residual has no F.
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
    Designs may be unbalanced: sums of squares are of type II, by the least squares of statsmodels. Raises
    ``ValueError`` for values that are not finite, a factor with one level, and too few observations to estimate the
    error.
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
    """The two-way analysis of variance in which each pair of levels is one unit, measured at several ``seeds``.

    ``values``, the levels and the seeds are ``(observations,)``. Seeds are repeated measures, not units. So the main
    effects are those of the units' means, tested against the residual of an additive model of these means: a
    peculiarity of one unit does not count as an effect of a factor. The interaction is that residual, tested against
    the residual of the values after units and seeds (a seed may be better than another for all units). Sums of squares
    are on the scale of single values: those of means are multiplied by the harmonic mean of the units' counts. Raises
    ``ValueError`` as ``two_way_anova`` does.
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
    """The centred regressors of a factor, without the constant."""
    if kind == "linear":
        slope = factor.astype(np.float64) - factor.astype(np.float64).mean()
        return slope[:, None] if np.ptp(slope) > 0 else slope[:, None][:, :0]
    indicators = (factor[:, None] == np.unique(factor)[None, 1:]).astype(np.float64)
    return indicators - indicators.mean(axis=0)


def _left_over(y: Array, *blocks: Array) -> tuple[Array, int]:
    """The residual sum of squares of a linear model, and the model's rank."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.sm_exceptions import SingularMatrixWarning

    design = np.hstack(blocks)
    with warnings.catch_warnings():
        # Empty cells make the design rank-deficient, which is fine: the rank is computed from it.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        fits = [OLS(row, design).fit() for row in y.reshape(-1, y.shape[-1])]
    # If the model fits the values exactly, the residual is rounding, not an error to test against.
    rounding = y.shape[-1] * np.square(8 * np.finfo(np.float64).eps * np.abs(y).max(axis=-1, initial=0.0))
    left = np.array([fit.ssr for fit in fits]).reshape(y.shape[:-1])
    return np.where(left <= rounding, 0.0, left), int(fits[0].model.rank)


def _effect(squares: Array, freedom: int, rest: Array, rest_freedom: int) -> Effect:
    # A zero may come out slightly negative in floating point.
    squares = np.maximum(squares, 0.0)
    if freedom == 0 or rest_freedom == 0:
        return Effect(squares, freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (squares / freedom) / (rest / rest_freedom)
        eta = squares / (squares + rest)
    return Effect(squares, freedom, f, special.fdtrc(freedom, rest_freedom, f), eta)
