"""The vector space that an invertible network induces on its inputs (arXiv 2510.08570, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.flows.base import Invertible


@dataclass(frozen=True)
class InducedSpace:
    """Inputs ``(batch, *event)`` of an invertible g as vectors: u ⊕ v = g⁻¹(g(u) + g(v)), a ⊙ v = g⁻¹(a g(v))."""

    g: Invertible

    def encode(self, x: Tensor) -> Tensor:
        """The coordinates g(x), ``(batch, dim)``."""
        return self.g(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """The element g⁻¹(z), ``(batch, *event)``."""
        return self.g.inverse(z)[0]

    def add(self, u: Tensor, v: Tensor) -> Tensor:
        """u ⊕ v."""
        return self.decode(self.encode(u) + self.encode(v))

    def sub(self, u: Tensor, v: Tensor) -> Tensor:
        """u ⊖ v."""
        return self.decode(self.encode(u) - self.encode(v))

    def scale(self, factor: float, v: Tensor) -> Tensor:
        """factor ⊙ v."""
        return self.decode(factor * self.encode(v))

    def zero(self, like: Tensor) -> Tensor:
        """The zero vector g⁻¹(0), one for each row of ``like``."""
        return self.decode(torch.zeros_like(self.encode(like)))

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """⟨u, v⟩_g = ⟨g(u), g(v)⟩, ``(batch,)``."""
        return (self.encode(u) * self.encode(v)).sum(1)

    def norm(self, v: Tensor) -> Tensor:
        """‖v‖_g = ‖g(v)‖, ``(batch,)``."""
        return self.encode(v).norm(dim=1)

    def lerp(self, u: Tensor, v: Tensor, weight: float) -> Tensor:
        """The point ``weight`` of the way from u to v along the induced straight line."""
        return self.decode(torch.lerp(self.encode(u), self.encode(v), weight))
