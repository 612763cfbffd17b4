"""Degraded versions of images: the measurements from which images are restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from linearizer_core.experiment.data import stylise
from linearizer_core.models.base import Event


@dataclass(frozen=True)
class Degradation:
    """A linear map from images ``(batch, channels, height, width)`` to what is left of them, without noise.

    ``measured`` returns what is left, images of shape ``shape(event)``; ``filled(y, event)`` is the obvious way back to
    an image of shape ``event``, which a restoration must improve on.
    """

    measured: Callable[[Tensor], Tensor]
    shape: Callable[[Event], Event]
    filled: Callable[[Tensor, Event], Tensor]


def _same(event: Event) -> Event:
    return event


def _as_is(degraded: Tensor, event: Event) -> Tensor:  # noqa: ARG001 - degraded images have the same shape
    return degraded


def factor(event: Event) -> int:
    """The side in pixels of the squares that down-sampling averages: an eighth of the shorter side, at least two.

    If that does not divide both sides, it is two.
    """
    side = max(2, min(event[1:]) // 8)
    return side if not event[1] % side and not event[2] % side else 2


def _averaged(images: Tensor) -> Tensor:
    channels, height, width = images.shape[1:]
    return avg_pool2d(images, factor((channels, height, width)))


def _smaller(event: Event) -> Event:
    side = factor(event)
    return event[0], event[1] // side, event[2] // side


def _enlarged(degraded: Tensor, event: Event) -> Tensor:
    return interpolate(degraded, event[1:], mode="bilinear", align_corners=False)


def gap(height: int) -> slice:
    """The rows that inpainting must restore: the middle half."""
    return slice(height // 4, height // 4 + height // 2)


def _visible(images: Tensor) -> Tensor:
    hidden = gap(images.shape[2])
    return torch.cat([images[:, :, : hidden.start], images[:, :, hidden.stop :]], 2)


def _cut(event: Event) -> Event:
    return event[0], event[1] - event[1] // 2, event[2]


def _bridged(degraded: Tensor, event: Event) -> Tensor:
    """The rows next to the gap, blended across it."""
    hidden = gap(event[1])
    count = hidden.stop - hidden.start
    above, below = degraded[:, :, : hidden.start], degraded[:, :, hidden.start :]
    weights = torch.arange(1, count + 1, dtype=degraded.dtype, device=degraded.device) / (count + 1)
    first, last = above[:, :, -1:], below[:, :, :1]
    return torch.cat([above, torch.lerp(first, last, weights[:, None]), below], 2)


DEGRADATIONS: dict[str, Degradation] = {
    "blur": Degradation(stylise.blur, _same, _as_is),
    "inpaint": Degradation(_visible, _cut, _bridged),
    "downsample": Degradation(_averaged, _smaller, _enlarged),
    "noise": Degradation(lambda images: images, _same, _as_is),
}
"""Degradations by name. ``blur`` is the Gaussian filter of the styles, ``inpaint`` leaves the rows above and below a
gap, ``downsample`` the means of squares, and ``noise`` everything. Noise is added to each of them."""


def check_sides(name: str, event: Event) -> str:
    """What is wrong with images of this shape for a degradation; empty if nothing is.

    >>> check_sides("inpaint", (1, 8, 8)), check_sides("downsample", (1, 9, 8))
    ('', 'downsample needs even image sides, got 9×8')
    """
    _, height, width = event
    if name == "downsample" and (height % 2 or width % 2):
        return f"downsample needs even image sides, got {height}×{width}"
    if name == "inpaint" and height < 4:
        return f"inpaint needs at least 4 rows, got {height}"
    return ""
