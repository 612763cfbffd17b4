"""Linearizers whose latents are wider than their inputs: f(x) = g_y†(A g_x(x)) with injective networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.flows.injective import Injective
from linearizer_core.operators.base import LinearOperator


@dataclass(frozen=True)
class InjectiveLinearizer:
    """A Linearizer (arXiv 2510.08570) in which injective networks (arXiv 2006.08464) and left inverses stand for g.

    Both networks end in vectors, ``(batch, latent)``. A g_x(x) need not lie in the range of g_y, which is not a linear
    space; where it does, g_y(f(x)) = A g_x(x), and elsewhere ``residual`` says how far this fails. The core of two of
    them in succession is therefore not the product of their operators.
    """

    g_x: Injective
    g_y: Injective
    operator: LinearOperator

    def encode(self, x: Tensor) -> Tensor:
        """g_x(x): ``(batch, *event)`` to ``(batch, in_dim)``.

        Raises ``ValueError`` unless g_x ends in vectors of the operator's input dimension.
        """
        z = self.g_x(x)
        if z.shape[1:] != self.operator.shape[1:]:
            raise ValueError(
                f"g_x must end in vectors of the operator's {self.operator.shape[1]} dimensions, got {tuple(z.shape)}"
            )
        return z

    def latent(self, x: Tensor) -> Tensor:
        """A g_x(x): ``(batch, *event)`` to ``(batch, out_dim)``."""
        return self.operator.apply(self.encode(x))

    def decode(self, z: Tensor) -> Tensor:
        """g_y†(z): ``(batch, out_dim)`` to ``(batch, *event)``, the inverse of g_y on its range alone."""
        return self.g_y.left_inverse(z)

    def __call__(self, x: Tensor) -> Tensor:
        """f(x): ``(batch, *event)`` of g_x to ``(batch, *event)`` of g_y."""
        return self.decode(self.latent(x))

    def residual(self, x: Tensor) -> Tensor:
        """‖g_y(g_y†(z)) - z‖ / ‖z‖ at z = A g_x(x), ``(batch,)``: zero if and only if z is in the range of g_y.

        An upper bound of the relative distance to the range: g_y(g_y†(z)) is in it, but need not be its nearest point.
        """
        z = self.latent(x)
        distance = (self.g_y(self.decode(z)) - z).norm(dim=1)
        return distance / z.norm(dim=1).clamp_min(torch.finfo(z.dtype).tiny)
