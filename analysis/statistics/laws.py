"""Laws fitted to values over a positive number: a power law with a floor, a logarithm, and doubts about the fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.statistics.intervals import LEVEL, Array

EXPONENTS = np.linspace(-2.0, 6.0, 801)
"""The exponents tried for the power law."""
FEWEST = 4
"""Levels at which a law of three parameters can fail to fit."""
POOR = 0.5
"""A fit that explains a smaller share of the variance is poor."""


@dataclass(frozen=True)
class Law:
    """A fitted law with 95 % intervals, the explained share R² of the variance, and ``doubts`` about it.

    An unbounded end of an interval is infinite; if there are too few values to estimate the error, both ends are NaN.

    ``power``: y = a x^-b + c. ``logarithm``: y = a + b log₂ x; its ``c`` is None.
    """

    kind: str
    a: float
    b: float
    c: float | None
    b_interval: tuple[float, float]
    c_interval: tuple[float, float] | None
    r2: float
    levels: int
    count: int
    doubts: tuple[str, ...]

    @property
    def supported(self) -> bool:
        """Whether there are no doubts."""
        return not self.doubts

    def __call__(self, x: Array) -> Array:
        """The law's values at x."""
        if self.c is None:
            return np.asarray(self.a + self.b * np.log2(x))
        return np.asarray(self.a * np.power(x, -self.b) + self.c)


def fit_power_law(x: Array, y: Array) -> Law:
    """The least-squares fit of y = a x^-b + c over positive ``x``, with exponents b from -2 to 6.

    For fixed b the law is linear, so the best b is found on a grid and then refined between its neighbours. The
    intervals contain every b, or c, that an F test against the best fit does not reject (Bates and Watts, 1988, section
    6.1). They have their nominal coverage from four values on, and are wide for few values. Raises ``ValueError`` for
    fewer than three different ``x``.

    >>> law = fit_power_law(np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([9.02, 4.99, 3.0, 2.01, 1.49]))
    >>> round(law.b, 1), law.b_interval[0] < law.b < law.b_interval[1]
    (1.0, True)
    """
    x, y = _checked(x, y, 3)
    scale = float(np.exp(np.log(x).mean()))
    z = x / scale
    terms = _terms(z, EXPONENTS)
    explained = _explained(terms, y[:, None])[:, 0]
    exponent = _refined(z, y, float(EXPONENTS[int(np.argmax(explained))]))
    (term,) = _terms(z, np.array([exponent]))
    a, c = (float(value) for value in _coefficients(term, y))
    fitted = a * term + c
    left = np.maximum(np.square(y - y.mean()).sum() - explained, 0.0)
    b_interval, c_interval = _not_rejected(z, y, float(np.square(y - fitted).sum()), left, exponent)
    doubts = _doubts(x, y, fitted, 3)
    if np.isnan(b_interval[0]):
        doubts.append(f"{len(y)} values are too few to estimate an error")
    elif b_interval[0] <= 0 <= b_interval[1]:
        doubts.append(f"the interval of b, {b_interval[0]:.2g} to {b_interval[1]:.2g}, covers 0")
    if min(exponent - EXPONENTS[0], EXPONENTS[-1] - exponent) < 1e-3:
        doubts.append("b is at the edge of the range that was tried")
    # In terms of x and x^-b.
    factor, floor = (float(value) for value in _natural(a, c, exponent))
    return Law(
        "power", factor * scale**exponent, exponent, floor, b_interval, c_interval, _r2(y, fitted),
        len(np.unique(x)), len(x), tuple(doubts),
    )  # fmt: skip


def fit_logarithm(x: Array, y: Array) -> Law:
    """The least-squares fit of y = a + b log₂ x over positive ``x``; the interval of b is Student's.

    Raises ``ValueError`` for fewer than two different ``x`` or three values.
    """
    x, y = _checked(x, y, 2)
    if len(x) < 3:
        raise ValueError(f"a line and its error need three values, got {len(x)}")
    found = stats.linregress(np.log2(x), y)
    reach = float(found.stderr * stats.t.ppf(1 - LEVEL / 2, len(x) - 2))
    interval = (float(found.slope) - reach, float(found.slope) + reach)
    fitted = found.intercept + found.slope * np.log2(x)
    doubts = _doubts(x, y, fitted, 2)
    if interval[0] <= 0 <= interval[1]:
        doubts.append(f"the interval of b, {interval[0]:.2g} to {interval[1]:.2g}, covers 0")
    count = len(np.unique(x))
    r2 = _r2(y, fitted)
    return Law(
        "logarithm", float(found.intercept), float(found.slope), None, interval, None, r2, count, len(x), tuple(doubts)
    )


def _checked(x: Array, y: Array, fewest: int) -> tuple[Array, Array]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all()):
        raise ValueError("a law needs positive x and as many finite y")
    if len(np.unique(x)) < fewest:
        raise ValueError(f"a law of {fewest} parameters needs at least {fewest} different x, got {len(np.unique(x))}")
    return x, y


def _terms(z: Array, exponents: Array) -> Array:
    """(1 - z^-b) / b for each b, ``(exponents, n)``; its limit at b = 0, where z^-b is constant, is log z."""
    b, logs = exponents[:, None], np.log(z)
    safe = np.where(np.abs(b) < 1e-9, 1.0, b)
    return np.where(np.abs(b) < 1e-9, logs, -np.expm1(-safe * logs) / safe)


