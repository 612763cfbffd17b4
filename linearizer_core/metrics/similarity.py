"""Structural similarity of two images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from linearizer_core.errors import InputValueError

WINDOW = 11
SIGMA = 1.5


def ssim(a: Tensor, b: Tensor, peak: float = 2.0) -> Tensor:
    """The structural similarity of images ``(batch, channels, height, width)``, ``(batch,)`` (Wang et al., 2004).

    The mean over channels and over all positions at which a Gaussian window of 11 × 11 pixels and σ = 1.5 lies inside
    the image; if the image is smaller, the largest odd window that fits. Pixels are in ±``peak`` / 2 and are shifted to
    [0, ``peak``] first, as the luminance term counts from black. Differentiable; equal images have the maximum, 1.

    Raises ``ValueError`` for images of different shapes, or without pixels.

    >>> import torch, linearizer_core as lc
    >>> images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    >>> lc.metrics.ssim(images, images)
    tensor([1., 1.])
    """
    if a.shape != b.shape:
        raise InputValueError(
            f"images must have the same shape to be compared, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if a.ndim != 4 or 0 in a.shape[1:]:
        raise InputValueError(f"images must be (batch, channels, height, width) with pixels, got {tuple(a.shape)}")
    if not peak > 0:
        raise InputValueError(f"peak must be above 0, got {peak}")
    height, width = a.shape[-2:]
    window = _gaussian(min(WINDOW, height - 1 + height % 2, width - 1 + width % 2), a)
    x, y = (image.reshape(-1, 1, height, width) + peak / 2 for image in (a, b))
    mean_x, mean_y = _blur(x, window), _blur(y, window)
    variance_x = _blur(x.square(), window) - mean_x.square()
    variance_y = _blur(y.square(), window) - mean_y.square()
    covariance = _blur(x * y, window) - mean_x * mean_y
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    per_image = a.shape[1] * math.prod(mean_x.shape[1:])
    return (luminance * structure).reshape(len(a), per_image).mean(1)


def _gaussian(size: int, like: Tensor) -> Tensor:
    """The window's weights along one axis, ``(size,)``; they sum to 1."""
    offset = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    weights = torch.exp(-offset.square() / (2 * SIGMA**2))
    return weights / weights.sum()


def _blur(images: Tensor, window: Tensor) -> Tensor:
    """The window's weighted means of ``(count, 1, height, width)``, along one axis after the other."""
    return conv2d(conv2d(images, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))
