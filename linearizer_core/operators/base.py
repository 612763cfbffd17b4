"""The interface of a Linearizer's linear core A, with default implementations based on its matrix."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError, NotFiniteError

if TYPE_CHECKING:
    from linearizer_core.operators.affine import AffineOperator

Result = TypeVar("Result")
Repeated = TypeVar("Repeated", "LinearOperator", "AffineOperator")


@dataclass(frozen=True)
class SVD:
    """k singular triples, A v_i = s_i u_i: u ``(out_dim, k)``, s ``(k,)`` descending and v ``(in_dim, k)``.

    u and v have orthonormal columns, even if singular values are zero or repeated.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.DiagonalOperator(torch.tensor([3.0, 1.0]))
    >>> a.svd(1).s
    tensor([3.])
    """

    u: Tensor
    s: Tensor
    v: Tensor


@dataclass(frozen=True)
class Eigen:
    """k eigenpairs A x_i = λ_i x_i by descending |λ|: values ``(k,)``, unit-length vectors ``(dim, k)``.

    Real tensors where all k eigenvalues are real, complex ones otherwise.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.DiagonalOperator(torch.tensor([3.0, 1.0]))
    >>> a.eig().values
    tensor([3., 1.])
    """

    values: Tensor
    vectors: Tensor


class cached(cached_property[Result]):  # noqa: N801 - a decorator
    """``functools.cached_property`` that caches nothing for operators that carry gradients.

    Their results belong to one autograd graph, or to none: a cached result would be stale in the next graph.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is not None and carries_gradients(instance):
            return self.func(instance)
        return super().__get__(instance, owner)


def carries_gradients(value: Any) -> bool:
    """Whether a dataclass holds a tensor that requires a gradient, itself or in another dataclass."""
    if isinstance(value, Tensor):
        return value.requires_grad
    return is_dataclass(value) and any(carries_gradients(getattr(value, field.name)) for field in fields(value))


