"""What so many replicates can tell: the difference that they would show, how many would show one, and what is equal."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from analysis.statistics.intervals import LEVEL, Array

POWER = 0.8
"""The share of repetitions in which a difference is to be seen."""
MOST_PAIRS = 10_000
MOST_FLIPS = 9_999
"""Sign flips that are drawn where there are more than that."""
_nodes, _weights = np.polynomial.legendre.leggauss(400)
PLACES, WEIGHTS = (_nodes + 1) / 2, _weights / 2
"""Of an integral over (0, 1), by Gauss and Legendre."""


def power(effect: float, pairs: float, level: float = LEVEL) -> float:
    """The power of a two-sided paired t test: of seeing differences whose mean is ``effect`` standard deviations.

    By the noncentral t distribution (Cohen, Statistical Power Analysis, 1988, section 2.2), integrated over the
    estimated deviation: SciPy's series has no value for large effects of few pairs. ``pairs`` need not be whole. 0
    below two pairs.

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
    """The least mean of paired differences, in their standard deviations, that is seen with a power of ``share``.

    Infinite below two pairs.

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
    """How many pairs see a mean of ``effect`` standard deviations with a power of ``share``; None: over 10,000.

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
    """p of the hypothesis that the mean of paired differences is ``margin`` or more away from 0, ``(pairs,)``.

    Two one-sided t tests, the larger p of both (Schuirmann, 1987). Raises ``ValueError`` for fewer than two pairs and
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
    """The two-sided p of paired differences ``(pairs,)`` by flipping their signs, which assumes their symmetry alone.

    Exact up to 13 pairs, otherwise of 9,999 flips from a fixed seed (Fisher, The Design of Experiments, 1935, section
    21). It cannot be below ``2 / 2ⁿ``, the share of the two flips that leave all signs equal.

    >>> import numpy as np
    >>> sign_flips(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0625
    """
    if differences.size < 2 or not np.isfinite(differences).all():
        raise ValueError("signs are flipped of two finite differences or more")
    if not differences.any():
        return 1.0
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=MOST_FLIPS, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)
