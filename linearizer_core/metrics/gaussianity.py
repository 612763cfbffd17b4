"""How close recovered noise is to the standard Gaussian that a diffusion model starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.metrics.sets import rows, unit


@dataclass(frozen=True)
class Gaussianity:
    """Statistics of n samples of dim entries, each with its value for n samples of N(0, I).

    ``norm_ratio``: the mean of ‖x‖/√dim; for N(0, I) √(1 - 1/(2 dim)) to first order, as E‖x‖ ≈ √(dim - 1/2).
    ``norm_spread``: the standard deviation of ‖x‖² over √(2 dim); for N(0, I) 1 ± √((1/2 + 3/dim)/n). It shows what
    single entries cannot: above 1 they are dependent, or samples differ in scale; below 1 samples lie near a sphere.
    ``mean``: the mean over entries of the absolute mean over samples; for N(0, I) √(2/(πn)).
    ``deviation``: likewise for the absolute error of the standard deviation against 1; for N(0, I) about √(1/(πn)).
    ``skewness``: the third standardised moment of all entries together; for N(0, I) 0 ± √(6/(n dim)).
    ``kurtosis``: the fourth minus 3, above 0 for heavy tails; for N(0, I) 0 ± √(24/(n dim)).
    ``ks``: the Kolmogorov-Smirnov distance of all entries together from N(0, 1), in [0, 1]; for N(0, I) on average
    √(π/2)·log 2/√(n dim) ≈ 0.87/√(n dim).
    """

    norm_ratio: float
    norm_spread: float
    mean: float
    deviation: float
    skewness: float
    kurtosis: float
    ks: float


def gaussianity(x0: Tensor) -> Gaussianity:
    """Statistics that distinguish samples ``(n, *event)`` from N(0, I), in float64.

    If all entries are equal, they have no skewness and no kurtosis: both are NaN.

    Raises ``ValueError`` for fewer than two samples, which have no spread, and for samples without entries.

    >>> import torch, linearizer_core as lc
    >>> noise = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.gaussianity(noise).ks < 0.01 < lc.metrics.gaussianity(2 * noise).ks
    True
    """
    if len(x0) < 2:
        raise InputValueError(f"the spread of samples needs at least two of them, got {len(x0)}")
    (x,) = rows(x0)
    dim = x.shape[1]
    if not dim:
        raise InputValueError("samples need at least one entry each, got none")
    ks = _kolmogorov_smirnov(x.flatten())
    size = unit(x)
    x = x / size
    squares = x.square().sum(1)
    pooled = x.flatten()
    centred = pooled - pooled.mean()
    standard = centred / centred.square().mean().sqrt()
    return Gaussianity(
        norm_ratio=size * float(squares.sqrt().mean()) / math.sqrt(dim),
        norm_spread=size * size * float(squares.std()) / math.sqrt(2 * dim),
        mean=size * float(x.mean(0).abs().mean()),
        deviation=float((size * x.std(0) - 1).abs().mean()),
        skewness=float(standard.pow(3).mean()),
        kurtosis=float(standard.pow(4).mean()) - 3,
        ks=ks,
    )


def _kolmogorov_smirnov(values: Tensor) -> float:
    """The largest distance of the values' empirical distribution function from that of N(0, 1)."""
    expected = torch.special.ndtr(values.sort().values)
    # The empirical distribution function jumps at each value from one of these levels to the next.
    levels = torch.arange(len(values) + 1, dtype=values.dtype, device=values.device) / len(values)
    return float(torch.maximum(levels[1:] - expected, expected - levels[:-1]).max())
