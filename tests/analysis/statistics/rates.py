"""Random numbers of a seed, and how far a rate may be from what is stated."""

from __future__ import annotations

import numpy as np
from scipy import stats

SWEEPS = 1000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rate_bound(rate: float, count: int = SWEEPS) -> float:
    """What a count of so many exceeds once in ten thousand times where the rate is true."""
    return float(stats.binom.ppf(1 - 1e-4, count, rate)) / count
