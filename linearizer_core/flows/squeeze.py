"""Rearrangements of pixels into channels, and of images into vectors."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from linearizer_core.flows.base import Shape, VolumePreserving


class Squeeze(VolumePreserving):
    """``(batch, c, h, w)`` to ``(batch, 4c, h/2, w/2)``: each 2×2 block becomes four channels.

    >>> import torch, linearizer_core as lc
    >>> lc.flows.Squeeze()(torch.ones(3, 1, 4, 4))[0].shape
    torch.Size([3, 4, 2, 2])
    """

    def out_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None or len(shape) != 3:
            return None
        channels, height, width = shape
        return 4 * channels, height // 2, width // 2

    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if not len(x):  # torch gives empty batches another shape
            return x.reshape(0, 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2)
        return pixel_unshuffle(x, 2)

    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        if not len(y):
            return y.reshape(0, y.shape[1] // 4, 2 * y.shape[2], 2 * y.shape[3])
        return pixel_shuffle(y, 2)


class Flatten(VolumePreserving):
    """``(batch, *event)`` to ``(batch, dim)``, and back to the given event shape.

    >>> import torch, linearizer_core as lc
    >>> lc.flows.Flatten((1, 2, 2))(torch.ones(3, 1, 2, 2))[0].shape
    torch.Size([3, 4])
    """

    def __init__(self, event: tuple[int, ...]) -> None:
        super().__init__()
        self.event = event

    @property
    def in_shape(self) -> Shape:
        return self.event

    def out_shape(self, shape: Shape | None) -> Shape:
        return (math.prod(self.event),)

    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.flatten(1)

    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        return y.view(len(y), *self.event)
