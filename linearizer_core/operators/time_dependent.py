"""Operators that depend on diffusion time: endpoint predictors ẑ1 = A(t) z_t."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.factored import Factors, LowRankOperator, complement_of
from linearizer_core.short import Short


class TimeOperator(Short, ABC):
    """A linear operator A(t) for each t in [0, 1], with learned parameters.

    >>> import linearizer_core as lc
    >>> a = lc.operators.TimeLowRank(8, 3)
    >>> isinstance(a, lc.operators.TimeOperator), a
    (True, TimeLowRank(8 → 8, rank 3))
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        rank = getattr(self, "rank", None)
        return f"{self.dim} → {self.dim}" + (f", rank {rank}" if rank is not None else "")

    @abstractmethod
    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """A(t_b) z_b for each row: ``(batch,)`` times in [0, 1] and ``(batch, dim)`` to ``(batch, dim)``."""

    @abstractmethod
    def at(self, times: Tensor) -> list[list[LinearOperator]]:
        """The current operators at ``(steps, stages)`` times, without gradients and unaffected by later training.

        Operators of one step share their factors, if they have any, so that a solver's step stays narrow.
        """

    @abstractmethod
    def initialise(self, z1: Tensor) -> None:
        """Start from the best linear endpoint predictor for latents ``(count, dim)`` that are independent of the noise.

        With z0 of unit covariance and z1 of covariance Λ, the least-squares endpoint predictor is
        A(t) = tΛ ((1-t)²I + t²Λ)⁻¹.
        """


def wiener(t: Tensor, variance: Tensor) -> Tensor:
    """The gain tλ / ((1-t)² + t²λ) that best predicts z1 from z_t: ``(batch,)``, ``(r,)`` to ``(batch, r)``."""
    t = t[:, None]
    return t * variance / ((1 - t) ** 2 + t**2 * variance)