class LinearOperator(ABC):
    """A linear map between finite-dimensional real spaces, applied to rows of ``(batch, dim)`` tensors.

    Products and sums keep whatever structure both sides share: the left side is asked first, then the right side, and
    only then are matrices formed.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.DiagonalOperator(torch.tensor([3.0, 1.0]))
    >>> (a @ a).to_dense(), round(float(a.logdet()), 3), a.condition()
    (tensor([[9., 0.],
            [0., 1.]]), 1.099, 3.0)
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """``(out_dim, in_dim)``."""

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A tensor of the operator's dtype on its device."""

    @abstractmethod
    def apply(self, z: Tensor) -> Tensor:
        """A z for each row: ``(batch, in_dim)`` to ``(batch, out_dim)``."""

    @abstractmethod
    def adjoint(self) -> LinearOperator:
        """Aᵀ."""

    @abstractmethod
    def scale(self, factor: float) -> LinearOperator:
        """The operator multiplied by a number."""

    def to_dense(self) -> Tensor:
        """The ``(out_dim, in_dim)`` matrix, for tests and small problems."""
        return self.apply(self._eye(self.shape[1])).T

    @overload
    def compose(self, other: LinearOperator) -> LinearOperator: ...

    @overload
    def compose(self, other: AffineOperator) -> AffineOperator: ...

    def compose(self, other: LinearOperator | AffineOperator) -> LinearOperator | AffineOperator:
        """A ∘ other, in the narrowest structure that holds it; affine if ``other`` is.

        Raises ``ValueError`` if dimensions differ.
        """
        if self.shape[1] != other.shape[0]:
            shapes = f"{self.shape} and {other.shape}"
            raise InputValueError(f"cannot compose operators of shapes {shapes}: inner dimensions differ")
        if not isinstance(other, LinearOperator):
            return other._before(self)
        product = self._after(other)
        if product is None:
            product = other._before(self)
        return DenseOperator(self.apply(other.to_dense().T).T) if product is None else product

    def _after(self, first: LinearOperator) -> LinearOperator | None:
        """A ∘ first, if A knows a structure for it."""
        return None

    def _before(self, then: LinearOperator) -> LinearOperator | None:
        """then ∘ A, if A knows a structure for it."""
        return None

    @overload
    def add(self, other: LinearOperator) -> LinearOperator: ...

    @overload
    def add(self, other: AffineOperator) -> AffineOperator: ...

    def add(self, other: LinearOperator | AffineOperator) -> LinearOperator | AffineOperator:
        """A + other, in the narrowest structure that holds it; affine if ``other`` is.

        Raises ``ValueError`` if shapes differ.
        """
        if self.shape != other.shape:
            raise InputValueError(f"cannot add operators of shapes {self.shape} and {other.shape}")
        if not isinstance(other, LinearOperator):
            return other.add(self)
        total = self._plus(other)
        if total is None:
            total = other._plus(self)
        return _sum(self.to_dense(), other.to_dense(), self._terms(), other._terms()) if total is None else total

    def _plus(self, other: LinearOperator) -> LinearOperator | None:
        """A + other, if A knows a structure for it."""
        return None

    def __repr__(self) -> str:
        detail = self._detail()
        return f"{type(self).__name__}({self.shape[1]} → {self.shape[0]}{', ' * bool(detail)}{detail})"

    def _detail(self) -> str:
        """What ``repr`` shows besides the dimensions."""
        return ""

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...

    @overload
    def __matmul__(self, other: AffineOperator) -> AffineOperator: ...

    def __matmul__(self, other: LinearOperator | AffineOperator) -> LinearOperator | AffineOperator:
        return self.compose(other)

    def shift(self, alpha: float) -> LinearOperator:
        """A + αI, for a square A."""
        dim = self._square("shifted by the identity")
        return _sum(self.to_dense(), alpha * self._eye(dim), self._terms())

    def power(self, n: int) -> LinearOperator:
        """Aⁿ for a square A, by repeated squaring; for a negative n, powers of the inverse.

        Raises ``ValueError`` for a negative power of a singular operator.
        """
        dim = self._square("raised to a power")
        if n < 0:
            if self.rank() < dim:
                raise InputValueError(
                    f"a singular operator has no negative power, got n = {n} at rank {self.rank()} of {dim}"
                )
            return self.pinv().power(-n)
        return repeated(self, n) if n else self.scale(0.0).shift(1.0)

    def principal_power(self, t: float) -> LinearOperator:
        """Aᵗ for a square A and any real t: its eigenvectors, with the principal powers of its eigenvalues.

        That is exp(t log A) with the principal logarithm, where A has one. Eigenvalues of 0 stay 0. Of negative ones,
        which have no real powers, the real part is taken, |λ|ᵗ cos πt, as a shift by a fraction of a pixel does with
        the highest frequency.

        Raises ``ValueError`` unless A has a full set of independent eigenvectors, and for a negative t if A is
        singular.
        """
        self._square("raised to a power")
        return DenseOperator(principal_power(self.to_dense(), t))

    def exp(self, t: float = 1.0) -> LinearOperator:
        """exp(tA) = Σ (tA)ⁿ / n!, for a square A."""
        self._square("exponentiated")
        return DenseOperator(torch.linalg.matrix_exp(t * self.to_dense()))

    def _phi(self, t: float, b: Tensor) -> Tensor:
        """φ₁(tA) b for b ``(dim,)``: the position at time t of the flow of ż = Az + b from 0, divided by t."""
        return phi(t * self.to_dense(), b)

    def svd(self, k: int | None = None) -> SVD:
        """The k leading singular triples; all ``min(out_dim, in_dim)`` if k is None."""
        k = self._count(k, min(self.shape))
        u, s, vh = torch.linalg.svd(finite(self.to_dense()), full_matrices=False)
        return SVD(u[:, :k], s[:k], vh[:k].T)

    def singular_values(self) -> Tensor:
        """All ``min(out_dim, in_dim)`` singular values, descending."""
        return torch.linalg.svdvals(finite(self.to_dense()))

    def eig(self, k: int | None = None) -> Eigen:
        """The k eigenpairs of largest magnitude, all ``dim`` if k is None; orthonormal if A is symmetric.

        Raises ``ValueError`` if A does not have that many independent eigenvectors to working precision.
        """
        k = self._count(k, self._square("decomposed into eigenvectors"))
        found = eigenpairs(finite(self.to_dense()))
        return leading(found.values, found.vectors, k)

    def pinv(self, rcond: float | None = None) -> LinearOperator:
        """The Moore-Penrose inverse; singular values up to ``rcond`` times the largest count as zero.

        ``rcond`` defaults to the larger dimension times the dtype's epsilon.
        """
        return DenseOperator(pseudo_inverse(self.to_dense(), self._cutoff(rcond)))

    def row_projection(self, rcond: float | None = None) -> LinearOperator:
        """A⁺A, the orthogonal projection onto the row space, the complement of A's null space."""
        _, s, vh = torch.linalg.svd(finite(self.to_dense()), full_matrices=False)
        kept = vh[s > self._cutoff(rcond)]
        return DenseOperator(kept.T @ kept)

    def range_projection(self, rcond: float | None = None) -> LinearOperator:
        """A A⁺, the orthogonal projection onto the range."""
        return self.adjoint().row_projection(rcond)

    def null_projection(self, rcond: float | None = None) -> LinearOperator:
        """I - A⁺A, the orthogonal projection onto the null space."""
        _, s, vh = torch.linalg.svd(finite(self.to_dense()))
        kept = vh[int((s > self._cutoff(rcond)).sum()) :]
        return DenseOperator(kept.T @ kept)

    def solve(self, y: Tensor) -> Tensor:
        """A⁻¹ y for each row of ``(batch, dim)``, for a square A.

        Raises ``ValueError`` if A is singular to working precision; use ``lstsq`` then.
        """
        dim = self._square("solved with")
        if self.rank() < dim:
            raise InputValueError(f"the operator is singular (rank {self.rank()} of {dim}); use lstsq")
        return self._solve(y)

    def _solve(self, y: Tensor) -> Tensor:
        """``solve`` for an A known to be regular."""
        return torch.linalg.solve(self.to_dense(), y.T).T

    def lstsq(self, y: Tensor, rcond: float | None = None) -> Tensor:
        """The least-squares solution of smallest norm, A⁺ y: ``(batch, out_dim)`` to ``(batch, in_dim)``."""
        return self.pinv(rcond).apply(y)

    def trace(self) -> Tensor:
        """The sum of the diagonal of a square A."""
        self._square("traced")
        return self.to_dense().trace()

    def logdet(self) -> Tensor:
        """log|det A| of a square A; -∞ if a singular value is 0, or no more than the rounding error of A's terms."""
        self._square("given a determinant")
        if self._vanishes():
            return self.like.new_full((), -math.inf)
        return torch.linalg.slogdet(self.to_dense()).logabsdet

    def rank(self, rcond: float | None = None) -> int:
        """The numerical rank: the number of singular values above ``rcond`` times the largest, or above ``cutoff``."""
        return int((self.singular_values() > self._cutoff(rcond)).sum())

    def _cutoff(self, rcond: float | None) -> float:
        """The threshold below which a singular value counts as zero."""
        return float(cutoff(self.singular_values().detach(), max(self.shape), rcond, self._terms()))

    def _terms(self) -> Tensor | None:
        """The size of the terms whose sum the operator is, if they may be larger than the operator."""
        return None

    def _vanishes(self) -> bool:
        """Whether the smallest singular value is no more than the rounding error of the terms.

        A rank's cutoff is wider: it also treats as zero values that are small but accurate enough for a determinant.
        """
        terms = self._terms()
        if terms is None or not min(self.shape):
            return False
        values = self.singular_values().detach()
        return bool(values[-1] <= rounding(terms.to(values)))

    def condition(self) -> float:
        """The ratio of the largest to the smallest singular value.

        It is infinite if the smallest is 0, or no more than the rounding error of the operator's terms.

        Raises ``ValueError`` for an operator without singular values.
        """
        values = self.singular_values().detach()
        if not len(values):
            raise InputValueError(f"an operator of shape {self.shape} has no singular values to compare")
        return math.inf if values[-1] == 0 or self._vanishes() else float(values[0] / values[-1])

    def _square(self, use: str) -> int:
        if self.shape[0] != self.shape[1]:
            raise InputValueError(f"only a square operator can be {use}; this one is {self.shape}")
        return self.shape[0]

    def _count(self, k: int | None, most: int) -> int:
        if k is None:
            return most
        if not 1 <= k <= most:
            raise InputValueError(f"k must be between 1 and {most} for an operator of shape {self.shape}, got {k}")
        return k

    def _eye(self, dim: int) -> Tensor:
        return torch.eye(dim, dtype=self.like.dtype, device=self.like.device)


