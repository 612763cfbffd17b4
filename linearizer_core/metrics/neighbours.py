"""How much of each of two sets lies in the other's nearest-neighbour balls: fidelity and diversity apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError, NotFiniteError
from linearizer_core.metrics.sets import rows, unit

NEIGHBOURS = 5
"""Of a point, up to which its ball reaches."""

ENTRIES = 2**24
"""The most distances held at once."""


@dataclass(frozen=True)
class Neighbourhood:
    """Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020).

    A set's balls are centred at its points, each reaching to the point's k-th nearest neighbour in the set, border
    included. ``precision``: the share of fakes in some real ball; ``recall``: the share of reals in some fake ball;
    ``density``: the number of real balls that a fake is in, on average, over k; ``coverage``: the share of real balls
    with a fake in them. Density is not bounded by 1, which is its expectation for fakes drawn as the reals were.
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
        raise NotFiniteError("neighbours need features that are finite: a distance to any other is none")
    # Of numbers that are tiny or huge throughout, squares would be 0 or infinite, and every point in every ball.
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
        raise NotFiniteError("neighbours need features that are finite: a distance to any other is none")
    size = unit(points)
    return _radii(points / size, k) * size


def _radii(points: Tensor, k: int) -> Tensor:
    """Each point's distance to its ``k``-th nearest other point, ``(count,)``."""
    # A point's distance to itself is the least: it stands before those of the others.
    return torch.cat([distances.kthvalue(k + 1, dim=1).values for _, distances in _distances(points, points)])


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of the distances ``(len(a), len(b))``, each with the rows that it holds."""
    count = max(1, ENTRIES // len(b))
    for start in range(0, len(a), count):
        block = slice(start, start + count)
        # Not by a matrix product: equal points must be at distance 0, and a ball's border at its radius.
        yield block, torch.cdist(a[block], b, compute_mode="donot_use_mm_for_euclid_dist")
