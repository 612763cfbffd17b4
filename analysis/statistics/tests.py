"""Paired and unpaired comparisons of replicates, corrections for multiple comparisons, and effect sizes.

Arrays are float64; the last dimension holds the replicates, or the comparisons of one table, and all others are
independent repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special, stats

from analysis.statistics.intervals import LEVEL, Array, rounding, student
from analysis.statistics.power import equivalence, sign_flips

WILCOXON_FROM = 6
"""Pairs that the two-sided signed-rank test needs to fall below 0.05: its smallest p is 2 / 2ⁿ."""


@dataclass(frozen=True)
class Comparison:
    """The mean of ``a`` minus that of ``b``, with tests and effect sizes; what cannot be computed is None.

    ``difference`` has a Student t ``half_width``. ``p`` is two-sided (paired t over the common replicates, otherwise
    Welch's t). ``wilcoxon`` is the p of the signed-rank test, if there are enough pairs. ``d_z`` is the mean of the
    differences divided by their standard deviation (pairs only). ``hedges_g`` is the difference divided by the pooled
    standard deviation, without its small-sample bias. ``n`` counts pairs, or the smaller of two unpaired groups. Only
    pairs have the differences themselves, ``gaps``; their ``deviation``; ``flips``, the p of flipping their signs; and
    ``equivalence``, the p of their not being equal within a margin.
    """

    difference: float
    n: int
    paired: bool
    half_width: float | None = None
    p: float | None = None
    wilcoxon: float | None = None
    d_z: float | None = None
    hedges_g: float | None = None
    deviation: float | None = None
    equivalence: float | None = None
    gaps: Array | None = field(default=None, compare=False, repr=False)

    @cached_property
    def flips(self) -> float | None:
        """The p of flipping signs. It takes thousands of flips, so it is computed only when asked for."""
        return None if self.gaps is None else sign_flips(self.gaps)


def paired_t(differences: Array) -> tuple[Array, Array]:
    """Student's t and the two-sided p of the hypothesis that differences ``(…, pairs)`` have mean 0.

    If all differences are equal, p is 1 if they are 0 and 0 otherwise.
    """
    count = differences.shape[-1]
    mean, constant = differences.mean(axis=-1), np.ptp(differences, axis=-1) == 0
    error = np.where(constant, 0.0, differences.std(axis=-1, ddof=1) / np.sqrt(count))
    return _t_and_p(mean, error, count - 1)


def _t_and_p(mean: Any, error: Any, freedom: Any) -> tuple[Array, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / error)
    return t, 2 * special.stdtr(freedom, -np.abs(t))


def compare(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    *,
    paired: bool,
    level: float = LEVEL,
    margin: float | None = None,
) -> Comparison:
    """Compare two groups of replicates, paired by position if ``paired``; the interval has confidence 1 − ``level``.

    Pairs are also tested for equality within ``margin``, if it is given. Raises ``ValueError`` for paired groups of
    unequal length.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if paired and x.size != y.size:
        raise ValueError(f"pairs need groups of one length, got {x.size} and {y.size} values")
    n = min(x.size, y.size)
    difference = float((x - y).mean()) if paired and n else float(x.mean() - y.mean()) if n else float("nan")
    if n < 2 or not np.isfinite([*x, *y]).all():
        return Comparison(difference, n, paired)
    least = rounding(x, y)
    gaps = _settled(x - y, least) if paired else None
    x, y = _settled(x, least), _settled(y, least)
    if gaps is None:
        difference = float(x.mean() - y.mean())
        return _welch(x, y, 0.0 if abs(difference) <= least else difference, level)
    difference = float(gaps.mean()) if np.ptp(gaps) else float(gaps[0])
    deviation = 0.0 if np.ptp(gaps) == 0 else float(gaps.std(ddof=1))
    return Comparison(
        difference,
        n,
        paired,
        half_width=deviation * float(student(n, level)),
        p=float(paired_t(gaps)[1]),
        wilcoxon=_signed_rank(gaps) if n >= WILCOXON_FROM else None,
        d_z=difference / deviation if deviation else None,
        hedges_g=hedges_g(x, y),
        deviation=deviation,
        equivalence=None if margin is None else equivalence(gaps, margin),
        gaps=gaps,
    )


def _settled(values: Array, least: float) -> Array:
    """The values, with those that differ only by rounding made equal, and those that are only rounding set to 0."""
    if np.ptp(values) > least:
        return values
    mean = float(values.mean()) if np.ptp(values) else float(values[0])
    return np.full_like(values, 0.0 if abs(mean) <= least else mean)


def _welch(x: Array, y: Array, difference: float, level: float) -> Comparison:
    """Compare two groups of unequal variance (Welch, 1947)."""
    shares = np.array([x.var(ddof=1) / x.size, y.var(ddof=1) / y.size])
    error, n = float(np.sqrt(shares.sum())), min(x.size, y.size)
    if error == 0:
        return Comparison(difference, n, False, 0.0, 1.0 if difference == 0 else 0.0)
    freedom = shares.sum() ** 2 / (shares**2 / (np.array([x.size, y.size]) - 1)).sum()
    reach = error * float(special.stdtrit(freedom, 1 - level / 2))
    p = float(_t_and_p(difference, error, freedom)[1])
    return Comparison(difference, n, False, reach, p, hedges_g=hedges_g(x, y))


def _signed_rank(gaps: Array) -> float:
    return float(stats.wilcoxon(gaps).pvalue) if gaps.any() else 1.0


def hedges_g(x: Array, y: Array) -> float | None:
    """Unbiased difference of means divided by the pooled standard deviation (Hedges, 1981); None without spread."""
    freedom = x.size + y.size - 2
    pooled = np.sqrt(((x.size - 1) * x.var(ddof=1) + (y.size - 1) * y.var(ddof=1)) / freedom)
    if pooled == 0:
        return None
    correction = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    return float(correction * (x.mean() - y.mean()) / pooled)


def holm(p: Sequence[float] | Array, family: int | None = None) -> Array:
    """Holm's (1979) adjusted p of the comparisons in the last dimension; NaN means no comparison and stays NaN.

    ``family`` is the number of comparisons to correct for, if these were chosen from more.
    """
    values = np.asarray(p, dtype=np.float64)
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    size = count if family is None else np.maximum(family, count)
    order = np.argsort(values, axis=-1)  # NaN is sorted last
    factors = np.maximum(size - np.arange(values.shape[-1]), 1)
    raised = np.maximum.accumulate(np.take_along_axis(values, order, axis=-1) * factors, axis=-1)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(raised, 1.0), axis=-1)
    return adjusted
