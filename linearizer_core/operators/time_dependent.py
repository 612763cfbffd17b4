"""Operators that depend on diffusion time: endpoint predictors ẑ1 = A(t) z_t."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.low_rank import Factors, ScaledIdentityPlusLowRank


class TimeOperator(nn.Module, ABC):
    """A linear operator A(t) for each t in [0, 1], with learned parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """A(t_b) z_b for each row: ``(batch,)`` times in [0, 1] and ``(batch, dim)`` to ``(batch, dim)``."""

    @abstractmethod
    def at(self, times: Tensor) -> list[LinearOperator]:
        """The operators at ``(count,)`` times, as they are now: without gradients, untouched by further training.

        Those of one call share their factors, where there are any, so that their products stay narrow.
        """

    @abstractmethod
    def initialise(self, z1: Tensor) -> None:
        """Start from the best linear endpoint predictor for latents ``(count, dim)``, taken as independent of noise.

        With z0 of unit covariance and z1 of covariance Λ, the least-squares endpoint predictor is
        A(t) = tΛ ((1-t)²I + t²Λ)⁻¹.
        """


def wiener(t: Tensor, variance: Tensor) -> Tensor:
    """The gain tλ / ((1-t)² + t²λ) that predicts z1 from z_t best: ``(batch,)``, ``(r,)`` to ``(batch, r)``."""
    t = t[:, None]
    return t * variance / ((1 - t) ** 2 + t**2 * variance)


def sinusoidal(t: Tensor, size: int) -> Tensor:
    """Sine and cosine of t at ``size // 2`` frequencies over six octaves: ``(batch,)`` to ``(batch, size)``."""
    frequencies = math.pi * torch.logspace(-1, 5, size // 2, base=2, dtype=t.dtype, device=t.device)
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class TimeLowRank(TimeOperator):
    """A(t) = U S(t) Vᵀ of rank r with U and V ``(dim, r)`` shared over time and S(t) ``(r, r)`` a small network.

    S(t) is the diagonal of Wiener gains for learned variances plus a learned correction, so an untrained
    operator already is a sensible predictor.

    Raises ``ValueError`` when ``rank`` is not in 1 … ``dim``.
    """

    def __init__(self, dim: int, rank: int, hidden: int = 64, embedding: int = 16) -> None:
        super().__init__(dim)
        if not 1 <= rank <= dim:
            raise ValueError(f"rank must be between 1 and the dimension {dim}, got {rank}")
        self.rank = rank
        self.embedding = embedding
        frame, _ = torch.linalg.qr(torch.randn(dim, rank))
        self.u = nn.Parameter(frame.clone())
        self.v = nn.Parameter(frame.clone())
        self.log_variance = nn.Parameter(torch.zeros(rank))
        last = nn.Linear(hidden, rank * rank)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(embedding, hidden), nn.SiLU(), last)

    def core(self, t: Tensor) -> Tensor:
        """S(t): ``(batch,)`` to ``(batch, r, r)``."""
        diagonal = torch.diag_embed(wiener(t, self.log_variance.exp()))
        return diagonal + self.correction(sinusoidal(t, self.embedding)).view(-1, self.rank, self.rank)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        inner = torch.einsum("brs,bs->br", self.core(t), z @ self.v)
        return inner @ self.u.T

    @torch.no_grad()
    def at(self, times: Tensor) -> list[LinearOperator]:
        factors = Factors(self.u.clone(), self.v.clone())
        return [ScaledIdentityPlusLowRank(0.0, core, factors) for core in self.core(times)]

    @torch.no_grad()
    def initialise(self, z1: Tensor) -> None:
        values, vectors = torch.linalg.eigh((z1.T @ z1) / len(z1))
        frame = vectors[:, -self.rank :].flip(1)
        self.u.copy_(frame)
        self.v.copy_(frame)
        self.log_variance.copy_(values[-self.rank :].flip(0).clamp_min(1e-4).log())


class TimeDense(TimeOperator):
    """A(t) = Q diag(wiener(t)) Qᵀ + Σ_j φ_j(t) W_j, unrestricted rank, with φ a sinusoidal basis of time."""

    def __init__(self, dim: int, basis: int = 8) -> None:
        super().__init__(dim)
        self.basis = basis
        frame, _ = torch.linalg.qr(torch.randn(dim, dim))
        self.frame = nn.Parameter(frame)
        self.log_variance = nn.Parameter(torch.zeros(dim))
        self.weights = nn.Parameter(torch.zeros(basis, dim, dim))

    def matrix(self, t: Tensor) -> Tensor:
        """A(t): ``(count,)`` to ``(count, dim, dim)``."""
        base = (self.frame * wiener(t, self.log_variance.exp())[:, None, :]) @ self.frame.T
        return base + torch.einsum("bj,jde->bde", sinusoidal(t, self.basis), self.weights)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        base = ((z @ self.frame) * wiener(t, self.log_variance.exp())) @ self.frame.T
        # Each basis matrix meets the whole batch once: no (batch, dim, dim) tensor is formed.
        terms = torch.einsum("jde,be->bjd", self.weights, z)
        return base + torch.einsum("bj,bjd->bd", sinusoidal(t, self.basis), terms)

    @torch.no_grad()
    def at(self, times: Tensor) -> list[LinearOperator]:
        return [DenseOperator(matrix) for matrix in self.matrix(times)]

    @torch.no_grad()
    def initialise(self, z1: Tensor) -> None:
        values, vectors = torch.linalg.eigh((z1.T @ z1) / len(z1))
        self.frame.copy_(vectors)
        self.log_variance.copy_(values.clamp_min(1e-4).log())