def repeated(operator: Repeated, n: int) -> Repeated:
    """The n-th power for n ≥ 1, by repeated squaring."""
    result: Repeated | None = None
    square = operator
    while n:
        if n & 1:
            result = square if result is None else square.compose(result)
        n >>= 1
        if n:
            square = square.compose(square)
    assert result is not None
    return result


def principal_power(matrix: Tensor, t: float, least: float = 0.0) -> Tensor:
    """The real part of Mᵗ with the principal powers of M's eigenvalues, computed in float64.

    Zero eigenvalues stay zero, for negative powers too if t is at least ``least``. Raises ``ValueError`` otherwise, and
    without a full set of independent eigenvectors.

    >>> quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    >>> principal_power(quarter_turn, 2.0).round()
    tensor([[-1.,  0.],
            [ 0., -1.]])
    """
    values, vectors = torch.linalg.eig(finite(matrix).double())
    if len(values) and float(torch.linalg.svdvals(vectors.detach())[-1]) < torch.finfo(torch.float64).eps ** 0.5:
        raise InputValueError("the operator does not have a full set of eigenvectors, so it has no principal power")
    zero = values.detach().abs() <= cutoff(values.detach().abs(), len(values))
    if t < least and bool(zero.any()):
        raise InputValueError(f"a singular operator has no negative power, got t = {t:g}")
    powers = torch.where(zero, torch.zeros_like(values), torch.where(zero, torch.ones_like(values), values) ** t)
    return torch.linalg.solve(vectors.mT, (vectors * powers).mT).mT.real.to(matrix)


