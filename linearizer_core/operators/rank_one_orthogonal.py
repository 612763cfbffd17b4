"""Orthogonal matrices under perturbations that preserve orthogonality: the P4 method for a property besides
invertibility.

Krämer, Köhler & Noé, Training Invertible Linear Layers through Rank-One Perturbations, 2020 (arXiv 2010.07033).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.errors import NotFiniteError
from linearizer_core.operators.base import SVD, DenseOperator, LinearOperator
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.rank_one import RankOneLayer, all_finite, dyadic_rotation


@dataclass(frozen=True, eq=False, repr=False)
class ReflectedOrthogonal(LinearOperator):
    """W = A H(u) H(v), the orthogonal ``matrix`` A ``(dim, dim)`` after two reflections H(w) = I - 2wwᵀ/‖w‖².

    ``u`` and ``v`` are ``(dim,)``, of any nonzero length: results with a zero normal are NaN, and decomposing them
    raises ``NotFiniteError``. A is assumed to be orthogonal without a check. Products with W and Wᵀ take O(dim²).

    >>> import linearizer_core as lc
    >>> a = lc.operators.OrthogonalP4(8).operator()
    >>> a, abs(float(a.logdet()))
    (ReflectedOrthogonal(8 → 8), 0.0)
    """

    matrix: Tensor
    u: Tensor
    v: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.u), len(self.u)

    @property
    def like(self) -> Tensor:
        return self.matrix

    def apply(self, z: Tensor) -> Tensor:
        return _reflect(_reflect(z, self.v), self.u) @ self.matrix.T

    def to_dense(self) -> Tensor:
        return _reflect(_reflect(self.matrix, self.u), self.v)

    def adjoint(self) -> ReflectedOrthogonal:
        """H(v) H(u) Aᵀ = Aᵀ H(Av) H(Au)."""
        return ReflectedOrthogonal(self.matrix.T, self.matrix @ self.v, self.matrix @ self.u)

    def inverse(self) -> ReflectedOrthogonal:
        """Wᵀ."""
        return self.adjoint()

    def scale(self, factor: float) -> DenseOperator:
        return DenseOperator(factor * self.to_dense())

    def _after(self, first: LinearOperator) -> LinearOperator | None:
        """W (B H(u') H(v')) = (WB) H(u') H(v')."""
        if not isinstance(first, ReflectedOrthogonal):
            return None
        return ReflectedOrthogonal(self.to_dense() @ first.matrix, first.u, first.v)

    def _ones(self) -> Tensor:
        """The singular values, all 1; raises ``NotFiniteError`` if a reflection has no valid normal."""
        for normal in (self.u, self.v):
            if not bool(_unit(normal.detach()).isfinite().all()):
                raise NotFiniteError("a reflection's normal must be finite and not zero")
        return torch.ones_like(self.u)

    def singular_values(self) -> Tensor:
        return self._ones()

    def svd(self, k: int | None = None) -> SVD:
        """The first k axes, as good as any others, since all singular values are 1."""
        k = self._count(k, len(self.u))
        return SVD(self.to_dense()[:, :k], self._ones()[:k], self._eye(len(self.u))[:, :k])

    def pinv(self, rcond: float | None = None) -> ReflectedOrthogonal:
        return self.adjoint()

    def row_projection(self, rcond: float | None = None) -> DiagonalOperator:
        return DiagonalOperator(self._ones())

    def _solve(self, y: Tensor) -> Tensor:
        return self.adjoint().apply(y)

    def logdet(self) -> Tensor:
        """0, or NaN if a reflection has no valid normal."""
        return 0 * (_unit(self.u.detach()) + _unit(self.v.detach())).sum()


class OrthogonalP4(RankOneLayer):
    """An orthogonal matrix W = A H(u) H(v) trained through two reflections, which initially cancel, u = v.

    The gradient at u = v does not vanish: to first order W turns in the planes that contain v. Every
    ``correct_every`` merges A takes a Newton–Schulz step towards its polar factor. It starts as a random rotation
    that is exact in any floating-point format.

    Raises ``ValueError`` for less than one dimension, or less than one merge between corrections.

    >>> import torch, linearizer_core as lc
    >>> layer = lc.operators.OrthogonalP4(8)
    >>> z = torch.ones(3, 8)
    >>> torch.allclose(layer(z).norm(dim=1), z.norm(dim=1), atol=1e-4), layer.merge()
    (True, True)
    """

    matrix: Tensor

    def __init__(self, dim: int, *, correct_every: int = 10) -> None:
        super().__init__(dim, correct_every)
        self.register_buffer("matrix", dyadic_rotation(dim))

    def operator(self) -> ReflectedOrthogonal:
        return ReflectedOrthogonal(self.matrix, self.u, self.v)

    @torch.no_grad()
    def correct(self) -> None:
        """A ← A (3I - AᵀA) / 2, which squares the error AᵀA - I."""
        self.matrix.copy_(1.5 * self.matrix - 0.5 * self.matrix @ (self.matrix.T @ self.matrix))

    def _neutral(self, v: Tensor) -> Tensor:
        return v.clone()

    def _absorb(self) -> bool:
        merged = self.operator().to_dense()
        if not all_finite(merged):
            return False
        self.matrix.copy_(merged)
        return True


def _reflect(rows: Tensor, normal: Tensor) -> Tensor:
    """Each row of ``(count, dim)`` reflected across the hyperplane with ``normal`` ``(dim,)``."""
    unit = _unit(normal)
    return rows - torch.outer(rows @ unit, 2 * unit)


def _unit(normal: Tensor) -> Tensor:
    """``normal`` scaled to length 1, computed so that its square cannot overflow or vanish; NaN for a zero vector."""
    if not len(normal):
        return normal
    scaled = normal / normal.detach().abs().max()
    return scaled / scaled.norm()
