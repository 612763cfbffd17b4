"""The expected best of several configurations (Dodge et al., EMNLP 2019, arXiv 1909.03004)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.statistics.intervals import LEVEL, Array


@dataclass(frozen=True)
class BestOf:
    """The expected best of ``trials``, and the interval in which 95 % of such searches find theirs."""

    trials: int
    mean: float
    low: float
    high: float


def best_of(values: Array, trials: int) -> BestOf:
    """The expected best (smallest) of so many independent draws from ``values`` ``(n,)`` (the paper's equation 3).

    The i-th of the sorted values is the best of k draws with probability ((n - i + 1) / n)^k - ((n - i) / n)^k. With
    few values the estimate is too pessimistic for k near n, since no draw can be better than the best known value.
    Raises ``ValueError`` for no values, values that are not finite, and fewer than one trial or more than there are
    values.

    >>> import numpy as np
    >>> found = best_of(np.array([1.0, 2.0, 3.0]), 2)
    >>> round(found.mean, 3), found.low, found.high
    (1.556, 1.0, 3.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if not np.isfinite(ordered).all() or not 1 <= trials <= n:
        raise ValueError(f"the best of {trials} needs as many finite values, got {n}")
    # The share of searches whose best is no better than each value; 1 for the best value.
    beyond = ((n - np.arange(n)) / n) ** trials
    chances = beyond - np.append(beyond[1:], 0.0)
    reached = np.cumsum(chances)
    low = ordered[np.searchsorted(reached, LEVEL / 2)]
    high = ordered[min(int(np.searchsorted(reached, 1 - LEVEL / 2)), n - 1)]
    return BestOf(trials, float(chances @ ordered), float(low), float(high))
