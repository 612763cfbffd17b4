"""Stylised versions of images, the training targets of style transfer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

Stylisation = Callable[[Tensor], Tensor]

LEVELS = 4
"""Number of levels of a posterised channel."""

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
STEP = 8.0
"""The Sobel filter's response next to a step from -1 to 1."""

EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
"""Red, green and blue of the tint as combinations of those of the image, with black at 0."""


def grain(images: Tensor) -> int:
    """The size in pixels of the detail that blur and pixelate remove: an eighth of the shorter side, at least two."""
    return max(2, min(images.shape[-2:]) // 8)


def blur(images: Tensor) -> Tensor:
    """A Gaussian filter with a standard deviation of half a grain, truncated at one grain."""
    radius = grain(images)
    offset = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (2 * offset / radius).square())
    weights = weights / weights.sum()
    return _filter(_filter(images, weights[None]), weights[:, None]).clamp(-1, 1)


def edges(images: Tensor) -> Tensor:
    """The length of each channel's Sobel gradient: black where flat, white at a step from black to white."""
    across = images.new_tensor(SOBEL)
    length = torch.hypot(_filter(images, across), _filter(images, across.T))
    return (2 * length / STEP - 1).clamp(-1, 1)


def invert(images: Tensor) -> Tensor:
    """The negative."""
    return (-images).clamp(-1, 1)


def emboss(images: Tensor) -> Tensor:
    """A relief lit from the lower right; flat areas keep their value."""
    return _filter(images, images.new_tensor(EMBOSS)).clamp(-1, 1)


def posterise(images: Tensor) -> Tensor:
    """Each channel rounded to the nearest of four levels from black to white."""
    steps = LEVELS - 1
    return (2 * ((images + 1) / 2 * steps).round() / steps - 1).clamp(-1, 1)


def pixelate(images: Tensor) -> Tensor:
    """The mean of each square of one grain; squares cut off by the border are averaged over what remains."""
    side, (height, width) = grain(images), images.shape[-2:]
    means = avg_pool2d(images, side, ceil_mode=True)
    return means.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width].clamp(-1, 1)


def sepia(images: Tensor) -> Tensor:
    """A brown tint. A grey image counts as three equal channels and becomes their mean, which is brighter."""
    light = (images.expand(-1, 3, -1, -1) + 1) / 2
    tinted = torch.einsum("oc,bchw->bohw", images.new_tensor(SEPIA), light)
    if images.shape[1] == 1:
        tinted = tinted.mean(1, keepdim=True)
    return (2 * tinted - 1).clamp(-1, 1)


def _filter(images: Tensor, kernel: Tensor) -> Tensor:
    """Each channel correlated with an odd-sized ``kernel`` ``(rows, columns)``; borders are replicated."""
    rows, columns = kernel.shape
    around = (columns // 2, columns // 2, rows // 2, rows // 2)
    planes = images.reshape(math.prod(images.shape[:2]), 1, *images.shape[2:])
    return conv2d(pad(planes, around, mode="replicate"), kernel[None, None]).view(images.shape)


STYLES: dict[str, Stylisation] = {
    "blur": blur,
    "edges": edges,
    "invert": invert,
    "emboss": emboss,
    "posterise": posterise,
    "pixelate": pixelate,
    "sepia": sepia,
}
"""Deterministic functions of images ``(batch, channels, height, width)`` in [-1, 1] with one or three channels and
sides of at least eight pixels. The results have the same shape and range."""
