"""What the best of several configurations is expected to be (Dodge et al., EMNLP 2019, arXiv 1909.03004)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.statistics.intervals import LEVEL, Array


@dataclass(frozen=True)
class BestOf:
    """The expected best of ``trials``, and between which values 95 % of such searches find theirs."""

    trials: int
    mean: float
    low: float
    high: float


def best_of(values: Array, trials: int) -> BestOf:
    """The best (least) of so many independent draws from ``values`` ``(n,)``, as equation 3 of the paper has it.

    Of the sorted values the i-th is the best of k draws with probability ((n - i + 1) / n)^k - ((n - i) / n)^k. Of few
    values it is too pessimistic for k near n, since none is better than the best that is known. Raises ``ValueError``
    for no values, values that are not finite, and fewer than one trial or more than there are values.

    >>> import numpy as np
    >>> found = best_of(np.array([1.0, 2.0, 3.0]), 2)
    >>> round(found.mean, 3), found.low, found.high
    (1.556, 1.0, 3.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if not np.isfinite(ordered).all() or not 1 <= trials <= n:
        raise ValueError(f"the best of {trials} needs as many finite values, got {n}")
    # The share of searches that find a value at most as good as each: all, at the best.
    beyond = ((n - np.arange(n)) / n) ** trials
    chances = beyond - np.append(beyond[1:], 0.0)
    reached = np.cumsum(chances)
    low = ordered[np.searchsorted(reached, LEVEL / 2)]
    high = ordered[min(int(np.searchsorted(reached, 1 - LEVEL / 2)), n - 1)]
    return BestOf(trials, float(chances @ ordered), float(low), float(high))
