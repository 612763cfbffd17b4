"""Affine maps z ↦ A z + b: a linear operator and an offset, with the algebra of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import SVD, Eigen, LinearOperator, finite, repeated

REFINEMENTS = 2
"""Steps that refine a fixed point: a pseudo-inverse leaves an error of its condition number times the dtype's epsilon.

"""


@dataclass(frozen=True, eq=False, repr=False)
class AffineOperator:
    """z ↦ A z + b on rows, ``(batch, in_dim)`` to ``(batch, out_dim)``, with the ``offset`` b ``(out_dim,)``.

    Methods have the same names as those of ``LinearOperator``. Methods of a map (``compose``, ``add``, ``power``,
    ``exp``, ``pinv``, …) refer to the affine map; methods of a matrix (``svd``, ``eig``, ``rank``, ``condition``,
    ``trace``, ``logdet``) refer to A, which is ``linear``. A keeps whatever structure its own algebra preserves.

    Raises ``TypeError`` if ``linear`` is not a ``LinearOperator``, and ``InputValueError`` if the offset has another
    shape.

    >>> import torch, linearizer_core as lc
    >>> half = lc.operators.DiagonalOperator(torch.tensor([0.5, 0.5]))
    >>> f = lc.operators.AffineOperator(half, torch.tensor([1.0, 2.0]))
    >>> f, f.apply(torch.zeros(1, 2)), f.pinv().apply(torch.tensor([[1.0, 2.0]])), f.fixed_point()
    (AffineOperator(2 → 2), tensor([[1., 2.]]), tensor([[0., 0.]]), tensor([2., 4.]))
    >>> (f @ f).to_dense()
    tensor([[0.2500, 0.0000, 1.5000],
            [0.0000, 0.2500, 3.0000],
            [0.0000, 0.0000, 1.0000]])
    """

    linear: LinearOperator
    offset: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.linear, LinearOperator):
            raise TypeError(f"linear must be a LinearOperator, got {type(self.linear).__name__}")
        if self.offset.shape != self.linear.shape[:1]:
            raise InputValueError(
                f"the offset of {self.linear!r} must be ({self.linear.shape[0]},), got {tuple(self.offset.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_dim, in_dim)`` of A."""
        return self.linear.shape

    @property
    def like(self) -> Tensor:
        """A tensor of A's dtype on its device."""
        return self.linear.like

    def __repr__(self) -> str:
        detail = self.linear._detail()
        return f"AffineOperator({self.shape[1]} → {self.shape[0]}{', ' * bool(detail)}{detail})"

    def apply(self, z: Tensor) -> Tensor:
        """A z + b for each row: ``(batch, in_dim)`` to ``(batch, out_dim)``."""
        return self.linear.apply(z) + self.offset

    def to_dense(self) -> Tensor:
        """The homogeneous matrix [[A, b], [0, 1]], ``(out_dim + 1, in_dim + 1)``; products of these compose."""
        matrix = pad(torch.cat([self.linear.to_dense(), self.offset[:, None]], 1), (0, 0, 0, 1))
        matrix[-1, -1] = 1.0
        return matrix

    def adjoint(self) -> LinearOperator:
        """Aᵀ if b = 0.

        Raises ``InputValueError`` for any other b: ⟨Az + b, y⟩ is not linear in z, so there is no map on the other
        side. ``linear.adjoint()`` is the adjoint of A, and ``pinv()`` maps back.
        """
        if bool((self.offset.detach() != 0).any()):
            raise InputValueError(
                "an affine map with an offset has no adjoint; use that of its linear part, or pinv to map back"
            )
        return self.linear.adjoint()

    def compose(self, other: LinearOperator | AffineOperator) -> AffineOperator:
        """z ↦ A other(z) + b; raises ``ValueError`` if dimensions differ."""
        linear = self.linear.compose(linear_part(other))
        if not isinstance(other, AffineOperator):
            return AffineOperator(linear, self.offset)
        return AffineOperator(linear, self.linear.apply(other.offset[None])[0] + self.offset)

    def __matmul__(self, other: LinearOperator | AffineOperator) -> AffineOperator:
        return self.compose(other)

    def _before(self, then: LinearOperator) -> AffineOperator:
        """then ∘ f."""
        return AffineOperator(then.compose(self.linear), then.apply(self.offset[None])[0])

    def add(self, other: LinearOperator | AffineOperator) -> AffineOperator:
        """z ↦ f(z) + other(z); raises ``ValueError`` if shapes differ."""
        if isinstance(other, AffineOperator):
            return AffineOperator(self.linear.add(other.linear), self.offset + other.offset)
        return AffineOperator(self.linear.add(other), self.offset)

    def scale(self, factor: float) -> AffineOperator:
        """z ↦ factor f(z)."""
        return AffineOperator(self.linear.scale(factor), factor * self.offset)

    def shift(self, alpha: float) -> AffineOperator:
        """z ↦ f(z) + αz, for a square A."""
        return AffineOperator(self.linear.shift(alpha), self.offset)

    def power(self, n: int) -> AffineOperator:
        """f applied n times, Aⁿ z + (I + A + … + Aⁿ⁻¹) b, for a square A; for a negative n, powers of the inverse.

        Raises ``ValueError`` for a negative power if A is singular.
        """
        dim = self.linear._square("raised to a power")
        if n < 0:
            if self.rank() < dim:
                raise InputValueError(
                    f"a singular operator has no negative power, got n = {n} at rank {self.rank()} of {dim}"
                )
            return self.pinv().power(-n)
        return repeated(self, n) if n else AffineOperator(self.linear.power(0), torch.zeros_like(self.offset))

    def exp(self, t: float = 1.0) -> AffineOperator:
        """The time-t flow of ż = A z + b, for a square A: exp(tA) z + t φ₁(tA) b with φ₁(X) = Σ Xⁿ/(n+1)!.

        Its homogeneous matrix is the exponential of t [[A, b], [0, 0]] (Al-Mohy & Higham, 2011, theorem 2.1).
        """
        return AffineOperator(self.linear.exp(t), t * self.linear._phi(t, self.offset))

    def fixed_point(self, rcond: float | None = None) -> Tensor:
        """The z ``(dim,)`` of smallest norm with f(z) = z, for a square A.

        Singular values of A - I up to ``rcond`` times the largest count as zero, as in ``pinv``. Raises
        ``InputValueError`` if f has no fixed point.
        """
        self.linear._square("asked for a fixed point")
        away = self.linear.shift(-1.0)
        back = away.pinv(rcond)
        z = -back.apply(finite(self.offset)[None])[0]
        for _ in range(REFINEMENTS):
            z = z - back.apply(away.apply(z[None]) + self.offset)[0]
        left, offset, point = (
            float(part.detach().double().norm()) for part in (away.apply(z[None])[0] + self.offset, self.offset, z)
        )
        largest = float(away.singular_values().detach()[:1].double().sum())
        if left > 8 * (1 + len(z)) * torch.finfo(z.dtype).eps * (offset + largest * point):
            raise InputValueError(
                f"the affine map has no fixed point: A - I cannot undo its offset; {left / offset:.3g} of it remains"
            )
        return z

    def pinv(self, rcond: float | None = None) -> AffineOperator:
        """f⁺(y) = A⁺(y - b), the z of smallest norm among those that bring f(z) closest to y.

        This is the Moore-Penrose inverse of a map between affine spaces: f f⁺ f = f, f⁺ f f⁺ = f⁺, f f⁺ is the
        orthogonal projection onto the affine range b + range(A), and f⁺ f the (linear) one onto the row space. Its
        homogeneous matrix is not the pseudo-inverse of that of f, and (f⁺)⁺ is f only if b is in the range of A.
        """
        inverse = self.linear.pinv(rcond)
        return AffineOperator(inverse, -inverse.apply(self.offset[None])[0])

    def row_projection(self, rcond: float | None = None) -> LinearOperator:
        """f⁺ f = A⁺A, the linear orthogonal projection onto the row space: f depends on nothing else of z."""
        return self.linear.row_projection(rcond)

    def range_projection(self, rcond: float | None = None) -> AffineOperator:
        """f f⁺, y ↦ A A⁺(y - b) + b: the orthogonal projection onto the affine range b + range(A)."""
        onto = self.linear.range_projection(rcond)
        return AffineOperator(onto, self.offset - onto.apply(self.offset[None])[0])

    def null_projection(self, rcond: float | None = None) -> LinearOperator:
        """I - A⁺A, the linear orthogonal projection onto the null space of A, which f maps to f(0) = b."""
        return self.linear.null_projection(rcond)

    def solve(self, y: Tensor) -> Tensor:
        """The z with f(z) = y, A⁻¹(y - b), for each row of ``(batch, dim)``, for a square A.

        Raises ``ValueError`` if A is singular to working precision; use ``lstsq`` then.
        """
        return self.linear.solve(y - self.offset)

    def lstsq(self, y: Tensor, rcond: float | None = None) -> Tensor:
        """The z of smallest norm that brings f(z) closest to y, f⁺(y): ``(batch, out_dim)`` to ``(batch, in_dim)``."""
        return self.linear.lstsq(y - self.offset, rcond)

    def svd(self, k: int | None = None) -> SVD:
        """The k leading singular triples of A."""
        return self.linear.svd(k)

    def singular_values(self) -> Tensor:
        """All ``min(out_dim, in_dim)`` singular values of A, descending."""
        return self.linear.singular_values()

    def eig(self, k: int | None = None) -> Eigen:
        """The k eigenpairs of A of largest magnitude: about a fixed point p, f(p + x) = p + λx."""
        return self.linear.eig(k)

    def trace(self) -> Tensor:
        """The trace of A, which is the divergence of the vector field z ↦ f(z)."""
        return self.linear.trace()

    def logdet(self) -> Tensor:
        """log|det A|, the log of the factor by which f changes volumes."""
        return self.linear.logdet()

    def rank(self, rcond: float | None = None) -> int:
        """The numerical rank of A, the dimension of f's range."""
        return self.linear.rank(rcond)

    def condition(self) -> float:
        """The ratio of A's largest to its smallest singular value (infinite when singular)."""
        return self.linear.condition()


Operator: TypeAlias = LinearOperator | AffineOperator
"""Operators that can be the core of a Linearizer."""


def linear_part(operator: Operator) -> LinearOperator:
    """A of an affine map z ↦ A z + b; a linear operator is returned unchanged.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.DiagonalOperator(torch.ones(2))
    >>> linear_part(a) is linear_part(lc.operators.AffineOperator(a, torch.ones(2))) is a
    True
    """
    return operator.linear if isinstance(operator, AffineOperator) else operator
