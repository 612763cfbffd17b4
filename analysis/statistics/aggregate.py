"""Aggregates of one method's scores over several tasks (Agarwal et al., NeurIPS 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from analysis.statistics.intervals import LEVEL, Array, Estimate

FEWEST_RUNS = 3
"""Runs per task that the stratified bootstrap needs for an interval."""
RESAMPLES = 2_000


def interquartile_mean(scores: Array) -> Array:
    """The 25 % trimmed mean: the mean of the middle half of the last dimension.

    >>> import numpy as np
    >>> float(interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0])))
    1.5
    """
    return np.asarray(stats.trim_mean(scores, proportiontocut=0.25, axis=-1), dtype=np.float64)


def iqm(tasks: Sequence[Array]) -> Estimate:
    """The interquartile mean over all runs ``(runs,)`` of all tasks, with its 95 % interval by ``resampled``.

    There is no interval if a task has fewer than three runs. Raises ``ValueError`` for no runs.

    >>> import numpy as np
    >>> found = iqm([np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])])
    >>> round(found.mean, 2), found.n, found.low < 0.4 < found.high
    (0.4, 6, True)
    """
    every = np.concatenate(tasks) if len(tasks) else np.empty(0)
    if every.size == 0:
        raise ValueError("a mean needs at least one run")
    mean = float(interquartile_mean(every))
    if min(len(runs) for runs in tasks) < FEWEST_RUNS:
        return Estimate(mean, every.size)
    low, high = _ends(resampled(tasks, lambda parts: interquartile_mean(np.concatenate(parts, axis=-1))))
    return Estimate(mean, every.size, float(low), float(high))


def performance_profile(tasks: Sequence[Array], thresholds: Array) -> tuple[Array, Array | None, Array | None]:
    """The share of runs with a score above each of ``thresholds`` ``(t,)``, averaged over tasks, and its interval.

    Returns the profile ``(t,)`` and the ends of its pointwise 95 % interval, None if a task has fewer than three runs.

    >>> import numpy as np
    >>> profile, _, _ = performance_profile([np.array([0.1, 0.3]), np.array([0.5, 0.7])], np.array([0.2, 0.6]))
    >>> profile.tolist()
    [0.75, 0.25]
    """

    def above(parts: Sequence[Array]) -> Array:
        return np.mean([(part[..., None, :] > thresholds[:, None]).mean(axis=-1) for part in parts], axis=0)

    profile = above(tasks)
    if min(len(runs) for runs in tasks) < FEWEST_RUNS:
        return profile, None, None
    low, high = _ends(resampled(tasks, above, widened=False))
    return profile, low, high


def resampled(tasks: Sequence[Array], statistic: Callable[[Sequence[Array]], Array], *, widened: bool = True) -> Array:
    """A statistic of 2,000 stratified resamples: each task's runs are resampled with replacement.

    ``statistic`` takes a ``(2000, runs)`` array per task. Resamples of n runs vary less than runs do, by a factor
    √((n - 1) / n), which is a fifth less for three runs; ``widened`` corrects for it.
    """
    rng, parts = np.random.default_rng(0), []
    for runs in tasks:
        mean = runs.mean()
        wide = np.sqrt(len(runs) / (len(runs) - 1)) if widened and len(runs) > 1 else 1.0
        parts.append((mean + (runs - mean) * wide)[rng.integers(len(runs), size=(RESAMPLES, len(runs)))])
    return statistic(parts)


def _ends(values: Array) -> tuple[Array, Array]:
    low, high = np.quantile(values, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return low, high
