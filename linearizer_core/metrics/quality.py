"""Distances between a set of generated images and a set of real ones; lower is better."""

from __future__ import annotations

import torch
from torch import Tensor

PROJECTIONS = 512
PROJECTION_SEED = 7


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = PROJECTIONS, seed: int = PROJECTION_SEED) -> float:
    """The sliced 2-Wasserstein distance of two sets ``(count, *event)`` (Rabin et al., 2012).

    The root of the mean over random unit directions of the squared one-dimensional W2. Sets of different
    sizes are compared at the quantiles of the smaller one. The directions depend on ``seed`` and the
    dimension only.
    """
    a, b = a.flatten(1).double(), b.flatten(1).double()
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
    """
    a, b = a.double(), b.double()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.atleast_2d(torch.cov(a.T)), torch.atleast_2d(torch.cov(b.T))
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((mean + cov_a.trace() + cov_b.trace() - 2 * cross).clamp_min(0))


def psnr(a: Tensor, b: Tensor, peak: float = 2.0) -> float:
    """Peak signal-to-noise ratio in dB of images with values over a range of ``peak`` (2 for [-1, 1])."""
    error = (a.double() - b.double()).square().mean()
    return float("inf") if error == 0 else float(10 * torch.log10(peak**2 / error))
