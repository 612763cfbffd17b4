"""Scores of one method on several tasks in a few numbers (Agarwal et al., NeurIPS 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from analysis.statistics.intervals import LEVEL, Array, Estimate

FEWEST_RUNS = 3
"""Runs of each task from which on the stratified bootstrap has an interval."""
RESAMPLES = 2_000


def interquartile_mean(scores: Array) -> Array:
    """The mean of the middle half of the last dimension: the 25 % trimmed mean.

    >>> import numpy as np
    >>> float(interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0])))
    1.5
    """
    return np.asarray(stats.trim_mean(scores, proportiontocut=0.25, axis=-1), dtype=np.float64)


def iqm(tasks: Sequence[Array]) -> Estimate:
    """The interquartile mean over all runs ``(runs,)`` of all tasks, with its 95 % interval by ``resampled``.

    Without an interval where a task has fewer than three runs. Raises ``ValueError`` for no runs.

    >>> import numpy as np
    >>> found = iqm([np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])])
    >>> round(found.mean, 2), found.n, found.low < 0.4 < found.high
    (0.4, 6, True)
    """
    every = np.concatenate(tasks) if len(tasks) else np.empty(0)
    if every.size == 0:
        raise ValueError("there is no mean of no runs")
    mean = float(interquartile_mean(every))
    if min(len(runs) for runs in tasks) < FEWEST_RUNS:
        return Estimate(mean, every.size)
    low, high = _ends(resampled(tasks, lambda parts: interquartile_mean(np.concatenate(parts, axis=-1))))
    return Estimate(mean, every.size, float(low), float(high))


def performance_profile(tasks: Sequence[Array], thresholds: Array) -> tuple[Array, Array | None, Array | None]:
    """The share of runs whose score is above each of ``thresholds`` ``(t,)``, the mean over tasks, and its interval.

    Returns the profile and the ends of its pointwise 95 % interval, None if a task has fewer than three runs.

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
    """A statistic of 2,000 stratified resamples: of each task as many runs as it has, with replacement.

    ``statistic`` takes a ``(2000, runs)`` array of each task. Resamples of n runs vary less than runs do, by
    √((n - 1) / n), which is a fifth of three: ``widened`` makes up for it.
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