def phi(matrix: Tensor, b: Tensor) -> Tensor:
    """φ₁(X) b with φ₁(X) = Σ Xⁿ/(n+1)!, for matrices X ``(…, n, n)`` and b ``(…, n)``, even if X is singular.

    It is the last column of the exponential of [[X, b], [0, 0]] (Al-Mohy & Higham, 2011, theorem 2.1).
    """
    n = b.shape[-1]
    if not n:
        return b
    # The exponential scales its argument by the norm of the whole matrix: a large b would cost X its digits.
    scale = b.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    augmented = torch.cat([matrix, (b / scale)[..., None]], -1)
    grown = torch.linalg.matrix_exp(torch.cat([augmented, augmented.new_zeros(*b.shape[:-1], 1, n + 1)], -2))
    return scale * grown[..., :n, n]


def cutoff(values: Tensor, dim: int, rcond: float | None = None, terms: Tensor | None = None) -> Tensor:
    """The absolute threshold below which singular ``values`` ``(count,)`` count as zero; all ranks use this rule.

    It is ``rcond`` times the largest value. Without ``rcond`` it is what rounding can leave: ``dim``, the operator's
    larger side, times the dtype's epsilon times the largest value (numpy's and LAPACK's convention), or the
    ``rounding`` of the ``terms`` if these were much larger and cancelled.

    Raises ``NotFiniteError`` if a value is not finite.
    """
    largest = finite(values).max() if len(values) else values.new_zeros(())
    if rcond is not None:
        return rcond * largest
    usual = dim * torch.finfo(values.dtype).eps * largest
    return usual if terms is None else torch.maximum(usual, rounding(terms.to(usual)))


def rounding(terms: Tensor) -> Tensor:
    """The rounding error left when terms of this size cancel: a few epsilons, as the size counts every addition."""
    return 8 * torch.finfo(terms.dtype).eps * terms


def finite(matrix: Tensor) -> Tensor:
    """The matrix itself; raises ``NotFiniteError`` if an entry is not finite, since a solver could return anything."""
    broken = int((~matrix.detach().isfinite()).sum())
    if broken:
        raise NotFiniteError(f"{broken} of the operator's {matrix.numel()} entries are not finite")
    return matrix


