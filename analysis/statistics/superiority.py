"""The probability that one of two is better: the share of pairs that it wins, with an interval."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

from analysis.statistics.intervals import LEVEL, Array, Estimate

TINY = 1e-12


def superiority(a: Array, b: Array, *, paired: bool, level: float = LEVEL) -> Estimate:
    """P(A > B) + P(A = B) / 2 for replicates ``(n,)`` and ``(m,)``, with the ends of its interval; ties count half.

    If paired (by position), it is the share of pairs that A wins, with Wilson's (1927) score interval. Otherwise it is
    the Mann–Whitney statistic divided by n m, with Newcombe's (2006, part 2, method 5) score interval, whose variance
    is that of Hanley & McNeil (1982). The result's ``n`` is the number of pairs, or the size of the smaller group.
    Bouthillier et al. (2021) recommend P(A > B) for comparing models over their seeds. Raises ``ValueError`` for no
    values, and for pairs of unequal length.

    >>> import numpy as np
    >>> found = superiority(np.array([5.0, 6.0, 7.0]), np.array([1.0, 6.5, 3.0]), paired=True)
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.667, 0.208, 0.939)
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (x.size and y.size and np.isfinite([*x, *y]).all()):
        raise ValueError(f"superiority needs finite values in both groups, got {x.size} and {y.size}")
    if paired and x.size != y.size:
        raise ValueError(f"pairs need groups of one length, got {x.size} and {y.size} values")
    gaps = x - y if paired else np.subtract.outer(x, y)
    share = float((np.sign(gaps) + 1).mean() / 2)
    z = float(special.ndtri(1 - level / 2))
    if paired:
        return Estimate(share, x.size, *wilson(share, x.size, z))
    return Estimate(share, min(x.size, y.size), *_newcombe(share, x.size, y.size, z))


def wilson(share: float, count: int, z: float) -> tuple[float, float]:
    """The ends of the score interval of a share of ``count``, at ``z`` standard errors (Wilson, 1927)."""
    whole = 1 + z**2 / count
    middle = (share + z**2 / (2 * count)) / whole
    reach = z / whole * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _newcombe(share: float, n: int, m: int, z: float) -> tuple[float, float]:
    """The values from which ``share`` is ``z`` of their standard errors away."""
    common = (n + m) / 2 - 1

    def apart(theta: float) -> float:
        spread = 1 + common * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (share - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (n * m)

    # ``apart`` is negative between the ends. 0 and 1 are avoided, since the variance is 0 there too.
    inside = min(max(share, TINY), 1 - TINY)
    low = 0.0 if share <= 0 else float(optimize.brentq(apart, 0.0, inside))
    high = 1.0 if share >= 1 else float(optimize.brentq(apart, inside, 1.0))
    return low, high