def _explained(terms: Array, y: Array) -> Array:
    """The sums of squares of ``y`` ``(n, draws)`` explained by a constant and each term, ``(exponents, draws)``."""
    centred = terms - terms.mean(axis=1, keepdims=True)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.square(directions @ (y - y.mean(axis=0))))


def _refined(z: Array, y: Array, start: float) -> float:
    """The least-squares exponent between the grid's neighbours of ``start``, by golden-section search."""
    step = EXPONENTS[1] - EXPONENTS[0]
    low, high = max(start - step, EXPONENTS[0]), min(start + step, EXPONENTS[-1])
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        left, right = _explained(_terms(z, np.array([first, second])), y[:, None])[:, 0]
        low, high = (low, second) if left > right else (first, high)
    return float((low + high) / 2)


def _coefficients(terms: Array, y: Array) -> tuple[Array, Array]:
    """Slope and constant of the regression of y (…, n) on terms (…, n)."""
    centred = terms - terms.mean(axis=-1, keepdims=True)
    slope = (centred * y).sum(axis=-1) / np.square(centred).sum(axis=-1)
    return slope, y.mean(axis=-1) - slope * terms.mean(axis=-1)


def _natural(slope: Any, constant: Any, b: Any) -> tuple[Any, Any]:
    """a and c of a z^-b + c; at b = 0 only their sum is determined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(b == 0, np.nan, slope / np.where(b == 0, 1.0, b))
    return -share, constant + share


def _not_rejected(
    z: Array, y: Array, least: float, left: Array, exponent: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The intervals of b and c at ``LEVEL``; ``left`` is the residual sum of squares at each of ``EXPONENTS``."""
    freedom = len(y) - 3
    if freedom < 1:
        return (np.nan, np.nan), (np.nan, np.nan)
    most = least * (1 + stats.f.ppf(1 - LEVEL, 1, freedom) / freedom)
    kept = np.flatnonzero(left <= most)
    if not len(kept):  # the interval lies between two exponents
        step = EXPONENTS[1] - EXPONENTS[0]
        kept = np.flatnonzero(np.abs(EXPONENTS - exponent) <= step)
    low = -np.inf if kept[0] == 0 else _crossing(left, kept[0] - 1, kept[0], most)
    high = np.inf if kept[-1] == len(EXPONENTS) - 1 else _crossing(left, kept[-1] + 1, kept[-1], most)
    b_interval = (min(low, exponent), max(high, exponent))
    if b_interval[0] <= 0 <= b_interval[1] or not np.isfinite(b_interval).all():
        return b_interval, (-np.inf, np.inf)  # where x^-b is constant, c can be anything
    # At each b in the interval, c is the constant of a linear fit, and may vary until the residual reaches ``most``.
    shape = np.power(z, -EXPONENTS[kept][:, None])
    _, floor = _coefficients(shape, y)
    mean, spread = shape.mean(axis=1), np.square(shape - shape.mean(axis=1, keepdims=True)).sum(axis=1)
    reach = np.sqrt(np.maximum(most - left[kept], 0.0) * (1 / len(y) + np.square(mean) / spread))
    return b_interval, (float((floor - reach).min()), float((floor + reach).max()))


def _crossing(left: Array, outside: int, inside: int, most: float) -> float:
    """Where the residual crosses ``most`` between two neighbouring exponents, by linear interpolation."""
    gap = left[outside] - left[inside]
    share = min(max((most - left[inside]) / gap, 0.0), 1.0) if gap > 0 else 0.0
    return float(EXPONENTS[inside] + share * (EXPONENTS[outside] - EXPONENTS[inside]))


def _r2(y: Array, fitted: Array) -> float:
    total = float(np.square(y - y.mean()).sum())
    return 1 - float(np.square(y - fitted).sum()) / total if total else float("nan")


def _doubts(x: Array, y: Array, fitted: Array, parameters: int) -> list[str]:
    """Doubts: too few levels, too little variance explained, deviations larger than those between replicates."""
    doubts, distinct = [], len(np.unique(x))
    if distinct < FEWEST:
        doubts.append(f"{distinct} levels are too few")
    r2 = _r2(y, fitted)
    if not r2 >= POOR:
        doubts.append(
            f"it explains {100 * r2:.0f} % of the variance" if np.isfinite(r2) else "the values are all equal"
        )
    p = lack_of_fit(x, y, fitted, parameters)
    if p is not None and p < LEVEL / 5:
        doubts.append(f"it misses the means by more than their error (p = {p:.1g})")
    return doubts


def lack_of_fit(x: Array, y: Array, fitted: Array, parameters: int) -> float | None:
    """The p of the lack-of-fit F test: deviations from the means at each x against the spread of replicates.

    None without replicates, or if there are no more levels than parameters.
    """
    _, place = np.unique(x, return_inverse=True)
    counts = np.bincount(place)
    means = (np.bincount(place, weights=y) / counts)[place]
    pure, missed = float(np.square(y - means).sum()), float(np.square(means - fitted).sum())
    error_freedom, freedom = len(y) - len(counts), len(counts) - parameters
    if error_freedom < 1 or freedom < 1 or pure == 0:
        return None
    return float(stats.f.sf((missed / freedom) / (pure / error_freedom), freedom, error_freedom))
