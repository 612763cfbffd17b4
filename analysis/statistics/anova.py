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
    Raises ``ValueError`` for values that are not finite, a factor with one level, and where no observation is left to
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
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.sm_exceptions import SingularMatrixWarning

    design = np.hstack(blocks)
    with warnings.catch_warnings():
        # Cells without an observation leave columns out of the rank: it is what is asked for.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        fits = [OLS(row, design).fit() for row in y.reshape(-1, y.shape[-1])]
    return np.array([fit.ssr for fit in fits]).reshape(y.shape[:-1]), int(fits[0].model.rank)


def _effect(squares: Array, freedom: int, rest: Array, rest_freedom: int) -> Effect:
    # What floating point leaves of nothing may be below zero.
    squares = np.maximum(squares, 0.0)
    if freedom == 0:
        return Effect(squares, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (squares / freedom) / (rest / rest_freedom)
        eta = squares / (squares + rest)
    return Effect(squares, freedom, f, special.fdtrc(freedom, rest_freedom, f), eta)
