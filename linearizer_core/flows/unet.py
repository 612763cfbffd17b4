"""A small U-Net as a coupling's network: it sees the whole image at the cost of a few convolutions."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from linearizer_core.errors import InputValueError
from linearizer_core.flows.conditioners import Conditioner, hidden, run, zero

conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalisation in groups of at least four channels, if there are that many (Wu & He, 2018)."""
    # Smaller groups would leave only the signs of a one-pixel image.
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 4)), channels)


class Residual(nn.Module):
    """x + conv(φ(conv(norm(x)))), the hidden layer labelled; ``(batch, channels, h, w)`` to the same shape."""

    def __init__(self, channels: int, activation: str, labelled: bool) -> None:
        super().__init__()
        inner = hidden(partial(conv3, channels), channels, activation, labelled)
        self.layers = nn.ModuleList([group_norm(channels), *inner, conv3(channels, channels)])

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        return x + run(self.layers, x, embedding)


class SelfAttention(nn.Module):
    """x + W softmax(Q Kᵀ/√c) V over an image's pixels, with one head (Vaswani et al., 2017, equation 1).

    ``(batch, channels, h, w)`` to the same shape; permuting the pixels permutes the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(self.norm(x)).flatten(2).chunk(3, 1)  # (batch, channels, pixels)
        # Written out: the fused kernels have no second derivatives and no forward mode.
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), 2)  # (batch, pixels, pixels)
        return x + self.last((v @ weights.transpose(1, 2)).view_as(x))


class UNet(Conditioner):
    """A U-Net of two levels, ``(batch, inputs, h, w)`` to ``(batch, outputs, h, w)``, initially zero.

    It has ``width`` channels at full and ``2·width`` at half resolution, a residual block on each way down and up, and
    with ``attention`` self-attention at half resolution. h and w are arbitrary: an odd side is rounded up on the way
    down and cropped on the way up (Ronneberger et al., 2015; Ho et al., DDPM, 2020, appendix B).

    Raises ``ValueError`` for a width below 2, since one channel of one pixel cannot be normalised.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        activation: str,
        attention: bool,
        labelled: bool = False,
        labels: int = 1,
    ) -> None:
        super().__init__(labelled, labels)
        if width < 2:
            raise InputValueError(f"a U-Net normalises over channels and needs a width of at least 2, got {width}")
        self.stem = conv3(inputs, width)
        self.encode = Residual(width, activation, labelled)
        self.down = conv3(width, 2 * width, stride=2)
        self.middle = Residual(2 * width, activation, labelled)
        self.attention = SelfAttention(2 * width) if attention else nn.Identity()
        self.up = conv3(2 * width, width)
        self.decode = Residual(width, activation, labelled)
        self.last = conv3(width, outputs)
        zero(self.last)

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        embedding = self.embed(x, label)
        fine = self.encode(self.stem(x), embedding)
        coarse = self.attention(self.middle(self.down(fine), embedding))
        # Convolve before upsampling: a quarter of the work, and the next block mixes the pixels.
        upper = interpolate(self.up(coarse), scale_factor=2, mode="nearest")[..., : x.shape[2], : x.shape[3]]
        return self.last(self.decode(fine + upper, embedding))
