"""The uncertainty of a distance between sets: its deviation by chance, and its value extrapolated to infinite sets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError

Distance = Callable[[Tensor, Tensor], float]

RESAMPLES = 50
SHARES = tuple(1 / (1 + i / 4) for i in range(13))
"""Shares of both sets used in the line fit: even in 1 / n, from the whole down to a quarter."""
FEWEST = 8
"""Smallest size of a set for a line fit: a quarter of it still has a covariance."""
SEED = 13


def bootstrap_deviation(distance: Distance, a: Tensor, b: Tensor, resamples: int = RESAMPLES) -> float:
    """The standard deviation of a distance of sets ``(count, features)`` over resamples of both, from a fixed seed.

    It estimates the variation over other samples of a model and other held-out images (Efron, 1979). Resampled sets are
    farther apart than the sets themselves, so the mean over resamples is meaningless. For sets that are hardly farther
    apart than chance makes them, the deviation would be twice too large for the same reason: there a distance is
    quadratic in what chance does, and a resample adds its own chance to that of the sets. What this adds to the
    variance is twice the variance of the distance between two resamples of one set, and is subtracted.

    Raises ``InputValueError`` for fewer than two resamples and for an empty set.

    >>> import torch, linearizer_core as lc
    >>> a, b = torch.randn(2, 500, 4, generator=torch.Generator().manual_seed(0))
    >>> deviation = lc.metrics.bootstrap_deviation(lc.metrics.frechet_distance, a, b + 1)
    >>> 0.1 < deviation < 1
    True
    """
    if resamples < 2 or not min(len(a), len(b)):
        raise InputValueError(f"at least two resamples of sets that are not empty are needed, got {resamples}")
    generator = torch.Generator().manual_seed(SEED)

    def drawn(rows: Tensor) -> Tensor:
        return rows[torch.randint(len(rows), (len(rows),), generator=generator).to(rows.device)]

    def deviation(first: Tensor, second: Tensor) -> Tensor:
        found = [distance(drawn(first), drawn(second)) for _ in range(resamples)]
        return torch.tensor(found, dtype=torch.float64).std()

    # Sets of unequal size: the mean of the deviations within each is that of a pair with the noise of both.
    within = ((deviation(a, a) + deviation(b, b)) / 2).square()
    return float((deviation(a, b).square() - 2 * within).clamp_min(within).sqrt())


def extrapolated(distance: Distance, a: Tensor, b: Tensor) -> float:
    """A distance of sets ``(count, features)`` extrapolated to infinite sets: a line over 1 / n, evaluated at 0.

    The Fréchet distance of two samples is too large by a multiple of 1 / n (Chong & Forsyth, Effectively Unbiased FID
    and Inception Score, 2020). Here both sets are finite, and both are cut to the same shares of a quarter or more, at
    random from a fixed seed. The result can be negative if the true distance is near 0.

    Raises ``InputValueError`` for a set of fewer than ``FEWEST``.

    >>> import torch, linearizer_core as lc
    >>> a, b = torch.randn(2, 400, 8, generator=torch.Generator().manual_seed(0))
    >>> distance = lc.metrics.frechet_distance
    >>> abs(lc.metrics.extrapolated(distance, a, b)) < distance(a, b) / 2
    True
    """
    if min(len(a), len(b)) < FEWEST:
        raise InputValueError(f"a line over 1 / n needs at least {FEWEST} of each set, got {len(a)} and {len(b)}")
    generator = torch.Generator().manual_seed(SEED)

    def cut(rows: Tensor, share: float) -> Tensor:
        order = torch.randperm(len(rows), generator=generator)[: max(2, round(share * len(rows)))]
        return rows[order.to(rows.device)]

    inverse = torch.tensor([1 / share for share in SHARES], dtype=torch.float64)
    values = [distance(a, b) if share == 1 else distance(cut(a, share), cut(b, share)) for share in SHARES]
    found = torch.tensor(values, dtype=torch.float64)
    # Distances of smaller sets vary more: by about 1 / n, like the bias that is fitted.
    weights = inverse.square().reciprocal()
    mean_x, mean_y = (weights * inverse).sum() / weights.sum(), (weights * found).sum() / weights.sum()
    slope = (weights * (inverse - mean_x) * (found - mean_y)).sum() / (weights * (inverse - mean_x).square()).sum()
    return float(mean_y - slope * mean_x)
