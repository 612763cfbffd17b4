"""How linear a map between induced spaces is in floating point, and how far it is from what its algebra promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible
from linearizer_core.space import InducedSpace


class InducedMap(Protocol):
    """Any map f between two induced spaces, such as a Linearizer, that is tested for linearity."""

    @property
    def domain(self) -> InducedSpace:
        """The induced vector space of the inputs."""

    @property
    def codomain(self) -> InducedSpace:
        """The induced vector space of the outputs."""

    def __call__(self, x: Tensor) -> Tensor:
        """f(x): ``(batch, *event)`` of the domain to ``(batch, *event)`` of the codomain."""


@dataclass(frozen=True)
class Penrose:
    """Relative residuals of the four equations of a Moore-Penrose inverse: zero for f⁺, and for no other map.

    ``first``: f f⁺ f = f, and ``second``: f⁺ f f⁺ = f⁺, in pixels. ``third``: f f⁺ is symmetric, and ``fourth``: f⁺ f
    is symmetric, in the induced inner products, relative to the norms of both sides.
    """

    first: float
    second: float
    third: float
    fourth: float


def relative_error(value: Tensor, expected: Tensor, *inputs: Tensor) -> float:
    """‖value - expected‖ / ‖expected‖ over all entries, in float64; 0 if the two are equal.

    ``inputs`` are the tensors that both were computed from. If ‖expected‖ and ‖value - expected‖ are both no more than
    a few epsilons of the norms of ``inputs``, they are only rounding errors, and the error is relative to these norms.

    Raises ``ValueError`` for tensors of different shapes.

    >>> import torch, linearizer_core as lc
    >>> lc.metrics.relative_error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0]))
    0.1
    """
    if value.shape != expected.shape:
        raise InputValueError(
            f"tensors must have the same shape to be compared, got {tuple(value.shape)} and {tuple(expected.shape)}"
        )
    precision = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
    difference, scale = float(_norm(value.double() - expected.double())), float(_norm(expected))
    size = sum(float(_norm(each)) for each in inputs)
    if max(scale, difference) <= 16 * precision * size:
        scale = size
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf


def _norm(x: Tensor) -> Tensor:
    return x.double().norm()


@torch.no_grad()
def additivity(f: InducedMap, u: Tensor, v: Tensor) -> float:
    """The relative residual of f(u ⊕ v) = f(u) ⊕ f(v), taken in output pixels.

    >>> import torch, linearizer_core as lc
    >>> f = lc.Linearizer(lc.flows.identity((4,)), lc.operators.DiagonalOperator(torch.tensor([4.0, 3.0, 2.0, 1.0])))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.additivity(f, x, x.flip(0)) < 1e-5
    True
    >>> class Squares(lc.Linearizer):
    ...     def forward(self, x):
    ...         return x.square()
    >>> round(lc.metrics.additivity(Squares(f.g_x, f.operator), x, x), 3)  # (2x)² in place of 2x²
    1.0
    """
    return relative_error(f(f.domain.add(u, v)), f.codomain.add(f(u), f(v)), u, v)


@torch.no_grad()
def additivity_induced(f: InducedMap, u: Tensor, v: Tensor) -> float:
    """The relative residual of g_y(f(u ⊕ v)) = g_y(f(u)) + g_y(f(v)), in the norm in which f is linear."""
    encode, domain = f.codomain.encode, f.domain
    z_u, z_v = domain.encode(u), domain.encode(v)
    return relative_error(encode(f(domain.decode(z_u + z_v))), encode(f(u)) + encode(f(v)), z_u, z_v)


@torch.no_grad()
def homogeneity(f: InducedMap, v: Tensor, factor: float = 0.5) -> float:
    """The relative residual of f(a ⊙ v) = a ⊙ f(v), taken in output pixels.

    >>> import torch, linearizer_core as lc
    >>> f = lc.Linearizer(lc.flows.identity((4,)), lc.operators.DiagonalOperator(torch.tensor([4.0, 3.0, 2.0, 1.0])))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.homogeneity(f, x, 0.5) < 1e-5
    True
    >>> class Squares(lc.Linearizer):
    ...     def forward(self, x):
    ...         return x.square()
    >>> round(lc.metrics.homogeneity(Squares(f.g_x, f.operator), x, 0.5), 3)  # (x/2)² in place of x²/2
    0.5
    """
    return relative_error(f(f.domain.scale(factor, v)), f.codomain.scale(factor, f(v)), v)


@torch.no_grad()
def homogeneity_induced(f: InducedMap, v: Tensor, factor: float = 0.5) -> float:
    """The relative residual of g_y(f(a ⊙ v)) = a g_y(f(v)), in the norm in which f is linear."""
    encode, domain = f.codomain.encode, f.domain
    z = domain.encode(v)
    return relative_error(encode(f(domain.decode(factor * z))), factor * encode(f(v)), z)


@torch.no_grad()
def idempotency(f: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The relative residual of f(f(x)) = f(x), taken in pixels: zero for a projection.

    >>> import torch, linearizer_core as lc
    >>> f = lc.Linearizer(lc.flows.identity((4,)), lc.operators.DiagonalOperator(torch.tensor([4.0, 3.0, 2.0, 1.0])))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.idempotency(f.row_projection(), x) < 1e-5
    True
    >>> round(lc.metrics.idempotency(lambda v: 1.25 * v, x), 3)
    0.25
    """
    once = f(x)
    return relative_error(f(once), once, x)


