"""Power of paired tests, detectable differences, numbers of pairs needed, equivalence, and sign-flip tests."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from analysis.statistics.intervals import LEVEL, Array

POWER = 0.8
"""The power at which a difference counts as detectable."""
MOST_PAIRS = 10_000
MOST_FLIPS = 9_999
"""The most sign flips; if there are more, so many are drawn at random."""
_nodes, _weights = np.polynomial.legendre.leggauss(400)
PLACES, WEIGHTS = (_nodes + 1) / 2, _weights / 2
"""Nodes and weights of Gauss–Legendre quadrature over (0, 1)."""


def power(effect: float, pairs: float, level: float = LEVEL) -> float:
    """The power of a two-sided paired t test for differences whose mean is ``effect`` standard deviations.

    It uses the noncentral t distribution (Cohen, Statistical Power Analysis, 1988, section 2.2), integrated over the
    estimated deviation, since SciPy's series fails for large effects with few pairs. ``pairs`` need not be an integer.
    0 for fewer than two pairs.

    >>> round(power(1.0, 10), 3)
    0.803
    """
    if pairs < 2:
        return 0.0
    bound, shift = float(special.stdtrit(pairs - 1, 1 - level / 2)), abs(effect) * math.sqrt(pairs)
    estimated = np.sqrt(2 * special.gammaincinv((pairs - 1) / 2, PLACES) / (pairs - 1))
    seen = special.ndtr(shift - bound * estimated) + special.ndtr(-shift - bound * estimated)
    return float((WEIGHTS * seen).sum())


@cache
def detectable(pairs: int, level: float = LEVEL, share: float = POWER) -> float:
    """The smallest mean of paired differences, in standard deviations, that is detected with power ``share``.

    Infinite for fewer than two pairs.

    >>> [round(detectable(pairs), 2) for pairs in (2, 3, 5, 10)]
    [11.55, 3.26, 1.68, 1.0]
    """
    if pairs < 2:
        return math.inf
    high = 1.0
    while power(high, pairs, level) < share:
        high *= 2
    return float(optimize.brentq(lambda effect: power(effect, pairs, level) - share, 0.0, high, xtol=1e-6))


def pairs_needed(effect: float, level: float = LEVEL, share: float = POWER) -> int | None:
    """How many pairs detect a mean of ``effect`` standard deviations with power ``share``; None if over 10,000.

    >>> pairs_needed(0.5), pairs_needed(0.0)
    (34, None)
    """
    low, high = 1, 2
    while power(effect, high, level) < share:
        low, high = high, 2 * high
        if low > MOST_PAIRS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, level) >= share else (middle, high)
    return high


def equivalence(differences: Array, margin: float) -> float:
    """The p of the hypothesis that the mean of paired differences ``(pairs,)`` is ``margin`` or more away from 0.

    It is the larger p of two one-sided t tests (Schuirmann, 1987). Raises ``ValueError`` for fewer than two pairs and
    for a margin that is not positive.

    >>> import numpy as np
    >>> equivalence(np.array([0.1, -0.1, 0.0, 0.05]), 1.0) < 0.001 < equivalence(np.array([0.9, 1.1, 1.0]), 1.0)
    True
    """
    if differences.size < 2 or not margin > 0:
        raise ValueError(f"equivalence needs two pairs and a margin above 0, got {differences.size} and {margin:g}")
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if np.ptp(differences) == 0:
        return 0.0 if abs(mean) < margin else 1.0
    error = deviation / math.sqrt(differences.size)
    return float(special.stdtr(differences.size - 1, -(margin - abs(mean)) / error))


def sign_flips(differences: Array) -> float:
    """The two-sided p of paired differences ``(pairs,)`` by flipping their signs, which assumes only symmetry.

    It is exact up to 13 pairs; beyond, it uses 9,999 flips from a fixed seed (Fisher, The Design of Experiments, 1935,
    section 21). It cannot be below ``2 / 2ⁿ``, the share of the two flips that give all differences the same sign.

    >>> import numpy as np
    >>> sign_flips(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0625
    """
    if differences.size < 2 or not np.isfinite(differences).all():
        raise ValueError("a sign-flip test needs two or more finite differences")
    if not differences.any():
        return 1.0
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=MOST_FLIPS, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)