def size(matrix: Tensor) -> Tensor:
    """√(longest row · longest column) of ``(…, m, n)``, the largest over the batch; 1 for the identity.

    Rounding errors of the entries are independent, and a matrix of such entries has about that norm.
    """
    entries = matrix.detach().abs()
    if not entries.numel():
        return entries.new_zeros(())
    wide = entries.double()  # the squares could overflow in single precision
    return (wide.norm(dim=-1).amax(-1).sqrt() * wide.norm(dim=-2).amax(-1).sqrt()).max().to(entries)


def _sum(a: Tensor, b: Tensor, terms_a: Tensor | None, terms_b: Tensor | None = None) -> DenseOperator:
    """a + b, with the combined size of both, or of the terms they are sums of if that is larger."""
    return DenseOperator(a + b, _larger(a, terms_a) + _larger(b, terms_b))


def _larger(matrix: Tensor, terms: Tensor | None) -> Tensor:
    return size(matrix) if terms is None else torch.maximum(size(matrix), terms)


def pseudo_inverse(matrix: Tensor, threshold: float) -> Tensor:
    """The Moore-Penrose inverse of each matrix of a batch, dropping singular values up to the threshold.

    Unlike an inverse assembled from singular vectors, it is differentiable at repeated singular values.
    """
    return torch.linalg.pinv(matrix, atol=threshold, rtol=0.0)


def eigenpairs(matrix: Tensor) -> Eigen:
    """All eigenpairs of a square matrix, by the symmetric solver if it is symmetric up to rounding."""
    if is_symmetric(matrix):
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    else:
        values, vectors = torch.linalg.eig(matrix)
    return Eigen(values, vectors)


def is_symmetric(matrix: Tensor) -> bool:
    """Whether a matrix is symmetric up to the rounding error of a product of its size."""
    if matrix.shape[0] != matrix.shape[1] or not matrix.numel():
        return matrix.shape[0] == matrix.shape[1]
    rounding = len(matrix) * torch.finfo(matrix.dtype).eps * matrix.abs().max()
    return bool((matrix - matrix.T).abs().max() <= rounding)


def leading(values: Tensor, vectors: Tensor, k: int) -> Eigen:
    """The k eigenpairs of largest magnitude out of ``(count,)`` and ``(dim, count)``, real if their values are.

    Raises ``ValueError`` if there are no k eigenvectors that are independent to working precision.
    """
    order = values.abs().argsort(descending=True, stable=True)[:k]
    values, vectors = values[order], vectors[:, order]
    if values.is_complex() and not bool(values.imag.any()):
        values, vectors = values.real, vectors.real
    tolerance = torch.finfo(vectors.dtype).eps ** 0.5
    if len(values) < k or (k and float(torch.linalg.svdvals(vectors.detach())[-1]) < tolerance):
        raise InputValueError(f"the operator does not have {k} independent eigenvectors to working precision")
    return Eigen(values, vectors)


@dataclass(frozen=True, eq=False, repr=False)
class DenseOperator(LinearOperator):
    """An operator held as its matrix ``(out_dim, in_dim)``.

    ``terms`` is the ``size`` of the terms it was added up from, None if it is not a sum: what remains after terms
    cancel is rounding error, and counts as zero.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.DenseOperator(torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0]]))
    >>> a.apply(torch.ones(1, 3)), a.rank()
    (tensor([[3., 1.]]), 2)
    >>> a
    DenseOperator(3 → 2)
    """

    matrix: Tensor
    terms: Tensor | None = None

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2:
            raise InputValueError(f"a matrix must be (out_dim, in_dim), got {tuple(self.matrix.shape)}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def like(self) -> Tensor:
        return self.matrix

    def apply(self, z: Tensor) -> Tensor:
        return z @ self.matrix.T

    def adjoint(self) -> DenseOperator:
        return DenseOperator(self.matrix.T, self.terms)

    def scale(self, factor: float) -> DenseOperator:
        return DenseOperator(factor * self.matrix, None if self.terms is None else abs(factor) * self.terms)

    def _terms(self) -> Tensor | None:
        return self.terms

    def to_dense(self) -> Tensor:
        return self.matrix
