"""Distances between sets of generated and real images, and scores of single images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError, NotFiniteError
from linearizer_core.metrics.sets import rows, unit

PROJECTIONS = 512
PROJECTION_SEED = 7


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = PROJECTIONS, seed: int = PROJECTION_SEED) -> float:
    """The sliced 2-Wasserstein distance of two sets ``(count, *event)`` (Rabin et al., 2012).

    The root of the mean over random unit directions of the squared one-dimensional W2. Sets of different sizes are
    compared at the quantiles of the smaller one. The directions depend only on ``seed`` and the dimension. NaN if an
    entry is not finite.

    Raises ``ValueError`` for an empty set, and for sets of different dimensions or without entries.

    >>> import torch, linearizer_core as lc
    >>> a, b = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.sliced_wasserstein(a, a) < 1e-6 < lc.metrics.sliced_wasserstein(a, b + 1)
    True
    """
    if projections < 1:
        raise InputValueError(f"projections must be at least 1, got {projections}")
    a, b = _two_sets(a, b, 1)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(a.shape[1], projections, generator=generator, dtype=torch.float64).to(a.device)
    directions = directions / directions.norm(dim=0)
    count = min(len(a), len(b))
    gap = _quantiles(a @ directions, count) - _quantiles(b @ directions, count)
    return float(gap.square().mean().sqrt())


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Each column's quantiles at ``count`` mid-points, by linear interpolation: ``(n, p)`` to ``(count, p)``."""
    ordered = values.sort(dim=0).values
    if len(ordered) == count:
        return ordered
    position = (torch.arange(count, dtype=values.dtype, device=values.device) + 0.5) / count * len(ordered) - 0.5
    position = position.clamp(0, len(ordered) - 1)
    low = position.floor().long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (position - low)[:, None])


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μa - μb‖² + tr(Σa + Σb - 2 (Σa Σb)^½) of feature sets ``(count, features)``, in float64.

    The squared 2-Wasserstein distance of the Gaussians fitted to both (Dowson & Landau, 1982), with unbiased
    covariances. tr (Σa Σb)^½ is the sum of the root eigenvalues of Σa^½ Σb Σa^½, which is symmetric.

    Raises ``ValueError`` for a set of fewer than two, which has no covariance, for sets of different dimensions or
    without features, and if an entry is not finite.

    >>> import torch, linearizer_core as lc
    >>> a, b = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.frechet_distance(a, a) < 1e-6 < lc.metrics.frechet_distance(a, b + 1)
    True
    """
    a, b = _two_sets(a, b, 2)
    for each in (a, b):
        if not bool(each.isfinite().all()):
            raise NotFiniteError("the Fréchet distance needs finite features")
    size = unit(a, b)
    a, b = a / size, b / size
    mean = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.atleast_2d(torch.cov(a.T)), torch.atleast_2d(torch.cov(b.T))
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((mean + cov_a.trace() + cov_b.trace() - 2 * cross).clamp_min(0)) * size * size


def psnr(a: Tensor, b: Tensor, peak: float = 2.0) -> float:
    """Peak signal-to-noise ratio in dB of images with values over a range of ``peak`` (2 for [-1, 1]).

    Raises ``ValueError`` for images of different shapes, or without pixels.

    >>> import torch, linearizer_core as lc
    >>> round(lc.metrics.psnr(torch.zeros(4), torch.full((4,), 0.2)), 3)
    20.0
    """
    if a.shape != b.shape or not a.numel():
        raise InputValueError(
            f"images must have the same shape to be compared, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if not peak > 0 or a.is_complex() or b.is_complex():
        raise InputValueError(f"images must be real and their peak above 0, got {a.dtype}, {b.dtype} and {peak}")
    error = (a.double() - b.double()).square().mean()
    return float("inf") if error == 0 else float(10 * torch.log10(peak**2 / error))


def kernel_distance(a: Tensor, b: Tensor, degree: int = 3, block: int = 2048) -> float:
    """The unbiased squared MMD of feature sets ``(count, features)`` with kernel (x·y / features + 1)^degree, in
    float64.

    The kernel distance of Bińkowski et al. (2018): KID if the features are Inception's. It is zero in expectation for
    sets from the same distribution, whatever their sizes, and so it can be negative. At most ``block`` × ``block``
    kernel values are held at once.

    Raises ``ValueError`` for a set of fewer than two, and for sets of different dimensions or without features.

    >>> import torch, linearizer_core as lc
    >>> a, b = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.kernel_distance(a, b) < lc.metrics.kernel_distance(a, b + 1)
    True
    """
    if degree < 1 or degree != int(degree) or block < 1:
        raise InputValueError(f"degree and block must be whole numbers of at least 1, got {degree} and {block}")
    a, b = _two_sets(a, b, 2)
    within_a = _kernel_sum(a, a, degree, block) - _kernel_diagonal(a, degree, block)
    within_b = _kernel_sum(b, b, degree, block) - _kernel_diagonal(b, degree, block)
    across = _kernel_sum(a, b, degree, block)
    m, n = len(a), len(b)
    return float(within_a / (m * (m - 1)) + within_b / (n * (n - 1)) - 2 * across / (m * n))


def _two_sets(a: Tensor, b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both sets as ``(count, dim)`` in float64; raises ``ValueError`` if they cannot be compared."""
    a, b = rows(a, b)
    words = "one" if least == 1 else "two"
    if min(len(a), len(b)) < least:
        raise InputValueError(f"a distance needs at least {words} of each set, got {len(a)} and {len(b)}")
    if a.shape[1] != b.shape[1] or not a.shape[1]:
        raise InputValueError(f"both sets must have the same number of values, got {a.shape[1]} and {b.shape[1]}")
    return a, b


