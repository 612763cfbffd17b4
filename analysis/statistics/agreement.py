"""Agreement of several judges on the order of the same things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from analysis.statistics.intervals import LEVEL, Array

FEWEST = 5
"""Things that a rank correlation needs for an interval."""
LARGEST = 1 - 1e-6
"""Rank correlations are clipped here before Fisher's transformation, which is infinite at 1."""


def rank_agreement(scores: Array) -> float:
    """The mean Spearman correlation between all pairs of judges, for scores ``(judges, things)``; ties share ranks.

    NaN for fewer than two judges or things, and if a judge gives all things the same score.
    """
    ranks = stats.rankdata(scores, axis=-1)
    if min(ranks.shape) < 2 or (np.ptp(ranks, axis=-1) == 0).any():
        return float("nan")
    correlations = np.corrcoef(ranks)
    return float(correlations[np.triu_indices(len(ranks), k=1)].mean())


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ or Kendall's τ of ``n`` pairs with the ends of its 95 % interval, None for fewer than five pairs."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None


def rank_correlation(x: Array, y: Array, kind: Literal["spearman", "kendall"]) -> RankCorrelation:
    """The rank correlation of two judges' scores of the same things, ``(things,)`` each, from -1 to 1.

    The interval is Fisher's, with the standard errors of Bonett and Wright (Psychometrika 65, 2000):
    √((1 + ρ² / 2) / (n - 3)) for ρ and √(0.437 / (n - 4)) for τ. NaN for fewer than two things, and if a judge gives
    all things the same score.

    >>> import numpy as np
    >>> found = rank_correlation(np.arange(10.0), np.array([0.0, 2, 1, 3, 5, 4, 6, 8, 7, 9]), "spearman")
    >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
    (0.96, 0.8, 0.99)
    """
    n = len(x)
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(float("nan"), n)
    value = float((stats.spearmanr if kind == "spearman" else stats.kendalltau)(x, y).statistic)
    if n < FEWEST:
        return RankCorrelation(value, n)
    variance = (1 + value**2 / 2) / (n - 3) if kind == "spearman" else 0.437 / (n - 4)
    middle, reach = np.arctanh(np.clip(value, -LARGEST, LARGEST)), special.ndtri(1 - LEVEL / 2) * np.sqrt(variance)
    return RankCorrelation(value, n, float(np.tanh(middle - reach)), float(np.tanh(middle + reach)))
