"""Diagonal operators: the simplest kind, closed under all operations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.operators.base import SVD, Eigen, LinearOperator, finite

TERMS = 16
"""Terms of the series of φ₁, enough that the next is below double-precision rounding for |x| ≤ 1/2."""


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalOperator(LinearOperator):
    """diag(``values``) with values ``(dim,)``, stored and applied in O(dim).

    ``terms`` is the size of the terms that the values were added up from, as in ``DenseOperator``.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.DiagonalOperator(torch.tensor([3.0, 1.0]))
    >>> a.apply(torch.ones(1, 2)), a.pinv().apply(torch.ones(1, 2))
    (tensor([[3., 1.]]), tensor([[0.3333, 1.0000]]))
    >>> a
    DiagonalOperator(2 → 2)
    """

    values: Tensor
    terms: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.values), len(self.values)

    @property
    def like(self) -> Tensor:
        return self.values

    def apply(self, z: Tensor) -> Tensor:
        return z * self.values

    def adjoint(self) -> DiagonalOperator:
        return self

    def scale(self, factor: float) -> DiagonalOperator:
        return DiagonalOperator(factor * self.values, None if self.terms is None else abs(factor) * self.terms)

    def shift(self, alpha: float) -> DiagonalOperator:
        return DiagonalOperator(self.values + alpha, self._size() + abs(alpha))

    def _terms(self) -> Tensor | None:
        return self.terms

    def _size(self) -> Tensor:
        values = self.values.detach().abs()
        largest = values.max() if len(values) else values.new_zeros(())
        return largest if self.terms is None else torch.maximum(largest, self.terms)

    def _after(self, first: LinearOperator) -> LinearOperator | None:
        return DiagonalOperator(self.values * first.values) if isinstance(first, DiagonalOperator) else None

    def _plus(self, other: LinearOperator) -> LinearOperator | None:
        if not isinstance(other, DiagonalOperator):
            return None
        return DiagonalOperator(self.values + other.values, self._size() + other._size())

    def exp(self, t: float = 1.0) -> DiagonalOperator:
        return DiagonalOperator((t * self.values).exp())

    def _phi(self, t: float, b: Tensor) -> Tensor:
        x = t * self.values
        # Near 0 use the series: the gradient of the quotient would be a difference of nearly equal numbers there.
        near = x.abs() < 0.5
        small, large = torch.where(near, x, 0), torch.where(near, 1, x)
        series = torch.ones_like(x)
        for n in range(TERMS, 1, -1):
            series = 1 + small / n * series
        return torch.where(near, series, large.expm1() / large) * b

    def singular_values(self) -> Tensor:
        return finite(self.values).abs().sort(descending=True).values

    def svd(self, k: int | None = None) -> SVD:
        k = self._count(k, len(self.values))
        order = finite(self.values).abs().argsort(descending=True, stable=True)[:k]
        v = self._axes(order)
        chosen = self.values[order]
        return SVD(v * torch.where(chosen < 0, -1.0, 1.0).to(v.dtype), chosen.abs(), v)

    def eig(self, k: int | None = None) -> Eigen:
        k = self._count(k, len(self.values))
        order = finite(self.values).abs().argsort(descending=True, stable=True)[:k]
        return Eigen(self.values[order], self._axes(order))

    def _axes(self, order: Tensor) -> Tensor:
        """The unit vectors of the given coordinates as columns."""
        axes = self.values.new_zeros(len(self.values), len(order))
        axes[order, torch.arange(len(order), device=order.device)] = 1.0
        return axes

    def pinv(self, rcond: float | None = None) -> DiagonalOperator:
        keep = self.values.abs() > self._cutoff(rcond)
        return DiagonalOperator(torch.where(keep, 1 / torch.where(keep, self.values, 1), 0))

    def row_projection(self, rcond: float | None = None) -> DiagonalOperator:
        return DiagonalOperator((self.values.abs() > self._cutoff(rcond)).to(self.values.dtype))

    def null_projection(self, rcond: float | None = None) -> DiagonalOperator:
        return DiagonalOperator((self.values.abs() <= self._cutoff(rcond)).to(self.values.dtype))

    def _solve(self, y: Tensor) -> Tensor:
        return y / self.values

    def trace(self) -> Tensor:
        return self.values.sum()

    def logdet(self) -> Tensor:
        if self._vanishes():
            return self.values.new_full((), -math.inf)
        return self.values.abs().log().sum()

    def to_dense(self) -> Tensor:
        return torch.diag(self.values)
