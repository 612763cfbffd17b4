"""The interface of the linear cores A of a Linearizer, with its dense implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class LinearOperator(ABC):
    """A linear map between finite-dimensional spaces, applied to rows of ``(batch, dim)`` tensors."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """``(out_dim, in_dim)``."""

    @abstractmethod
    def apply(self, z: Tensor) -> Tensor:
        """A z for each row: ``(batch, in_dim)`` to ``(batch, out_dim)``."""

    @abstractmethod
    def adjoint(self) -> LinearOperator:
        """Aᵀ."""

    @abstractmethod
    def compose(self, other: LinearOperator) -> LinearOperator:
        """A ∘ other, in the narrowest structure that holds it."""

    @abstractmethod
    def add(self, other: LinearOperator) -> LinearOperator:
        """A + other."""

    @abstractmethod
    def scale(self, factor: float) -> LinearOperator:
        """The operator times a number."""

    @abstractmethod
    def shift(self, alpha: float) -> LinearOperator:
        """A + αI, for a square A."""

    @abstractmethod
    def singular_values(self) -> Tensor:
        """All ``min(out_dim, in_dim)`` singular values, descending."""

    @abstractmethod
    def pinv(self, rcond: float | None = None) -> LinearOperator:
        """The Moore-Penrose inverse; singular values up to ``rcond`` times the largest count as zero.

        ``rcond`` defaults to the larger dimension times the dtype's epsilon.
        """

    @abstractmethod
    def to_dense(self) -> Tensor:
        """The ``(out_dim, in_dim)`` matrix, for tests and small problems."""

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return self.compose(other)

    def rank(self, rcond: float | None = None) -> int:
        """The numerical rank: how many singular values exceed ``rcond`` times the largest."""
        values = self.singular_values()
        return int((values > cutoff(values, max(self.shape), rcond)).sum())

    def condition(self) -> float:
        """The ratio of the largest to the smallest singular value (infinite when singular)."""
        values = self.singular_values()
        return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")


def cutoff(values: Tensor, dim: int, rcond: float | None) -> Tensor:
    """The absolute threshold under which a singular value counts as zero, numpy's and LAPACK's convention."""
    relative = dim * torch.finfo(values.dtype).eps if rcond is None else rcond
    return relative * values.max()


def check_chain(first: LinearOperator, then: LinearOperator) -> None:
    """Raise ``ValueError`` unless ``then ∘ first`` is defined."""
    if then.shape[1] != first.shape[0]:
        raise ValueError(f"cannot compose operators of shapes {then.shape} and {first.shape}: inner dimensions differ")


def check_same_shape(a: LinearOperator, b: LinearOperator) -> None:
    """Raise ``ValueError`` unless the two operators can be added."""
    if a.shape != b.shape:
        raise ValueError(f"cannot add operators of shapes {a.shape} and {b.shape}")


@dataclass(frozen=True, eq=False)
class DenseOperator(LinearOperator):
    """An operator held as its matrix ``(out_dim, in_dim)``."""

    matrix: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    def apply(self, z: Tensor) -> Tensor:
        return z @ self.matrix.T

    def adjoint(self) -> DenseOperator:
        return DenseOperator(self.matrix.T)

    def compose(self, other: LinearOperator) -> DenseOperator:
        check_chain(other, self)
        return DenseOperator(self.matrix @ other.to_dense())

    def add(self, other: LinearOperator) -> DenseOperator:
        check_same_shape(self, other)
        return DenseOperator(self.matrix + other.to_dense())

    def scale(self, factor: float) -> DenseOperator:
        return DenseOperator(factor * self.matrix)

    def shift(self, alpha: float) -> DenseOperator:
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"only a square operator can be shifted by the identity, this one is {self.shape}")
        identity = torch.eye(self.shape[0], dtype=self.matrix.dtype, device=self.matrix.device)
        return DenseOperator(self.matrix + alpha * identity)

    def singular_values(self) -> Tensor:
        return torch.linalg.svdvals(self.matrix)

    def pinv(self, rcond: float | None = None) -> DenseOperator:
        u, s, vh = torch.linalg.svd(self.matrix, full_matrices=False)
        keep = s > cutoff(s, max(self.shape), rcond)
        inverse = torch.where(keep, 1 / torch.where(keep, s, 1), 0)
        return DenseOperator((vh.T * inverse) @ u.T)

    def to_dense(self) -> Tensor:
        return self.matrix
