"""Activations by name; gated ones take twice as many channels as they return."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from linearizer_core.errors import InputValueError


class Gate(nn.Module):
    """a ⊙ φ(b), with a and b the halves of the channels: ``(batch, 2c, …)`` to ``(batch, c, …)``.

    φ = SiLU is SwiGLU and φ(b) = b the bilinear layer (Shazeer, GLU Variants Improve Transformer, 2020); φ = ReLU6 is
    the star operation (Ma et al., Rewrite the Stars, 2024).
    """

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * self.gate(b)


class APTx(nn.Module):
    """(1 + tanh x)·x / 2 (Kumar, APTx: Better Activation Function than MISH, SWISH, and ReLU's Variants, 2022)."""

    def forward(self, x: Tensor) -> Tensor:
        # The same function, x·σ(2x), without the cancellation of 1 + tanh x far below zero.
        return 0.5 * silu(2 * x)


class PolyNorm(nn.Module):
    """a₀ + Σᵢ aᵢ xⁱ / rms(xⁱ) for i = 1, 2, 3, with rms over the channels (Zhuo et al., PolyCom, 2024).

    ``(batch, c, …)`` to the same shape. Normalised powers grow no faster than a constant; ``eps`` under the root keeps
    the slope at zero finite.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.coefficients = nn.Parameter(torch.tensor([0.0, 1 / 3, 1 / 3, 1 / 3]))

    def forward(self, x: Tensor) -> Tensor:
        a0, a1, a2, a3 = self.coefficients.unbind()
        square = x.square()
        fourth = square.square()
        first, second, third = (
            a * (even.mean(1, keepdim=True) + self.eps).rsqrt()
            for a, even in ((a1, square), (a2, fourth), (a3, square * fourth))
        )
        return a0 + x * (first + x * (second + x * third))


POINTWISE: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "aptx": APTx,
    "polynorm": PolyNorm,
}
GATED: dict[str, Callable[[], nn.Module]] = {
    "glu": lambda: nn.GLU(1),  # a ⊙ σ(b) (Dauphin et al., Language Modeling with Gated Convolutional Networks, 2017)
    "swiglu": lambda: Gate(nn.SiLU()),
    "bilinear": lambda: Gate(nn.Identity()),
    "star": lambda: Gate(nn.ReLU6()),
}
ACTIVATIONS = POINTWISE | GATED


def activation(name: str) -> nn.Module:
    """The named activation over dimension 1; raises ``ValueError`` for a name that is not in ``ACTIVATIONS``."""
    if name not in ACTIVATIONS:
        raise InputValueError(f"unknown activation {name!r}; use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def expansion(name: str) -> int:
    """The number of channels that the named activation takes for each that it returns."""
    return 2 if name in GATED else 1