def _kernel_sum(a: Tensor, b: Tensor, degree: int, block: int) -> Tensor:
    """Σ k(x, y) over all x of ``a`` and y of ``b``."""
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for part in a.split(block):
        left = part.double() / a.shape[1]
        for columns in b.split(block):
            total += (left @ columns.double().T + 1).pow(degree).sum()
    return total


def _kernel_diagonal(a: Tensor, degree: int, block: int) -> Tensor:
    """Σ k(x, x) over all x of ``a``."""
    squares = torch.cat([part.double().square().sum(1) for part in a.split(block)])
    return (squares / a.shape[1] + 1).pow(degree).sum()


def dequantise(images: Tensor, levels: int, generator: torch.Generator) -> Tensor:
    """x + (u - ½)·2/(levels - 1), with u uniform on [0, 1): each grey value is spread over a cell of that width.

    ``images`` have the values 2q/(levels - 1) - 1, q = 0 … levels - 1. The result is within half a cell of them,
    between -1 - 1/(levels - 1) and 1 + 1/(levels - 1).

    Raises ``ValueError`` for fewer than two levels.
    """
    width = _cell(levels)
    noise = torch.rand(images.shape, generator=generator, dtype=images.dtype, device=generator.device)
    return images + (noise.to(images.device) - 0.5) * width


def bits_per_dimension(log_likelihood: Tensor, dim: int, levels: int) -> Tensor:
    """-(log p(x) + dim·log w) / (dim·log 2), from the nats ``(batch,)`` of images returned by ``dequantise``.

    p is a density over the project's pixels in [-1, 1], where a grey value is w = 2/(levels - 1) wide. In expectation
    over the dequantisation it is at least -log2 P(q) / dim, with P(q) the mass of p in the cells of the grey values q
    (Theis et al., 2016). The uniform density over all cells has log2(levels).

    Raises ``ValueError`` for fewer than two levels and for images without pixels.
    """
    if dim < 1:
        raise InputValueError(f"dim must be at least 1, got {dim}")
    return -(log_likelihood.double() / dim + math.log(_cell(levels))) / math.log(2)


def _cell(levels: int) -> float:
    if levels < 2:
        raise InputValueError(f"levels must be at least 2, got {levels}")
    return 2 / (levels - 1)
