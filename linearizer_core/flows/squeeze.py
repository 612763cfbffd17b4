"""Exchange of space for channels, and of images for vectors."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from linearizer_core.flows.base import Invertible, Shape


class Squeeze(Invertible):
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

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not len(x):  # which torch gives another shape
            return x.reshape(0, 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2), x.new_zeros(0)
        return pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not len(y):
            return y.reshape(0, y.shape[1] // 4, 2 * y.shape[2], 2 * y.shape[3]), y.new_zeros(0)
        return pixel_shuffle(y, 2), y.new_zeros(len(y))


class Flatten(Invertible):
    """``(batch, *event)`` to ``(batch, dim)``, back to the event shape that it was made with.

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

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y.view(len(y), *self.event), y.new_zeros(len(y))