def sinusoidal(t: Tensor, size: int) -> Tensor:
    """Sine and cosine of t at ``size // 2`` frequencies over six octaves: ``(batch,)`` to ``(batch, size)``."""
    frequencies = math.pi * torch.logspace(-1, 5, size // 2, base=2, dtype=t.dtype, device=t.device)
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def principal(z: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The ``rank`` leading principal directions of latents ``(count, dim)`` about 0, and the variances along them."""
    if len(z) >= z.shape[1]:
        values, vectors = torch.linalg.eigh((z.T @ z) / len(z))
        frame, variances = vectors[:, -rank:].flip(1), values[-rank:].flip(0)
    else:  # directions outside the span of the few latents have no variance, and nothing of size dim×dim is formed
        _, s, vh = torch.linalg.svd(z, full_matrices=False)
        missing = max(0, rank - len(s))
        frame = torch.cat([vh[:rank].T, complement_of(vh.T, missing)], 1)
        variances = torch.cat([s[:rank].square() / len(z), s.new_zeros(missing)])
    return frame, variances.clamp_min(1e-4)


def _check_rank(dim: int, rank: int) -> None:
    if not 1 <= rank <= dim:
        raise InputValueError(f"rank must be between 1 and the dimension {dim}, got {rank}")


class TimeLowRank(TimeOperator):
    """A(t) = U S(t) Vᵀ of rank r with U and V ``(dim, r)`` shared over time and S(t) ``(r, r)`` a small network.

    S(t) is the diagonal of Wiener gains for learned variances plus a learned correction, so that even an untrained
    operator is a sensible predictor.

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.TimeLowRank(8, 3)
    >>> a(torch.full((5,), 0.5), torch.ones(5, 8)).shape, a.at(torch.tensor([[0.5]]))[0][0]
    (torch.Size([5, 8]), LowRankOperator(8 → 8, rank 3))
    """

    def __init__(self, dim: int, rank: int, hidden: int = 64, embedding: int = 16) -> None:
        super().__init__(dim)
        _check_rank(dim, rank)
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
    def at(self, times: Tensor) -> list[list[LinearOperator]]:
        factors = Factors(self.u.clone(), self.v.clone())  # the same pair for all steps: the whole product stays r×r
        cores = self.core(times.flatten()).unflatten(0, times.shape)
        return [[LowRankOperator(core, factors) for core in step] for step in cores]

    @torch.no_grad()
    def initialise(self, z1: Tensor) -> None:
        frame, variances = principal(z1, self.rank)
        self.u.copy_(frame)
        self.v.copy_(frame)
        self.log_variance.copy_(variances.log())


class TimeDiagonal(TimeOperator):
    """A(t) = diag(s_1(t), …, s_r(t), 0, …): rank r on the leading coordinates; g learns the frame.

    The gains are the Wiener gains of learned variances plus a small network's correction. Any number of steps collapses
    to a diagonal, and full rank costs O(dim) where the other kinds take O(dim²).

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.TimeDiagonal(8, 3)
    >>> a(torch.full((5,), 0.5), torch.ones(5, 8)).shape, a.at(torch.tensor([[0.5]]))[0][0]
    (torch.Size([5, 8]), DiagonalOperator(8 → 8))
    """

    def __init__(self, dim: int, rank: int, hidden: int = 64, embedding: int = 16) -> None:
        super().__init__(dim)
        _check_rank(dim, rank)
        self.rank = rank
        self.embedding = embedding
        self.log_variance = nn.Parameter(torch.zeros(rank))
        last = nn.Linear(hidden, rank)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(embedding, hidden), nn.SiLU(), last)

    def gains(self, t: Tensor) -> Tensor:
        """The diagonal of A(t): ``(count,)`` to ``(count, dim)``."""
        leading = wiener(t, self.log_variance.exp()) + self.correction(sinusoidal(t, self.embedding))
        return pad(leading, (0, self.dim - self.rank))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.gains(t) * z

    @torch.no_grad()
    def at(self, times: Tensor) -> list[list[LinearOperator]]:
        return [[DiagonalOperator(gains) for gains in self.gains(step)] for step in times]

    @torch.no_grad()
    def initialise(self, z1: Tensor) -> None:
        self.log_variance.copy_(z1[:, : self.rank].square().mean(0).clamp_min(1e-4).log())


class TimeFactors(TimeOperator):
    """A(t) = L(t) R(t)ᵀ of rank r, with both factors ``(dim, r)`` changing with time as in the paper's own models.

    L(t) is a learned frame scaled by Wiener gains and R(t) a learned frame, each plus a learned correction. Operators
    at different times share no factors, so a product of T of them has up to r T columns, and the collapse of T steps of
    s stages up to r s T; where that reaches the dimension, it becomes a matrix.

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.TimeFactors(8, 3)
    >>> a(torch.full((5,), 0.5), torch.ones(5, 8)).shape, a.at(torch.tensor([[0.5]]))[0][0]
    (torch.Size([5, 8]), LowRankOperator(8 → 8, rank 3))
    """

    def __init__(self, dim: int, rank: int, hidden: int = 32, embedding: int = 16) -> None:
        super().__init__(dim)
        _check_rank(dim, rank)
        self.rank = rank
        self.embedding = embedding
        frame, _ = torch.linalg.qr(torch.randn(dim, rank))
        self.left = nn.Parameter(frame.clone())
        self.right = nn.Parameter(frame.clone())
        self.log_variance = nn.Parameter(torch.zeros(rank))
        self.features = nn.Sequential(nn.Linear(embedding, hidden), nn.SiLU())
        self.correction = nn.Linear(hidden, 2 * dim * rank)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def factors(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """L(t) and R(t): ``(count,)`` to twice ``(count, dim, r)``."""
        features = self.features(sinusoidal(t, self.embedding))
        change = self.correction(features).view(len(t), 2, self.dim, self.rank)
        gains = wiener(t, self.log_variance.exp())[:, None, :]
        return self.left * gains + change[:, 0], self.right + change[:, 1]

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        # Multiply the correction's weights by z before the features: no (batch, dim, r) tensor is formed.
        features = self.features(sinusoidal(t, self.embedding))
        left, right = self.correction.weight.view(2, self.dim, -1)
        left_bias, right_bias = self.correction.bias.view(2, self.dim, self.rank)
        products = (z @ right).view(len(z), self.rank, -1)
        inner = z @ (self.right + right_bias) + torch.einsum("brk,bk->br", products, features)
        outer = torch.einsum("br,bk->brk", inner, features).flatten(1)
        return (inner * wiener(t, self.log_variance.exp())) @ self.left.T + inner @ left_bias.T + outer @ left.T

    @torch.no_grad()
    def at(self, times: Tensor) -> list[list[LinearOperator]]:
        operators: list[list[LinearOperator]] = []
        for step in times:
            left, right = self.factors(step)
            stages = len(step)
            beside = Factors(torch.cat(list(left), 1), torch.cat(list(right), 1))
            # Stage i is block i of the factors of all stages of the step.
            cores = torch.eye(stages, dtype=left.dtype, device=left.device).repeat_interleave(self.rank, 1)
            operators.append([LowRankOperator(torch.diag(core), beside) for core in cores])
        return operators

    @torch.no_grad()
    def initialise(self, z1: Tensor) -> None:
        frame, variances = principal(z1, self.rank)
        self.left.copy_(frame)
        self.right.copy_(frame)
        self.log_variance.copy_(variances.log())


class TimeDense(TimeOperator):
    """A(t) = Q diag(wiener(t)) Qᵀ + Σ_j φ_j(t) W_j, unrestricted rank, with φ a sinusoidal basis of time.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.TimeDense(8)
    >>> a(torch.full((5,), 0.5), torch.ones(5, 8)).shape, a.at(torch.tensor([[0.5]]))[0][0]
    (torch.Size([5, 8]), DenseOperator(8 → 8))
    """

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
        # Each basis matrix multiplies the whole batch once: no (batch, dim, dim) tensor is formed.
        terms = torch.einsum("jde,be->bjd", self.weights, z)
        return base + torch.einsum("bj,bjd->bd", sinusoidal(t, self.basis), terms)

    @torch.no_grad()
    def at(self, times: Tensor) -> list[list[LinearOperator]]:
        return [[DenseOperator(matrix) for matrix in self.matrix(step)] for step in times]

    @torch.no_grad()
    def initialise(self, z1: Tensor) -> None:
        frame, variances = principal(z1, self.dim)
        self.frame.copy_(frame)
        self.log_variance.copy_(variances.log())
