"""The vector space that an invertible network induces on its inputs (arXiv 2510.08570, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.operators.factored import OrthogonalProjection


@dataclass(frozen=True)
class InducedSpace:
    """Inputs ``(batch, *event)`` of an invertible g as vectors: u ⊕ v = g⁻¹(g(u) + g(v)), a ⊙ v = g⁻¹(a g(v)).

    >>> import torch, linearizer_core as lc
    >>> space = lc.InducedSpace(lc.flows.coupling((1, 4, 4), depth=1, width=8))
    >>> x = torch.randn(2, 1, 4, 4)
    >>> torch.allclose(space.sub(space.add(x, x), x), x, atol=1e-4), space.inner(x, x).shape
    (True, torch.Size([2]))
    """

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

    def scale(self, factor: float | Tensor, v: Tensor) -> Tensor:
        """factor ⊙ v, with one factor for all rows, or factors ``(batch,)``."""
        z = self.encode(v)
        return self.decode(factor[:, None] * z if isinstance(factor, Tensor) and factor.ndim else factor * z)

    def zero(self, like: Tensor) -> Tensor:
        """The zero vector g⁻¹(0), one for each row of ``like``."""
        return self.decode(torch.zeros_like(self.encode(like)))

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """⟨u, v⟩_g = ⟨g(u), g(v)⟩, ``(batch,)``."""
        return (self.encode(u) * self.encode(v)).sum(1)

    def norm(self, v: Tensor) -> Tensor:
        """‖v‖_g = ‖g(v)‖, ``(batch,)``."""
        return self.encode(v).norm(dim=1)

    def distance(self, u: Tensor, v: Tensor) -> Tensor:
        """‖u ⊖ v‖_g = ‖g(u) - g(v)‖, ``(batch,)``."""
        return (self.encode(u) - self.encode(v)).norm(dim=1)

    def lerp(self, u: Tensor, v: Tensor, weight: float) -> Tensor:
        """The point ``weight`` of the way from u to v along the induced straight line."""
        return self.decode(torch.lerp(self.encode(u), self.encode(v), weight))

    def slerp(self, u: Tensor, v: Tensor, weight: float) -> Tensor:
        """The point ``weight`` of the way from u to v along the arc between them (Shoemake, 1985).

        It is (sin((1-w)Ω) u + sin(wΩ) v) / sin Ω for the angle Ω between u and v, in induced operations; with g the
        identity this is the usual spherical interpolation. If the directions agree or are opposite, the arc is not
        unique and the straight line is used.
        """
        a, b = self.encode(u), self.encode(v)
        cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
        angle = cosine.acos()
        sine = angle.sin()
        parallel = sine < torch.finfo(a.dtype).eps ** 0.5
        safe = torch.where(parallel, torch.ones_like(sine), sine)
        first = torch.where(parallel, 1 - weight, ((1 - weight) * angle).sin() / safe)
        second = torch.where(parallel, weight, (weight * angle).sin() / safe)
        return self.decode(first * a + second * b)

    def project(self, x: Tensor, onto: Tensor) -> Tensor:
        """The orthogonal projection of each x onto the span of the elements ``onto`` ``(count, *event)``."""
        return self.decode(OrthogonalProjection.onto(self.encode(onto).T).apply(self.encode(x)))
