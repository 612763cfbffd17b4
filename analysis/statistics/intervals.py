"""Intervals of a mean over replicates.

Arrays are float64; the last dimension holds the replicates, and all others are independent repetitions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special, stats

Array = np.ndarray[Any, np.dtype[np.float64]]
Method = Literal["t", "bootstrap"]
METHODS: dict[Method, str] = {"t": "Student t", "bootstrap": "BCa bootstrap"}
LEVEL = 0.05
"""The significance level of every test; intervals have a confidence of one minus this."""
RESAMPLES = 9999
BOOTSTRAP_FROM = 10
"""Replicates that a bootstrap interval needs for its nominal coverage; fewer have too few distinct resamples."""
TOO_FEW = f"No interval for fewer than {BOOTSTRAP_FROM} values: the bootstrap of so few covers less than 95 %."


@dataclass(frozen=True)
class Estimate:
    """A mean of ``n`` replicates with the ends of its 95 % confidence interval, None if it has none."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None


def rounding(*values: Array) -> float:
    """The rounding error of sums and differences of numbers of this size; a smaller spread counts as none."""
    return 8 * float(np.finfo(np.float64).eps) * max(float(np.abs(part).max(initial=0.0)) for part in values)


def student(count: Any, level: float = LEVEL) -> Any:
    """Half the width of a mean's confidence interval, 95 % by default, in standard deviations of ``count`` values."""
    return special.stdtrit(np.maximum(count - 1, 1), 1 - level / 2) / np.sqrt(count)


def estimate(values: Sequence[float] | Array, method: Method = "t") -> Estimate:
    """The mean of replicates and its interval, by Student's t or by the bias-corrected accelerated bootstrap.

    The bootstrap (Efron, 1987) draws 9,999 resamples from a fixed seed; if its acceleration is not defined, the
    percentile interval is used. Resamples vary less than samples, by a factor √((n - 1) / n), and their deviation is
    an estimate; the level is adjusted for both (Hesterberg, 2015). Student's interval needs two values, the
    bootstrap's ``BOOTSTRAP_FROM``. Raises ``ValueError`` for no values.

    >>> found = estimate([1.0, 2.0, 3.0])
    >>> round(found.low, 3), found.mean, round(found.high, 3)
    (-0.484, 2.0, 4.484)
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("a mean needs at least one value")
    # The computed mean of equal numbers can be off by a bit, and then so is their deviation.
    mean = float(sample.mean()) if np.ptp(sample) else float(sample[0])
    if sample.size < 2 or not np.isfinite(sample).all():
        return Estimate(mean, sample.size)
    if np.ptp(sample) == 0:
        return Estimate(mean, sample.size, mean, mean)
    if method == "t":
        reach = float(sample.std(ddof=1) * student(sample.size))
        return Estimate(mean, sample.size, mean - reach, mean + reach)
    if sample.size < BOOTSTRAP_FROM:
        return Estimate(mean, sample.size)
    level = 1 - 2 * special.ndtr(-student(sample.size) * sample.size / np.sqrt(sample.size - 1))
    for how in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                (sample,),
                np.mean,
                n_resamples=RESAMPLES,
                method=how,
                confidence_level=level,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if np.isfinite([found.low, found.high]).all():
            break
    return Estimate(mean, sample.size, float(found.low), float(found.high))
