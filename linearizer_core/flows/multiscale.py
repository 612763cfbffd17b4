"""The multi-scale architecture: latents are split off at every resolution (Real NVP, 2017, section 3.6; Glow, 2018)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible, Shape

Event = tuple[int, int, int]


class MultiScale(Invertible):
    """``(batch, *event)`` to flat latents ``(batch, dim)``: after each level, half of the channels are split off.

    ``levels`` map images to images, typically a ``Squeeze`` and the blocks after it; ``shapes`` are the events they map
    to. The first half of the channels goes on to the next level; at the last level all channels become latents. The
    latents are the parts in the order in which they are split off, the finest first, each flattened.

    Raises ``ValueError`` for inconsistent shapes at construction, and for tensors of other shapes.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.MultiScale([lc.flows.Squeeze(), lc.flows.Squeeze()], (1, 4, 4), [(4, 2, 2), (8, 1, 1)])
    >>> g(torch.ones(3, 1, 4, 4))[0].shape
    torch.Size([3, 16])
    """

    def __init__(self, levels: Iterable[Invertible], event: Event, shapes: Iterable[Event]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.event = event
        self.shapes = list(shapes)
        if not self.shapes or len(self.shapes) != len(self.levels):
            raise InputValueError(f"each level needs one shape, got {len(self.shapes)} for {len(self.levels)} levels")
        self.kept = [channels // 2 for channels, _, _ in self.shapes[:-1]] + [0]
        entering = math.prod(event)
        for number, shape in enumerate(self.shapes, 1):
            if math.prod(shape) != entering:
                raise InputValueError(
                    f"level {number} must keep the {entering} values that enter it, got the shape {shape}"
                )
            if number < len(self.shapes) and shape[0] % 2:
                raise InputValueError(
                    f"level {number} must end with an even number of channels to halve, got {shape[0]}"
                )
            entering //= 2

    @property
    def in_shape(self) -> Shape:
        return self.event

    def out_shape(self, shape: Shape | None) -> Shape:
        return (math.prod(self.event),)

    def extra_repr(self) -> str:
        return f"{len(self.levels)} levels, {super().extra_repr()}"

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check("the input", x, self.event)
        total = x.new_zeros(len(x))
        parts = []
        for number, (level, kept) in enumerate(self._steps()):
            x, log_det = level(x, label)
            _check(f"the output of level {number + 1}", x, self.shapes[number])
            total = total + log_det
            parts.append(x[:, kept:].flatten(1))
            x = x[:, :kept]
        return torch.cat(parts, 1), total

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check("the latent", y, (math.prod(self.event),))
        total = y.new_zeros(len(y))
        leaving = [(c - kept, h, w) for (c, h, w), kept in zip(self.shapes, self.kept, strict=True)]
        parts = y.split([math.prod(shape) for shape in leaving], 1)
        x = y.new_empty(len(y), 0, *leaving[-1][1:])
        for (level, _), shape, part in reversed(list(zip(self._steps(), leaving, parts, strict=True))):
            x, log_det = level.inverse(torch.cat([x, part.view(len(y), *shape)], 1), label)
            total = total + log_det
        return x, total

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        parts = []
        for level, kept in self._steps():
            x = level.initialise(x, label)
            parts.append(x[:, kept:].flatten(1))
            x = x[:, :kept]
        return torch.cat(parts, 1)

    def _steps(self) -> Iterator[tuple[Invertible, int]]:
        for level, kept in zip(self.levels, self.kept, strict=True):
            assert isinstance(level, Invertible)
            yield level, kept


def _check(what: str, x: Tensor, event: tuple[int, ...]) -> None:
    if x.shape[1:] != event:
        raise InputValueError(f"{what} must be (batch, {', '.join(map(str, event))}), got {tuple(x.shape)}")
