"""How much of each of two sets lies in the other's nearest-neighbour balls: fidelity and diversity separately."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError, NotFiniteError
from linearizer_core.metrics.sets import rows, unit

NEIGHBOURS = 5
"""The ball around a point reaches to its neighbour of this number."""

ENTRIES = 2**24
"""Maximum number of distances held at once."""


@dataclass(frozen=True)
class Neighbourhood:
    """Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020).

    A set's balls are centred at its points, each reaching to the point's k-th nearest neighbour in the set, border
    included. ``precision``: the share of fakes in some real ball; ``recall``: the share of reals in some fake ball;
    ``density``: the average number of real balls that contain a fake, divided by k; ``coverage``: the share of real
    balls with a fake in them. Density is not bounded by 1, its expectation for fakes distributed like the reals.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhood(
    real: Tensor, fake: Tensor, k: int = NEIGHBOURS, *, real_radii: Tensor | None = None
) -> Neighbourhood:
    """The four scores of ``fake`` against ``real``, both feature sets ``(count, features)``, in float64.

    ``real_radii`` ``(count,)`` are ``neighbour_radii(real, k)``. Passing them saves most of the time when many sets are
    scored against one large set.

    Raises ``ValueError`` for ``k`` below 1, for a set of ``k`` or fewer, for sets of different dimensions or of none,
    for radii of another count, and if an entry is not finite.

    >>> import torch, linearizer_core as lc
    >>> a, b = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.neighbourhood(a, a)
    Neighbourhood(precision=1.0, recall=1.0, density=1.2, coverage=1.0)
    """
    real, fake = rows(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        message = f"k must be at least 1 and less than either set's size, got {k} of {len(real)}, {len(fake)}"
        raise InputValueError(message)
    if real.shape[1] != fake.shape[1] or not real.shape[1]:
        raise InputValueError(f"both sets must have as many features, got {real.shape[1]} and {fake.shape[1]}")
    if not bool(real.isfinite().all() and fake.isfinite().all()):
        raise NotFiniteError("neighbours need finite features: distances to others are undefined")
    # Squares of numbers that are all tiny or all huge would be 0 or infinite, and every point in every ball.
    size = unit(real, fake)
    real, fake = real / size, fake / size
    if real_radii is not None and real_radii.shape != (len(real),):
        raise InputValueError(f"real_radii must have shape ({len(real)},), got {tuple(real_radii.shape)}")
    real_radii = _radii(real, k) if real_radii is None else real_radii / size
    fake_radii = _radii(fake, k)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    recalled = covered = 0
    for block, distances in _distances(real, fake):
        within = distances <= real_radii[block, None]
        balls += within.sum(0)
        covered += int(within.any(1).sum())
        recalled += int((distances <= fake_radii).any(1).sum())
    return Neighbourhood(
        precision=int((balls > 0).sum()) / len(fake),
        recall=recalled / len(real),
        density=int(balls.sum()) / (k * len(fake)),
        coverage=covered / len(real),
    )


def neighbour_radii(points: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Each point's distance to its ``k``-th nearest other point, ``(count,)``, for a set ``(count, features)``.

    Raises ``ValueError`` for ``k`` below 1, for a set of ``k`` or fewer, and if an entry is not finite.

    >>> import torch, linearizer_core as lc
    >>> lc.metrics.neighbour_radii(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
    tensor([1., 1., 2.], dtype=torch.float64)
    """
    (points,) = rows(points)
    if not 1 <= k < len(points):
        raise InputValueError(f"k must be at least 1 and less than the set's size, got {k} of {len(points)}")
    if not bool(points.isfinite().all()):
        raise NotFiniteError("neighbours need finite features: distances to others are undefined")
    size = unit(points)
    return _radii(points / size, k) * size


def _radii(points: Tensor, k: int) -> Tensor:
    """Each point's distance to its ``k``-th nearest other point, ``(count,)``."""
    # A point's distance to itself is the smallest and comes first.
    return torch.cat([distances.kthvalue(k + 1, dim=1).values for _, distances in _distances(points, points)])


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of the distances ``(len(a), len(b))``, each with the slice of its rows."""
    count = max(1, ENTRIES // len(b))
    for start in range(0, len(a), count):
        block = slice(start, start + count)
        # Avoid matrix products: equal points must have distance 0, and a ball's border must be exactly at its radius.
        yield block, torch.cdist(a[block], b, compute_mode="donot_use_mm_for_euclid_dist")