@torch.no_grad()
def penrose(f: InducedMap, pinv: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Penrose:
    """The residuals of the four Penrose equations (Penrose, 1955) for f and its supposed inverse f⁺.

    ``x`` and ``y`` are ``(batch, *event)`` of the domain and of the codomain. Symmetry is tested on each row and the
    next one. Raises ``ValueError`` for a single row of either: every map is symmetric on one vector.

    >>> import torch, linearizer_core as lc
    >>> f = lc.Linearizer(lc.flows.identity((4,)), lc.operators.DiagonalOperator(torch.tensor([4.0, 3.0, 2.0, 1.0])))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.penrose(f, f.pinv(), x, x).first < 1e-5
    True
    >>> round(lc.metrics.penrose(f, lambda y: 2 * f.pinv()(y), x, x).first, 3)  # A (2 A⁻¹) A = 2 A
    1.0
    """
    if min(len(x), len(y)) < 2:
        raise InputValueError(f"symmetry needs at least two rows on both sides, got {len(x)} of x and {len(y)} of y")
    image, back = f(x), pinv(y)
    around, across = pinv(image), f(back)
    return Penrose(
        first=relative_error(f(around), image, x),
        second=relative_error(pinv(across), back, y),
        third=_asymmetry(f.codomain, y, across),
        fourth=_asymmetry(f.domain, x, around),
    )


def _asymmetry(space: InducedSpace, x: Tensor, image: Tensor) -> float:
    """⟨P x_i, x_j⟩ - ⟨x_i, P x_j⟩ for each row and the next one, root mean square relative to ‖x_i‖‖x_j‖."""
    z, p = space.encode(x).double(), space.encode(image).double()
    z_next, p_next = z.roll(-1, 0), p.roll(-1, 0)
    difference = (p * z_next).sum(1) - (z * p_next).sum(1)
    scale = float((z.norm(dim=1) * z_next.norm(dim=1)).norm())
    found = float(difference.norm())
    return found / scale if scale else (math.inf if found else found)


@torch.no_grad()
def roundtrip(g: Invertible, x: Tensor) -> float:
    """The relative error of g⁻¹(g(x)) = x.

    >>> import torch, linearizer_core as lc
    >>> f = lc.Linearizer(lc.flows.identity((4,)), lc.operators.DiagonalOperator(torch.tensor([4.0, 3.0, 2.0, 1.0])))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> lc.metrics.roundtrip(f.g_x, x)
    0.0
    >>> class Doubling(lc.flows.Identity):
    ...     def inverse(self, y):
    ...         return 2 * y, y.new_zeros(len(y))
    >>> lc.metrics.roundtrip(Doubling(), x)
    1.0
    """
    z = g(x)[0]
    # Zeros alone have no size to compare with.
    return relative_error(g.inverse(z)[0], x, *(() if x.any() else (z,)))
