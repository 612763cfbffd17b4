"""Comparison of methods over several data sets by their ranks on each (Demšar, JMLR 7, 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.statistics.intervals import LEVEL, Array

PERMUTATIONS = 9_999
CHUNK = 909


@dataclass(frozen=True)
class MeanRanks:
    """Mean ranks ``(methods,)``, 1 the best, and whether methods differ.

    ``chi2`` is Friedman's statistic and ``f`` that of Iman and Davenport; ``p`` comes from permuting the ranks within
    each data set, and so holds for few data sets as well. Any two mean ranks that are at least ``critical_difference``
    apart differ at 0.05 by Nemenyi's test; ``error`` is the standard error of a mean rank, which scales it.
    """

    ranks: Array
    chi2: float
    f: float
    p: float
    error: float
    critical_difference: float

    def nemenyi(self, place: int) -> Array:
        """The p of one method against each, ``(methods,)``, corrected for all pairs; 1 against itself."""
        gaps = np.abs(self.ranks - self.ranks[place]) / self.error
        return np.where(gaps > 0, stats.studentized_range.sf(gaps, len(gaps), math.inf), 1.0)

    def cliques(self) -> list[tuple[int, int]]:
        """The first and last index, sorted by mean rank, of each maximal group without a significant difference."""
        ordered = np.sort(self.ranks)
        last = [int(np.searchsorted(ordered, rank + self.critical_difference, side="left")) - 1 for rank in ordered]
        starts = [place for place in range(len(last)) if place == 0 or last[place] > last[place - 1]]
        return [(place, last[place]) for place in starts if last[place] > place]


def mean_ranks(scores: Array) -> MeanRanks:
    """Friedman's test of ``scores`` ``(methods, data sets)``, lower is better, and Nemenyi's test of all pairs.

    Ties share ranks. Raises ``ValueError`` for fewer than two methods or data sets, and for scores that are not finite.

    >>> import numpy as np
    >>> found = mean_ranks(np.array([[1.0, 2.0, 1.0], [2.0, 3.0, 4.0], [3.0, 1.0, 5.0]]))
    >>> found.ranks.round(2).tolist(), round(found.critical_difference, 2)
    ([1.33, 2.33, 2.33], 1.91)
    """
    methods, sets = scores.shape
    if methods < 2 or sets < 2 or not np.isfinite(scores).all():
        raise ValueError(f"ranks need two methods and two data sets of finite scores, got {methods} and {sets}")
    ranks = stats.rankdata(scores, axis=0)
    chi2 = float(_chi2(ranks))
    left = sets * (methods - 1) - chi2
    f = math.inf if left <= 0 else (sets - 1) * chi2 / left
    rng = np.random.default_rng(0)
    as_large = 0
    for _ in range(PERMUTATIONS // CHUNK):
        shuffled = rng.permuted(np.broadcast_to(ranks, (CHUNK, methods, sets)), axis=1)
        as_large += int((_chi2(shuffled) >= chi2 - 1e-9).sum())
    mean = ranks.mean(axis=1)
    error = math.sqrt(methods * (methods + 1) / (12 * sets))
    critical = error * float(stats.studentized_range.ppf(1 - LEVEL, methods, math.inf))
    return MeanRanks(mean, chi2, f, (as_large + 1) / (PERMUTATIONS + 1), error, critical)


def _chi2(ranks: Array) -> Array:
    """Friedman's statistic of ranks ``(…, methods, data sets)``, corrected for ties; 0 if all methods tie."""
    methods, sets = ranks.shape[-2:]
    middle = (methods + 1) / 2
    spread = np.square(ranks - middle).sum(axis=(-2, -1))
    between = np.square(ranks.mean(axis=-1) - middle).sum(axis=-1)
    return np.asarray(sets**2 * (methods - 1) * between / np.where(spread == 0, 1.0, spread))
