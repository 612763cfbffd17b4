"""Affine coupling (Dinh, Sohl-Dickstein & Bengio, Real NVP, 2017) with a soft clamp."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from linearizer_core.flows.base import Invertible

CLAMP = 2.0
"""The largest |log scale| of one coupling; the soft clamp's gradient never vanishes exactly, unlike a hard one's."""


class AffineCoupling(Invertible):
    """Both halves of the channels in turn: b ← b·exp(s(a)) + m(a), then a ← a·exp(s(b)) + m(b).

    ``conditioner(inputs, outputs)`` builds the networks for s and m, which share one. s is clamped to
    ±``CLAMP`` by ``CLAMP·tanh(s / CLAMP)``.
    """

    def __init__(self, channels: int, conditioner: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling needs at least two channels to split, got {channels}")
        self.split = channels // 2
        rest = channels - self.split
        self.first = conditioner(self.split, 2 * rest)
        self.second = conditioner(rest, 2 * self.split)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x[:, : self.split], x[:, self.split :]
        s, m = _scale_and_shift(self.first(a))
        b = torch.addcmul(m, b, s.exp())
        r, n = _scale_and_shift(self.second(b))
        a = torch.addcmul(n, a, r.exp())
        return torch.cat([a, b], 1), s.flatten(1).sum(1) + r.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        a, b = y[:, : self.split], y[:, self.split :]
        r, n = _scale_and_shift(self.second(b))
        a = (a - n) * (-r).exp()
        s, m = _scale_and_shift(self.first(a))
        b = (b - m) * (-s).exp()
        return torch.cat([a, b], 1), -(s.flatten(1).sum(1) + r.flatten(1).sum(1))


def _scale_and_shift(output: Tensor) -> tuple[Tensor, Tensor]:
    s, m = output.chunk(2, 1)
    return CLAMP * torch.tanh(s / CLAMP), m
