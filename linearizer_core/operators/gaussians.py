"""Gaussians of low rank plus diagonal, the distributions that affine operators map standard normal noise to."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from linearizer_core.errors import InputValueError
from linearizer_core.short import Short

Spread = Literal["scale", "diagonal"]
Shared = Literal["none", "spread", "all"]

START = 0.3
"""Initial standard deviation of the factors' contribution to a latent, for latents of unit variance."""


class AffineGaussians(Short):
    """K learned Gaussians N(b_k, L_k L_kᵀ + D_k) of latents ``(batch, dim)``, the images of noise under z0 ↦ b_k + A_k
    z0.

    b_k are the ``offsets`` ``(K, dim)`` and L_k the ``factors`` ``(dim, rank)``; D_k is a multiple of the identity with
    spread ``scale``, and a diagonal with ``diagonal``. ``shared`` says what all K share: nothing, their ``spread`` D,
    or ``all`` but the offsets. The buffer ``proportions`` ``(K,)`` holds the weights of the mixture. Each group has its
    own factor analyser (Ghahramani & Hinton, The EM algorithm for mixtures of factor analyzers, 1996).

    Raises ``InputValueError`` for a count below 1 and a rank outside 0 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> gaussians = lc.operators.AffineGaussians(16, 10, 4)
    >>> gaussians
    AffineGaussians(10 of dimension 16, rank 4 + scale)
    >>> z = torch.randn(5, 16)
    >>> gaussians.log_prob(z, torch.tensor([0, 1, 2, 3, 9])).shape, gaussians.log_probs(z).shape
    (torch.Size([5]), torch.Size([5, 10]))
    """

    proportions: Tensor

    def __init__(self, dim: int, count: int, rank: int, *, spread: Spread = "scale", shared: Shared = "none") -> None:
        super().__init__()
        if count < 1:
            raise InputValueError(f"count must be at least 1, got {count}")
        if spread not in get_args(Spread) or shared not in get_args(Shared):
            known = f"{', '.join(get_args(Spread))} and {', '.join(get_args(Shared))}"
            raise InputValueError(f"spread and shared must be among {known}, got {spread!r} and {shared!r}")
        if not 0 <= rank <= dim:
            raise InputValueError(f"rank must be between 0 and the dimension {dim}, got {rank}")
        self.dim, self.count, self.rank = dim, count, rank
        self.spread, self.shared = spread, shared
        own_factors = 1 if shared == "all" else count
        own_spread = count if shared == "none" else 1
        self.offsets = nn.Parameter(torch.zeros(count, dim))
        self.log_spread = nn.Parameter(torch.zeros(own_spread, dim if spread == "diagonal" else 1))
        self.factors = nn.Parameter(START * torch.randn(own_factors, dim, rank) / math.sqrt(max(dim, 1)))
        self.register_buffer("proportions", torch.full((count,), 1 / count))

    def extra_repr(self) -> str:
        shared = "" if self.shared == "none" else f", shared {self.shared}"
        return f"{self.count} of dimension {self.dim}, rank {self.rank} + {self.spread}{shared}"

    @torch.no_grad()
    def initialise(self, z: Tensor, which: Tensor) -> None:
        """Set the offsets to each group's mean of latents ``(count, dim)``; an empty group gets the mean of all."""
        self._check(z, which)
        if not len(z):
            raise InputValueError("initialisation needs at least one latent, got none")
        for k in range(self.count):
            mine = z[which == k]
            self.offsets[k].copy_(mine.mean(0) if len(mine) else z.mean(0))

    def log_prob(self, z: Tensor, which: Tensor) -> Tensor:
        """log N(z; b_k, Σ_k) in nats for each row of ``(batch, dim)``, with its own k from ``which`` ``(batch,)``."""
        self._check(z, which)
        chosen = one_hot(which, self.count).to(z.dtype)
        # Quantities shared by all rows are multiplied once and then selected: a copy of L_k per row would be far
        # larger, and on a GPU sums over rows of the same k would be in a different order each time.
        spread = chosen if self.shared == "none" else chosen.new_ones(len(z), 1)
        own = chosen if self.shared != "all" else chosen.new_ones(len(z), 1)
        inverse = (-2 * self.log_spread).exp().expand(-1, self.dim)
        away = z - chosen @ self.offsets
        squares = (away * away * (spread @ inverse)).sum(1)
        determinant = spread @ self._spread_logdet()
        if self.rank:
            whitening, logdet = self._whitening(inverse)
            white = (away @ whitening.flatten(0, 1).T).view(len(z), -1, self.rank)
            white = (own[:, :, None] * white).sum(1) if len(whitening) > 1 else white[:, 0]
            squares = squares - (white * white).sum(1)
            determinant = determinant + (own @ logdet if len(logdet) > 1 else logdet)
        return -0.5 * (squares + determinant + self.dim * math.log(2 * math.pi))

    def log_probs(self, z: Tensor) -> Tensor:
        """log N(z; b_k, Σ_k) in nats for each row of ``(batch, dim)`` and every k, ``(batch, K)``."""
        self._check(z)
        inverse = (-2 * self.log_spread).exp().expand(-1, self.dim)
        determinants = self._spread_logdet()
        if self.rank:
            whitening, logdet = self._whitening(inverse)
        found = []
        for k in range(self.count):
            away = z - self.offsets[k]
            mine = k if len(inverse) > 1 else 0
            squares = (away.square() * inverse[mine]).sum(1)
            determinant = determinants[mine]
            if self.rank:
                white = away @ whitening[k if len(whitening) > 1 else 0].T
                squares = squares - white.square().sum(1)
                determinant = determinant + logdet[k if len(logdet) > 1 else 0]
            found.append(-0.5 * (squares + determinant + self.dim * math.log(2 * math.pi)))
        return torch.stack(found, 1)

    def _check(self, z: Tensor, which: Tensor | None = None) -> None:
        """Raise ``InputValueError`` for latents of another dimension, or if groups and latents differ in number."""
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise InputValueError(f"latents must be (batch, {self.dim}), got {tuple(z.shape)}")
        if which is not None and which.shape != z.shape[:1]:
            raise InputValueError(f"each of {len(z)} latents needs a group, got {tuple(which.shape)}")

    def mixture(self, z: Tensor) -> Tensor:
        """log Σ_k π_k N(z; b_k, Σ_k) in nats, ``(batch,)``."""
        return torch.logsumexp(self.log_probs(z) + self.proportions.log(), 1)

    def posterior(self, z: Tensor) -> Tensor:
        """p(k | z) by Bayes' rule, ``(batch, K)``; rows sum to 1."""
        return torch.softmax(self.log_probs(z) + self.proportions.log(), 1)

    @torch.no_grad()
    def covariance(self, k: int) -> Tensor:
        """Σ_k, ``(dim, dim)``, in float64."""
        spread = (2 * self.log_spread[k if len(self.log_spread) > 1 else 0].double()).exp()
        factors = self.factors[k if len(self.factors) > 1 else 0].double()
        return torch.diag(spread.expand(self.dim)) + factors @ factors.T

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture's mean ``(dim,)``, its total covariance and the mean of the Σ_k, ``(dim, dim)``, in float64."""
        weights, offsets = self.proportions.double(), self.offsets.double()
        within = sum(
            (weight * self.covariance(k) for k, weight in enumerate(weights)),
            start=offsets.new_zeros(self.dim, self.dim),
        )
        mean = weights @ offsets
        away = offsets - mean
        return mean, within + (away.T * weights) @ away, within

    def _spread_logdet(self) -> Tensor:
        """log det D_k, ``(K or 1,)``."""
        return 2 * self.log_spread.expand(-1, self.dim).sum(1)

    def _whitening(self, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """C⁻¹LᵀD⁻¹ with C the Cholesky factor of I + LᵀD⁻¹L, and the log-determinant of that matrix.

        Their shapes are ``(K or 1, rank, dim)`` and ``(K or 1,)``; ``inverse`` holds the diagonals of D⁻¹ ``(K or 1,
        dim)``. By Woodbury's identity nothing more is needed, and nothing of size dim×dim is formed.
        """
        weighted = self.factors.mT * inverse[:, None]
        eye = torch.eye(self.rank, dtype=weighted.dtype, device=weighted.device)
        # Do not check whether the factor exists: in training that would wait for the device. Where it does not, use
        # NaN.
        lower, failed = torch.linalg.cholesky_ex(eye + weighted @ self.factors)
        lower = torch.where(failed[:, None, None] == 0, lower, math.nan)
        whitening = torch.linalg.solve_triangular(lower, weighted, upper=False)
        return whitening, 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
