"""Laws fitted to values over a positive number: a power law with a floor, a logarithm, and what speaks against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.statistics.intervals import LEVEL, Array

EXPONENTS = np.linspace(-2.0, 6.0, 801)
"""Of the power law, that are tried."""
FEWEST = 4
"""Levels from which on a law of three parameters has something to be wrong about."""
POOR = 0.5
"""The share of the variance below which a fit explains too little."""


@dataclass(frozen=True)
class Law:
    """A fitted law with 95 % intervals, the share R² of the variance that it explains, and what speaks against it.

    An end of an interval that nothing bounds is infinite; without a value to spare for the error both ends are NaN.

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
        """Whether nothing speaks against it."""
        return not self.doubts

    def __call__(self, x: Array) -> Array:
        """The law's values."""
        if self.c is None:
            return np.asarray(self.a + self.b * np.log2(x))
        return np.asarray(self.a * np.power(x, -self.b) + self.c)


def fit_power_law(x: Array, y: Array) -> Law:
    """Least squares of y = a x^-b + c over positive ``x``, exponents b from -2 to 6.

    For each b the law is linear, so that the best is found over all b at once, then between its neighbours. The
    intervals hold what an F test of the least squares at that b, or c, against the best of all does not reject (Bates
    and Watts, 1988, section 6.1): they cover what they say from four values on, and are as long as few values are.
    Raises ``ValueError`` for fewer than three different ``x``.

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
        doubts.append(f"{len(y)} values leave none to tell an error by")
    elif b_interval[0] <= 0 <= b_interval[1]:
        doubts.append(f"the interval of b, {b_interval[0]:.2g} to {b_interval[1]:.2g}, covers 0")
    if min(exponent - EXPONENTS[0], EXPONENTS[-1] - exponent) < 1e-3:
        doubts.append("b is at the edge of what was tried")
    # In terms of x, and of x^-b itself.
    factor, floor = (float(value) for value in _natural(a, c, exponent))
    return Law(
        "power", factor * scale**exponent, exponent, floor, b_interval, c_interval, _r2(y, fitted),
        len(np.unique(x)), len(x), tuple(doubts),
    )  # fmt: skip


def fit_logarithm(x: Array, y: Array) -> Law:
    """Least squares of y = a + b log₂ x over positive ``x``; the interval of b is Student's.

    Raises ``ValueError`` for fewer than two different ``x`` or three values.
    """
    x, y = _checked(x, y, 2)
    if len(x) < 3:
        raise ValueError(f"a line with an error needs three values, got {len(x)}")
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
        raise ValueError("a law is fitted to as many finite y as positive x")
    if len(np.unique(x)) < fewest:
        raise ValueError(f"a law of {fewest} parameters needs {fewest} different x at least, got {len(np.unique(x))}")
    return x, y


def _terms(z: Array, exponents: Array) -> Array:
    """(1 - z^-b) / b for each b (exponents, n), which goes over into log z at b = 0, where z^-b is constant."""
    b, logs = exponents[:, None], np.log(z)
    safe = np.where(np.abs(b) < 1e-9, 1.0, b)
    return np.where(np.abs(b) < 1e-9, logs, -np.expm1(-safe * logs) / safe)


def _explained(terms: Array, y: Array) -> Array:
    """The sums of squares (exponents, draws) that a constant and each term explain of draws (n, draws)."""
    centred = terms - terms.mean(axis=1, keepdims=True)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.square(directions @ (y - y.mean(axis=0))))


def _refined(z: Array, y: Array, start: float) -> float:
    """The exponent of the least squares between the grid's neighbours of ``start``, by golden sections."""
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
    """a and c of a z^-b + c; at b = 0 the two cannot be told apart."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(b == 0, np.nan, slope / np.where(b == 0, 1.0, b))
    return -share, constant + share


def _not_rejected(
    z: Array, y: Array, least: float, left: Array, exponent: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The intervals of b and c at ``LEVEL``; ``left`` is what each of ``EXPONENTS`` leaves of the sum of squares."""
    freedom = len(y) - 3
    if freedom < 1:
        return (np.nan, np.nan), (np.nan, np.nan)
    most = least * (1 + stats.f.ppf(1 - LEVEL, 1, freedom) / freedom)
    kept = np.flatnonzero(left <= most)
    if not len(kept):  # between two of the exponents
        step = EXPONENTS[1] - EXPONENTS[0]
        kept = np.flatnonzero(np.abs(EXPONENTS - exponent) <= step)
    low = -np.inf if kept[0] == 0 else _crossing(left, kept[0] - 1, kept[0], most)
    high = np.inf if kept[-1] == len(EXPONENTS) - 1 else _crossing(left, kept[-1] + 1, kept[-1], most)
    b_interval = (min(low, exponent), max(high, exponent))
    if b_interval[0] <= 0 <= b_interval[1] or not np.isfinite(b_interval).all():
        return b_interval, (-np.inf, np.inf)  # where x^-b is constant, c can be anything
    # At each b that is kept, c is that of a line: what it may be off by is what is left to ``most``.
    shape = np.power(z, -EXPONENTS[kept][:, None])
    _, floor = _coefficients(shape, y)
    mean, spread = shape.mean(axis=1), np.square(shape - shape.mean(axis=1, keepdims=True)).sum(axis=1)
    reach = np.sqrt(np.maximum(most - left[kept], 0.0) * (1 / len(y) + np.square(mean) / spread))
    return b_interval, (float((floor - reach).min()), float((floor + reach).max()))


def _crossing(left: Array, outside: int, inside: int, most: float) -> float:
    """Where what is left crosses ``most`` between two neighbouring exponents, on a straight line."""
    gap = left[outside] - left[inside]
    share = min(max((most - left[inside]) / gap, 0.0), 1.0) if gap > 0 else 0.0
    return float(EXPONENTS[inside] + share * (EXPONENTS[outside] - EXPONENTS[inside]))


def _r2(y: Array, fitted: Array) -> float:
    total = float(np.square(y - y.mean()).sum())
    return 1 - float(np.square(y - fitted).sum()) / total if total else float("nan")


def _doubts(x: Array, y: Array, fitted: Array, parameters: int) -> list[str]:
    """Too few levels, too little explained, and deviations that are larger than those between replicates."""
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
    """The p of the F test of a fit's deviations from the means at each x against the spread of their replicates.

    None without replicates, and where there are no more levels than parameters.
    """
    _, place = np.unique(x, return_inverse=True)
    counts = np.bincount(place)
    means = (np.bincount(place, weights=y) / counts)[place]
    pure, missed = float(np.square(y - means).sum()), float(np.square(means - fitted).sum())
    error_freedom, freedom = len(y) - len(counts), len(counts) - parameters
    if error_freedom < 1 or freedom < 1 or pure == 0:
        return None
    return float(stats.f.sf((missed / freedom) / (pure / error_freedom), freedom, error_freedom))
