"""Scaled identity plus low rank, αI + U C Vᵀ: the structure that diffusion's operators keep under algebra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from linearizer_core.operators.base import (
    DenseOperator,
    LinearOperator,
    check_chain,
    check_same_shape,
    cutoff,
)


@dataclass(frozen=True, eq=False)
class Factors:
    """The outer factors U ``(dim, r)`` and V ``(dim, s)``; operators on the same tensors combine in r×s work."""

    u: Tensor
    v: Tensor

    @cached_property
    def gram(self) -> Tensor:
        """VᵀU, ``(s, r)``: all that a product of two operators on these factors needs of them."""
        return self.v.T @ self.u

    def shared_with(self, other: Factors) -> bool:
        """Whether both hold the very same tensors."""
        return self.u is other.u and self.v is other.v


@dataclass(frozen=True, eq=False)
class ScaledIdentityPlusLowRank(LinearOperator):
    """The square operator αI + U C Vᵀ with ``core`` C ``(r, s)``; no method but ``to_dense`` forms dim×dim."""

    alpha: float
    core: Tensor
    factors: Factors

    @property
    def shape(self) -> tuple[int, int]:
        dim = self.factors.u.shape[0]
        return dim, dim

    def apply(self, z: Tensor) -> Tensor:
        return self.alpha * z + ((z @ self.factors.v) @ self.core.T) @ self.factors.u.T

    def adjoint(self) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(self.alpha, self.core.T, Factors(self.factors.v, self.factors.u))

    def compose(self, other: LinearOperator) -> LinearOperator:
        """(αI + UCVᵀ)(βI + U'C'V'ᵀ); on shared factors αβI + U[αC' + βC + C(VᵀU)C']Vᵀ, else they are stacked."""
        check_chain(other, self)
        if not isinstance(other, ScaledIdentityPlusLowRank):
            return DenseOperator(self.apply(other.to_dense().T).T)
        alpha = self.alpha * other.alpha
        if self.factors.shared_with(other.factors):
            core = self.alpha * other.core + other.alpha * self.core + self.core @ (self.factors.gram @ other.core)
            return ScaledIdentityPlusLowRank(alpha, core, self.factors)
        across = self.core @ (self.factors.v.T @ other.factors.u) @ other.core
        return self._stacked(alpha, other, other.alpha * self.core, across, self.alpha * other.core)

    def add(self, other: LinearOperator) -> LinearOperator:
        check_same_shape(self, other)
        if not isinstance(other, ScaledIdentityPlusLowRank):
            return DenseOperator(self.to_dense() + other.to_dense())
        alpha = self.alpha + other.alpha
        if self.factors.shared_with(other.factors):
            return ScaledIdentityPlusLowRank(alpha, self.core + other.core, self.factors)
        across = self.core.new_zeros(self.core.shape[0], other.core.shape[1])
        return self._stacked(alpha, other, self.core, across, other.core)

    def _stacked(
        self, alpha: float, other: ScaledIdentityPlusLowRank, upper: Tensor, across: Tensor, lower: Tensor
    ) -> ScaledIdentityPlusLowRank:
        """αI + [U U'] [[upper, across], [0, lower]] [V V']ᵀ."""
        zero = upper.new_zeros(lower.shape[0], upper.shape[1])
        core = torch.cat([torch.cat([upper, across], 1), torch.cat([zero, lower], 1)], 0)
        factors = Factors(
            torch.cat([self.factors.u, other.factors.u], 1), torch.cat([self.factors.v, other.factors.v], 1)
        )
        return ScaledIdentityPlusLowRank(alpha, core, factors)

    def scale(self, factor: float) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(factor * self.alpha, factor * self.core, self.factors)

    def shift(self, alpha: float) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(self.alpha + alpha, self.core, self.factors)

    @cached_property
    def _span(self) -> tuple[Tensor, Tensor]:
        """An orthonormal W ``(dim, q)`` spanning U and V, and K ``(q, q)``: the operator is α(I - WWᵀ) + W K Wᵀ."""
        w, _ = torch.linalg.qr(torch.cat([self.factors.u, self.factors.v], 1))
        k = (w.T @ self.factors.u) @ self.core @ (self.factors.v.T @ w)
        return w, k + self.alpha * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)

    def singular_values(self) -> Tensor:
        w, k = self._span
        outside = torch.full((w.shape[0] - w.shape[1],), abs(self.alpha), dtype=w.dtype, device=w.device)
        return torch.cat([torch.linalg.svdvals(k), outside]).sort(descending=True).values

    def pinv(self, rcond: float | None = None) -> ScaledIdentityPlusLowRank:
        """α⁺(I - WWᵀ) + W K⁺ Wᵀ: the two parts act on orthogonal spaces, so each is inverted by itself."""
        w, k = self._span
        threshold = float(cutoff(self.singular_values(), self.shape[0], rcond))
        p, s, qh = torch.linalg.svd(k)
        keep = s > threshold
        inverse = torch.where(keep, 1 / torch.where(keep, s, 1), 0)
        # Where U and V span everything there is no outside: adding 1/α and taking it away again would cost digits.
        has_outside = w.shape[1] < w.shape[0] and abs(self.alpha) > threshold
        outside = 1 / self.alpha if has_outside else 0.0
        core = (qh.T * inverse) @ p.T - outside * torch.eye(k.shape[0], dtype=k.dtype, device=k.device)
        return ScaledIdentityPlusLowRank(outside, core, Factors(w, w))

    def to_dense(self) -> Tensor:
        u = self.factors.u
        identity = torch.eye(u.shape[0], dtype=u.dtype, device=u.device)
        return self.alpha * identity + u @ self.core @ self.factors.v.T
