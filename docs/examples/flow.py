"""A flow: an affine map followed by a learned sinh-arcsinh transformation of each coordinate."""

import math

import torch
from torch import Tensor, nn

from linearizer_core import flows, plugins


class SinhArcsinh(flows.Invertible):
    """z = sinh(δ (asinh x + ε)), which changes the skewness and the tails of each entry (Jones & Pewsey, 2009)."""

    keeps_shape = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.log_tail = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inner = self.log_tail.exp() * (x.asinh() + self.shift)
        slope = self.log_tail + inner.cosh().log() - 0.5 * x.square().log1p()
        return inner.sinh(), slope.sum(1)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (y.asinh() / self.log_tail.exp() - self.shift).sinh()
        return x, -self(x)[1]


@plugins.flow()
def skewed(event: tuple[int, int, int]) -> flows.Invertible:
    """From images (batch, *event) to latents (batch, dim)."""
    return flows.Chain([flows.linear(event), SinhArcsinh(math.prod(event))])
