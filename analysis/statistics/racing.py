"""Racing: configurations get more seeds only while they may still be the best."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from analysis.record.sweep_info import Direction

ERROR = 0.05
"""The largest probability of eliminating the best configuration, over all looks."""


@dataclass(frozen=True)
class Standing:
    """The state of a race after its last look, which was at ``seeds`` seeds.

    ``left`` are the configurations still in the race, the leader first; ``out`` has, for each other one, the number of
    seeds at which it was eliminated. The race is ``decided`` once one is left or all have the most seeds allowed.
    """

    seeds: int
    left: tuple[Hashable, ...]
    out: Mapping[Hashable, int]
    decided: bool


def race(
    values: Mapping[Any, Sequence[float]],
    at_least: int,
    at_most: int,
    direction: Direction = "min",
    error: float = ERROR,
) -> Standing:
    """The standing of configurations in a race, given their values at seeds 0, 1, … in this order.

    After ``at_least`` seeds, and after each further one, configurations that are worse than the leader by a one-sided
    paired t test are eliminated. The best is eliminated with probability ``error`` at most, if differences between
    configurations are normal: the level is spent in equal parts over the looks (the spending function α·t of Lan and
    DeMets, Biometrika 70, 1983), and within a look over all pairs that may include the best (Bonferroni), which needs
    no joint distribution. Races by paired tests go back to Maron and Moore (1997) and Birattari et al. (F-Race, 2002).

    Raises ``ValueError`` for a value that is not finite, and for a configuration with fewer than ``at_least``.

    >>> values = {"a": [1.0, 1.2, 1.1, 1.0, 1.1], "b": [1.1, 1.2, 1.0, 1.1, 1.2], "c": [9.0, 9.1, 9.2, 8.9, 9.1]}
    >>> race(values, 3, 12)
    Standing(seeds=5, left=('a', 'b'), out={'c': 3}, decided=False)
    """
    sign = 1.0 if direction == "min" else -1.0
    arrays = {key: sign * np.asarray(each, dtype=np.float64) for key, each in values.items()}
    for key, each in arrays.items():
        if len(each) < at_least or not np.isfinite(each).all():
            raise ValueError(f"{key} must have at least {at_least} finite values, got {values[key]}")
    level = error / (max(1, at_most - at_least) * max(1, len(arrays) - 1))
    left, out, seeds = list(arrays), dict[Hashable, int](), at_least
    for seeds in range(at_least, at_most + 1):
        left.sort(key=lambda key: (arrays[key][:seeds].mean(), list(arrays).index(key)))
        if seeds == at_most:
            break
        lost = [key for key in left[1:] if _p_worse(arrays[key][:seeds] - arrays[left[0]][:seeds]) < level]
        out |= dict.fromkeys(lost, seeds)
        left = [key for key in left if key not in lost]
        if len(left) <= 1 or any(len(arrays[key]) <= seeds for key in left):
            break
    return Standing(seeds, tuple(left), out, len(left) <= 1 or seeds == at_most)


def _p_worse(differences: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The one-sided p of Student's t test of the hypothesis that the mean difference is not above zero."""
    mean, n = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1)) / np.sqrt(n)
    if error == 0.0:
        return 0.0 if mean > 0 else 1.0
    return float(special.stdtr(n - 1, -mean / error))
