"""Low rank, U C Vᵀ, and scaled identity plus low rank, αI + U C Vᵀ: the structures kept by diffusion operators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from linearizer_core.operators.base import (
    SVD,
    Eigen,
    LinearOperator,
    cached,
    cutoff,
    eigenpairs,
    finite,
    is_symmetric,
    leading,
    phi,
    principal_power,
    pseudo_inverse,
    rounding,
)
from linearizer_core.short import by


@dataclass(frozen=True, eq=False, repr=False)
class Factors:
    """The outer factors U ``(out_dim, r)`` and V ``(in_dim, s)``; operators that share them combine in r×s work.

    >>> import torch, linearizer_core as lc
    >>> factors = lc.operators.Factors(torch.eye(4)[:, :2], torch.eye(4)[:, :2])
    >>> factors, factors.gram
    (Factors(U 4×2, V 4×2), tensor([[1., 0.],
            [0., 1.]]))
    """

    u: Tensor
    v: Tensor

    def __repr__(self) -> str:
        return f"Factors(U {by(self.u.shape)}, V {by(self.v.shape)})"

    @cached
    def gram(self) -> Tensor:
        """VᵀU, ``(s, r)``: all that a product of two operators on these factors needs from them."""
        return self.v.T @ self.u

    def shared_with(self, other: Factors) -> bool:
        """Whether both hold the same tensor objects."""
        return self.u is other.u and self.v is other.v

    def beside(self, other: Factors) -> Factors:
        """[U U'] and [V V']."""
        return Factors(torch.cat([self.u, other.u], 1), torch.cat([self.v, other.v], 1))


@dataclass(frozen=True, eq=False, repr=False)
class LowRankOperator(LinearOperator):
    """U C Vᵀ with ``core`` C ``(r, s)``.

    No method except ``to_dense`` and a full ``svd`` or ``eig`` forms anything of size out_dim×in_dim.

    >>> import torch, linearizer_core as lc
    >>> factors = lc.operators.Factors(torch.eye(4)[:, :2], torch.eye(4)[:, :2])
    >>> a = lc.operators.LowRankOperator(2 * torch.eye(2), factors)
    >>> a.apply(torch.ones(1, 4))
    tensor([[2., 2., 0., 0.]])
    >>> a @ a
    LowRankOperator(4 → 4, rank 2)
    """

    core: Tensor
    factors: Factors

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.factors.u), len(self.factors.v)

    @property
    def like(self) -> Tensor:
        return self.core

    def _detail(self) -> str:
        return f"rank {min(self.core.shape)}"

    def apply(self, z: Tensor) -> Tensor:
        return ((z @ self.factors.v) @ self.core.T) @ self.factors.u.T

    def adjoint(self) -> LowRankOperator:
        return LowRankOperator(self.core.T, Factors(self.factors.v, self.factors.u))

    def scale(self, factor: float) -> LowRankOperator:
        return LowRankOperator(factor * self.core, self.factors)

    def shift(self, alpha: float) -> ScaledIdentityPlusLowRank:
        self._square("shifted by the identity")
        return ScaledIdentityPlusLowRank(alpha, self.core, self.factors)

    def _after(self, first: LinearOperator) -> LinearOperator:
        """(U C Vᵀ) B = U C (BᵀV)ᵀ for any B, in r×s work if B has the same factors."""
        if isinstance(first, LowRankOperator | ScaledIdentityPlusLowRank) and self.factors.shared_with(first.factors):
            core = self.core @ (self.factors.gram @ first.core)
            if isinstance(first, ScaledIdentityPlusLowRank):
                core = core + first.alpha * self.core
            return LowRankOperator(core, self.factors)
        if isinstance(first, LowRankOperator):
            core = self.core @ (self.factors.v.T @ first.factors.u) @ first.core
            return LowRankOperator(core, Factors(self.factors.u, first.factors.v))
        return LowRankOperator(self.core, Factors(self.factors.u, first.adjoint().apply(self.factors.v.T).T))

    def _before(self, then: LinearOperator) -> LinearOperator:
        return LowRankOperator(self.core, Factors(then.apply(self.factors.u.T).T, self.factors.v))

    def _plus(self, other: LinearOperator) -> LinearOperator | None:
        if not isinstance(other, LowRankOperator):
            return None
        if self.factors.shared_with(other.factors):
            return LowRankOperator(self.core + other.core, self.factors)
        core = torch.block_diag(self.core, other.core)
        if max(core.shape) >= max(self.shape):
            return None
        return LowRankOperator(core, self.factors.beside(other.factors))

    def principal_power(self, t: float) -> LinearOperator:
        """(U C Vᵀ)ᵗ = U (C VᵀU)ᵗ⁻¹ C Vᵀ, in r×r work, for t > 0; negative powers exist only at full rank."""
        dim = self._square("raised to a power")
        if t <= 0 or min(self.core.shape) >= dim:
            return super().principal_power(t)
        rest = principal_power(self.core @ self.factors.gram, t - 1, least=-1.0)
        return LowRankOperator(rest @ self.core, self.factors)

    def exp(self, t: float = 1.0) -> LinearOperator:
        return self.shift(0.0).exp(t)

    def _phi(self, t: float, b: Tensor) -> Tensor:
        return self.shift(0.0)._phi(t, b)

    @cached
    def _orthonormal(self) -> tuple[Tensor, Tensor, Tensor]:
        """The operator as Q_u K Q_vᵀ with orthonormal bases Q_u and Q_v of its factors: Q_u, K and Q_v."""
        q_u, r_u = torch.linalg.qr(self.factors.u)
        q_v, r_v = torch.linalg.qr(self.factors.v)
        return q_u, finite(r_u @ self.core @ r_v.T), q_v

    def _terms(self) -> Tensor:
        """The size of the products summed in U C Vᵀ; with stacked factors they can cancel."""
        return _size(self.core, self.factors)

    @cached
    def _triples(self) -> SVD:
        """The singular triples in the span of the factors, those of K."""
        q_u, k, q_v = self._orthonormal
        p, s, qh = torch.linalg.svd(k, full_matrices=False)
        return SVD(q_u @ p, s, q_v @ qh.T)

    def svd(self, k: int | None = None) -> SVD:
        k = self._count(k, min(self.shape))
        u, s, v = self._triples.u, self._triples.s, self._triples.v
        missing = k - len(s)
        if missing <= 0:
            return SVD(u[:, :k], s[:k], v[:, :k])
        zeros = s.new_zeros(missing)
        return SVD(
            torch.cat([u, complement_of(u, missing)], 1),
            torch.cat([s, zeros]),
            torch.cat([v, complement_of(v, missing)], 1),
        )

    def singular_values(self) -> Tensor:
        s = self._triples.s
        return torch.cat([s, s.new_zeros(min(self.shape) - len(s))])

    def eig(self, k: int | None = None) -> Eigen:
        self._square("decomposed into eigenvectors")
        return self.shift(0.0).eig(k)

    def pinv(self, rcond: float | None = None) -> LowRankOperator:
        q_u, k, q_v = self._orthonormal
        return LowRankOperator(pseudo_inverse(k, self._cutoff(rcond)), Factors(q_v, q_u))

    def row_projection(self, rcond: float | None = None) -> OrthogonalProjection:
        s, v = self._triples.s, self._triples.v
        return OrthogonalProjection.of(v[:, s > self._cutoff(rcond)])

    def null_projection(self, rcond: float | None = None) -> LinearOperator:
        return self.row_projection(rcond).complement()

    def trace(self) -> Tensor:
        self._square("traced")
        return (self.core @ self.factors.gram).trace()

    def logdet(self) -> Tensor:
        """log|det A|: -∞ unless the factors span the whole space."""
        self._square("given a determinant")
        if self._vanishes():
            return self.core.new_full((), -math.inf)
        return self.singular_values().log().sum()

    def to_dense(self) -> Tensor:
        return self.factors.u @ self.core @ self.factors.v.T


@dataclass(frozen=True, eq=False, repr=False)
class OrthogonalProjection(LowRankOperator):
    """P = Q Qᵀ with a frame Q ``(dim, r)`` of orthonormal columns: P = Pᵀ = P², its own adjoint and pseudo-inverse.

    >>> import torch, linearizer_core as lc
    >>> p = lc.operators.OrthogonalProjection.onto(torch.eye(4)[:, :2])
    >>> p.apply(torch.ones(1, 4)).abs(), p.complement()
    (tensor([[1., 1., 0., 0.]]), ScaledIdentityPlusLowRank(4 → 4, 1 I + rank 2))
    """

    @classmethod
    def of(cls, frame: Tensor) -> OrthogonalProjection:
        """The projection for an orthonormal ``frame`` ``(dim, r)``; orthonormality is not checked."""
        return cls(torch.eye(frame.shape[1], dtype=frame.dtype, device=frame.device), Factors(frame, frame))

    @classmethod
    def onto(cls, vectors: Tensor, rcond: float | None = None) -> OrthogonalProjection:
        """The projection onto the span of the columns of ``vectors`` ``(dim, count)``, which may be dependent."""
        _, s, vh = torch.linalg.svd(finite(vectors.detach()), full_matrices=False)
        keep = s > cutoff(s, max(vectors.shape), rcond)
        # Combine the vectors into as many independent ones as they have dimensions: unlike singular vectors, these
        # have gradients at repeated singular values.
        return cls.of(torch.linalg.qr(vectors @ (vh[keep].T / s[keep]))[0])

    def adjoint(self) -> OrthogonalProjection:
        return self

    def pinv(self, rcond: float | None = None) -> OrthogonalProjection:
        return self

    def row_projection(self, rcond: float | None = None) -> OrthogonalProjection:
        return self

    def power(self, n: int) -> LinearOperator:
        return self if n >= 1 else super().power(n)

    def exp(self, t: float = 1.0) -> ScaledIdentityPlusLowRank:
        """exp(tP) = I + (eᵗ - 1) P."""
        return ScaledIdentityPlusLowRank(1.0, math.expm1(t) * self.core, self.factors)

    def complement(self) -> ScaledIdentityPlusLowRank:
        """I - P, the projection onto the orthogonal complement."""
        return self.scale(-1.0).shift(1.0)


@dataclass(frozen=True, eq=False, repr=False)
class ScaledIdentityPlusLowRank(LinearOperator):
    """The square operator αI + U C Vᵀ with ``core`` C ``(r, s)``.

    No method except ``to_dense`` and a full ``svd`` or ``eig``, whose results are dim×dim, forms anything of that size.

    >>> import torch, linearizer_core as lc
    >>> factors = lc.operators.Factors(torch.eye(4)[:, :2], torch.eye(4)[:, :2])
    >>> a = lc.operators.ScaledIdentityPlusLowRank(0.5, torch.eye(2), factors)
    >>> a.apply(torch.ones(1, 4))
    tensor([[1.5000, 1.5000, 0.5000, 0.5000]])
    >>> a @ a
    ScaledIdentityPlusLowRank(4 → 4, 0.25 I + rank 2)
    """

    alpha: float
    core: Tensor
    factors: Factors

    @property
    def shape(self) -> tuple[int, int]:
        dim = len(self.factors.u)
        return dim, dim

    @property
    def like(self) -> Tensor:
        return self.core

    def _detail(self) -> str:
        return f"{self.alpha:.4g} I + rank {min(self.core.shape)}"

    def apply(self, z: Tensor) -> Tensor:
        return self.alpha * z + ((z @ self.factors.v) @ self.core.T) @ self.factors.u.T

    def adjoint(self) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(self.alpha, self.core.T, Factors(self.factors.v, self.factors.u))

    def scale(self, factor: float) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(factor * self.alpha, factor * self.core, self.factors)

    def shift(self, alpha: float) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(self.alpha + alpha, self.core, self.factors)

    def _after(self, first: LinearOperator) -> LinearOperator | None:
        """(αI + UCVᵀ)(βI + U'C'V'ᵀ): αβI + U[αC' + βC + C(VᵀU)C']Vᵀ on shared factors; others are stacked."""
        if isinstance(first, LowRankOperator) and self.factors.shared_with(first.factors):
            return LowRankOperator(
                self.alpha * first.core + self.core @ (self.factors.gram @ first.core), first.factors
            )
        if not isinstance(first, ScaledIdentityPlusLowRank):
            return None
        alpha = self.alpha * first.alpha
        if self.factors.shared_with(first.factors):
            core = self.alpha * first.core + first.alpha * self.core + self.core @ (self.factors.gram @ first.core)
            return ScaledIdentityPlusLowRank(alpha, core, self.factors)
        if self._stacked_width(first) >= self.shape[0]:
            return None
        across = self.core @ (self.factors.v.T @ first.factors.u) @ first.core
        core = torch.block_diag(first.alpha * self.core, self.alpha * first.core)
        core[: len(self.core), self.core.shape[1] :] = across
        return ScaledIdentityPlusLowRank(alpha, core, self.factors.beside(first.factors))

    def _plus(self, other: LinearOperator) -> LinearOperator | None:
        if not isinstance(other, LowRankOperator | ScaledIdentityPlusLowRank):
            return None
        alpha = self.alpha + (other.alpha if isinstance(other, ScaledIdentityPlusLowRank) else 0.0)
        if self.factors.shared_with(other.factors):
            return ScaledIdentityPlusLowRank(alpha, self.core + other.core, self.factors)
        if self._stacked_width(other) >= self.shape[0]:
            return None
        core = torch.block_diag(self.core, other.core)
        return ScaledIdentityPlusLowRank(alpha, core, self.factors.beside(other.factors))

    def _stacked_width(self, other: LowRankOperator | ScaledIdentityPlusLowRank) -> int:
        """The number of columns of stacked factors; from the dimension on, the matrix itself is smaller."""
        return max(a + b for a, b in zip(self.core.shape, other.core.shape, strict=True))

    def exp(self, t: float = 1.0) -> ScaledIdentityPlusLowRank:
        """exp(t(αI + UCVᵀ)) = e^{tα}(I + U φ(tCVᵀU) tC Vᵀ), φ(X) = Σ Xⁿ/(n+1)!, in r×r work on the same factors."""
        # The exponential of [[X, I], [0, 0]] has φ(X) as its upper right block (Al-Mohy & Higham, 2011, theorem 2.1).
        # Shifted by tα it has e^{tα} φ(X), which can be moderate even if neither factor is.
        r = len(self.core)
        grown = torch.linalg.matrix_exp(self._augmented(t))[:r, r:]
        return ScaledIdentityPlusLowRank(math.exp(t * self.alpha), t * (grown @ self.core), self.factors)

    def _phi(self, t: float, b: Tensor) -> Tensor:
        """φ₁(tα) b + U y, where y is the integral over s in [0, 1] of e^{stα} sφ(stCVᵀU) tCVᵀb.

        e^{stα} sφ(stCVᵀU) is a block of the exponential of s times a matrix of twice the rank, as in ``exp``.
        """
        x = torch.as_tensor(t * self.alpha, dtype=self.core.dtype, device=self.core.device)
        y = phi(self._augmented(t), pad(t * (self.core @ (self.factors.v.T @ b)), (len(self.core), 0)))
        return (x.expm1() / x if x else 1.0) * b + self.factors.u @ y[: len(self.core)]

    def _augmented(self, t: float) -> Tensor:
        """[[tαI + tCVᵀU, I], [0, tαI]], ``(2r, 2r)``."""
        inner = t * self.core @ self.factors.gram
        r = len(inner)
        shift = t * self.alpha * self._eye(r)
        augmented = inner.new_zeros(2 * r, 2 * r)
        augmented[:r, :r] = inner + shift
        augmented[:r, r:] = self._eye(r)
        augmented[r:, r:] = shift
        return augmented

    @cached
    def _span(self) -> tuple[Tensor, Tensor]:
        """An orthonormal W ``(dim, q)`` spanning U and V, and K ``(q, q)``: the operator is α(I - WWᵀ) + W K Wᵀ."""
        u, v = self.factors.u, self.factors.v
        w, _ = torch.linalg.qr(u if u is v else torch.cat([u, v], 1))
        left = w.T @ u
        k = finite(left @ self.core @ (left if u is v else w.T @ v).T)
        if u is v and is_symmetric(self.core):
            k = (k + k.T) / 2  # exactly symmetric, like the operator
        return w, k + self.alpha * self._eye(w.shape[1])

    def _outside(self) -> int:
        """The dimension of the complement of W, on which the operator is α."""
        w, _ = self._span
        return w.shape[0] - w.shape[1]

    def singular_values(self) -> Tensor:
        _, k = self._span
        outside = k.new_full((self._outside(),), abs(self.alpha))
        return torch.cat([torch.linalg.svdvals(k), outside]).sort(descending=True).values

    def svd(self, k: int | None = None) -> SVD:
        k = self._count(k, self.shape[0])
        w, inner = self._span
        p, s, qh = torch.linalg.svd(inner)
        s, order, outside = _merge(s, w, abs(self.alpha), k)
        sign = math.copysign(1.0, self.alpha)
        return SVD(torch.cat([w @ p, sign * outside], 1)[:, order], s, torch.cat([w @ qh.T, outside], 1)[:, order])

    def eig(self, k: int | None = None) -> Eigen:
        k = self._count(k, self.shape[0])
        u, v = self.factors.u, self.factors.v
        if u is v and is_symmetric(self.core):
            basis, inner = self._span
            found = eigenpairs(inner)
            inside, vectors = found.values, basis @ found.vectors
        else:
            # With UCVᵀ = P Qᵀ and Q orthonormal, P Qᵀ (P x) = P (QᵀP) x: its nonzero eigenvalues are those of QᵀP, and
            # everything else that it annihilates is orthogonal to Q.
            low_rank = LowRankOperator(self.core, self.factors)
            triples, threshold = low_rank._triples, low_rank._cutoff(None)
            held = triples.s > threshold
            p, basis = triples.u[:, held] * triples.s[held], triples.v[:, held]
            found = eigenpairs(basis.T @ p)
            kept = found.values.abs() > threshold
            inside = found.values[kept] + self.alpha
            vectors = p.to(inside.dtype) @ found.vectors[:, kept]
            vectors = vectors / vectors.norm(dim=0)
        values, order, outside = _merge(inside, basis, self.alpha, k)
        return leading(values, torch.cat([vectors, outside.to(vectors.dtype)], 1)[:, order], k)

    def pinv(self, rcond: float | None = None) -> ScaledIdentityPlusLowRank:
        """α⁺(I - WWᵀ) + W K⁺ Wᵀ: the two parts act on orthogonal spaces, so each is inverted separately."""
        w, k = self._span
        threshold = self._cutoff(rcond)
        # If U and V span the whole space there is no outside: adding and subtracting 1/α would only cost precision.
        outside = 1 / self.alpha if self._outside() and self._alpha_counts(rcond) else 0.0
        core = pseudo_inverse(k, threshold) - outside * self._eye(len(k))
        return ScaledIdentityPlusLowRank(outside, core, Factors(w, w))

    def row_projection(self, rcond: float | None = None) -> LinearOperator:
        w, k = self._span
        threshold = self._cutoff(rcond)
        _, s, qh = torch.linalg.svd(k)
        if not self._outside() or not self._alpha_counts(rcond):
            return OrthogonalProjection.of(w @ qh[s > threshold].T)
        return OrthogonalProjection.of(w @ qh[s <= threshold].T).complement()

    def rank(self, rcond: float | None = None) -> int:
        _, k = self._span
        inside = int((torch.linalg.svdvals(k) > self._cutoff(rcond)).sum())
        return inside + self._outside() * self._alpha_counts(rcond)

    def null_projection(self, rcond: float | None = None) -> LinearOperator:
        w, k = self._span
        _, s, qh = torch.linalg.svd(k)
        null = OrthogonalProjection.of(w @ qh[s <= self._cutoff(rcond)].T)
        if self._alpha_counts(rcond) or not self._outside():
            return null
        return OrthogonalProjection.of(w @ qh[s > self._cutoff(rcond)].T).complement()

    def _terms(self) -> Tensor:
        """|α| plus the size of U C Vᵀ, since the two can cancel."""
        return abs(self.alpha) + _size(self.core, self.factors)

    def _alpha_counts(self, rcond: float | None) -> bool:
        """Whether α exceeds rounding error. It is a single number, not a sum over the dimension."""
        threshold = cutoff(self.singular_values().detach(), 1, rcond)
        if rcond is None:
            threshold = torch.maximum(threshold, torch.finfo(threshold.dtype).eps * self._terms())
        return abs(self.alpha) > float(threshold)

    def _vanishes(self) -> bool:
        _, k = self._span
        values = torch.linalg.svdvals(k.detach())
        inside = bool((values <= rounding(self._terms())).any())
        return inside or (self._outside() > 0 and not self._alpha_counts(None))

    def _solve(self, y: Tensor) -> Tensor:
        w, k = self._span
        inside = y @ w
        solved = torch.linalg.solve(k, inside.T).T @ w.T
        return solved + (y - inside @ w.T) / self.alpha if self._outside() else solved

    def trace(self) -> Tensor:
        return self.alpha * self.shape[0] + (self.core @ self.factors.gram).trace()

    def logdet(self) -> Tensor:
        """log|det(αI + UCVᵀ)| = (dim - r) log|α| + log|det(αI + CVᵀU)| (Sylvester's determinant theorem)."""
        if self._vanishes():
            return self.core.new_full((), -math.inf)
        outside = self.shape[0] - len(self.core)
        if outside < 0:
            return torch.linalg.slogdet(self.to_dense()).logabsdet
        inside = torch.linalg.slogdet(self.alpha * self._eye(len(self.core)) + self.core @ self.factors.gram).logabsdet
        if not outside:
            return inside
        return inside + outside * (math.log(abs(self.alpha)) if self.alpha else -math.inf)

    def to_dense(self) -> Tensor:
        return self.alpha * self._eye(self.shape[0]) + self.factors.u @ self.core @ self.factors.v.T


def _size(core: Tensor, factors: Factors) -> Tensor:
    """The size of the terms C_ij u_i v_jᵀ of U C Vᵀ: the root of the sum of their squared norms.

    Their rounding errors are independent, so they add up in the same way; the sum of the norms would be far too large.
    """
    u, v = (factor.detach().double().norm(dim=0) for factor in (factors.u, factors.v))
    return (u[:, None] * core.detach().double() * v).norm().to(core)  # the squares could overflow in single precision


def _merge(inside: Tensor, basis: Tensor, alpha: float, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest among ``inside`` and α, their order, and the vectors of α among them, orthogonal to ``basis``."""
    outside = min(k, basis.shape[0] - basis.shape[1])
    values = torch.cat([inside, inside.new_full((outside,), alpha)])
    order = values.abs().argsort(descending=True, stable=True)[:k]
    return values[order], order, complement_of(basis, int((order >= len(inside)).sum()))


def complement_of(basis: Tensor, count: int) -> Tensor:
    """``count`` orthonormal columns orthogonal to those of the orthonormal ``basis`` ``(dim, q)``."""
    # Fixed Gaussian directions are in general position to any basis; the second pass removes rounding errors.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(basis), count, generator=generator, device="cpu", dtype=torch.float64).to(basis)
    for _ in range(2):
        drawn, _ = torch.linalg.qr(drawn - basis @ (basis.T @ drawn))
    return drawn
