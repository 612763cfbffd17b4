"""A diffusion model of affine operators over one g: z | k ~ N(b_k, Σ_k), x = g⁻¹(b_k + A_k z0)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible
from linearizer_core.flows.build import identity
from linearizer_core.grids import Grid, uniform
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.pullback import pullback_metric
from linearizer_core.models.base import Event, Model, draw_labels
from linearizer_core.operators.affine import AffineOperator
from linearizer_core.operators.base import LinearOperator, cutoff
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.factored import Factors, LowRankOperator
from linearizer_core.operators.gaussians import AffineGaussians
from linearizer_core.solvers import Solver

Order = Literal["pullback", "covariance"]


@dataclass(frozen=True)
class AffineOperators:
    """K affine operators z0 ↦ b_k + U_k diag(s_k) U_kᵀ z0 of common rank r, with symmetric linear parts.

    ``offsets`` ``(K, dim)``, ``frames`` ``(K, dim, r)`` with orthonormal columns, ``scales`` ``(K, r)``.

    >>> import torch, linearizer_core as lc
    >>> frames = torch.eye(4)[None, :, :2]
    >>> operators = lc.models.AffineOperators(torch.ones(1, 4), frames, torch.tensor([[3.0, 2.0]]))
    >>> operators.apply(torch.ones(1, 4), torch.tensor([0]))
    tensor([[4., 3., 1., 1.]])
    """

    offsets: Tensor
    frames: Tensor
    scales: Tensor

    @property
    def rank(self) -> int:
        """The common rank r."""
        return self.scales.shape[1]

    def one(self, k: int) -> AffineOperator:
        """The k-th operator as an ``AffineOperator``; raises ``InputValueError`` if there is no such operator."""
        if not 0 <= k < len(self.scales):
            raise InputValueError(f"operator must be one of 0 … {len(self.scales) - 1}, got {k}")
        factors = Factors(self.frames[k], self.frames[k])
        return AffineOperator(LowRankOperator(torch.diag(self.scales[k]), factors), self.offsets[k])

    def coordinates(self, z: Tensor, which: Tensor) -> Tensor:
        """U_kᵀ z for each row, ``(batch, dim)`` to ``(batch, r)``."""
        return self._each(lambda k, rows: rows @ self.frames[k], z, which, self.rank)

    def embed(self, y: Tensor, which: Tensor) -> Tensor:
        """b_k + U_k y for each row, ``(batch, r)`` to ``(batch, dim)``."""
        dim = self.offsets.shape[1]
        return self._each(lambda k, rows: self.offsets[k] + rows @ self.frames[k].T, y, which, dim)

    def apply(self, z: Tensor, which: Tensor) -> Tensor:
        """b_k + U_k diag(s_k) U_kᵀ z for each row of ``(batch, dim)``, with its own k from ``which`` ``(batch,)``."""
        return self.embed(self.coordinates(z, which) * self.scales[which], which)

    def pinv(self, z: Tensor, which: Tensor) -> Tensor:
        """U_k diag(1 / s_k) U_kᵀ (z - b_k) for each row: the noise of smallest norm whose image is nearest to z.

        Directions whose scale counts as zero, by the same rule as for ranks, are dropped.
        """
        self._check(z, which)
        dim = self.offsets.shape[1]
        least = torch.stack([cutoff(scales, dim) for scales in self.scales])
        inverse = torch.where(self.scales > least[:, None], 1 / self.scales, 0.0)
        y = self.coordinates(z - self.offsets[which], which) * inverse[which]
        return self._each(lambda k, rows: rows @ self.frames[k].T, y, which, self.offsets.shape[1])

    def _each(self, function: Callable[[int, Tensor], Tensor], rows: Tensor, which: Tensor, width: int) -> Tensor:
        self._check(rows, which)
        out = rows.new_empty(len(rows), width)
        for k in which.unique().tolist():
            mine = which == k
            out[mine] = function(k, rows[mine])
        return out

    def _check(self, rows: Tensor, which: Tensor) -> None:
        """Raise ``InputValueError`` unless each row has an operator: a negative index would silently pick another."""
        whole = which.shape == rows.shape[:1] and not which.is_floating_point()
        if not whole or (len(which) and not 0 <= int(which.min()) <= int(which.max()) < len(self.scales)):
            raise InputValueError(
                f"which must be one of 0 … {len(self.scales) - 1} for each of {len(rows)} rows, got {which.dtype} of "
                f"shape {tuple(which.shape)}: {which.flatten()[:8].tolist()}"
            )


def gain(t: float, variance: Tensor) -> Tensor:
    """The factor of a direction of variance λ in the velocity at t: (tλ - (1 - t)) / ((1 - t)² + t²λ), shaped like λ.

    With z_t = (1 - t) z0 + t z1 for independent z0 ~ N(0, I) and z1 ~ N(b, Σ), the velocity is E[z1 - z0 | z_t]
    = b + (tΣ - (1 - t) I) ((1 - t)² I + t² Σ)⁻¹ (z_t - t b). Where λ > 0 nothing is singular, not even at t = 1.
    """
    return (t * variance - (1 - t)) / ((1 - t) ** 2 + t**2 * variance)


def leading_roots(covariance: Tensor, ranks: Sequence[int], metric: Tensor | None) -> dict[int, tuple[Tensor, Tensor]]:
    """For each rank, the symmetric root of a covariance ``(dim, dim)`` cut to its leading directions, U diag(s) Uᵀ.

    U is ``(dim, rank)`` and s ``(rank,)``. The leading directions are those of largest variance or, if the pull-back
    ``metric`` ``(dim, dim)`` is given, those that it ranks first. Their order, the costly part, is computed once for
    all ranks.
    """
    values, vectors = torch.linalg.eigh(covariance)
    scales, vectors = values.clamp_min(0).sqrt().flip(0), vectors.flip(1)
    root = (vectors * scales) @ vectors.T
    # The right singular vectors of M^½ A are the eigenvectors of A M A, which are cheaper to compute.
    leading = vectors if metric is None else torch.linalg.eigh(root @ metric @ root)[1].flip(1)
    found = {}
    for rank in ranks:
        if rank == len(covariance) or metric is None:
            found[rank] = vectors[:, :rank], scales[:rank]
        else:
            u, s, _ = torch.linalg.svd(root @ leading[:, :rank], full_matrices=False)
            found[rank] = u, s
    return found


class AffineDiffusion(Model):
    """A diffusion model whose sampler is one affine operator per label or cluster, all over one g.

    g is trained by the exact likelihood of z = g(x) under the Gaussians N(b_k, Σ_k); noise is its own latent. The
    diffusion has a closed form: sampling is g⁻¹(b_k + Σ_k^½ z0), and the steps of any solver are an affine operator.
    ``operators`` returns these operators at any rank: of the full Σ_k, or of its leading directions.
    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.models.AffineDiffusion(g, lc.operators.AffineGaussians(16, 3, 2), (1, 4, 4))
    >>> noise, which = model.noise(8, torch.Generator().manual_seed(0)), torch.arange(8) % 3
    >>> operators = model.operators(rank=2, order="covariance")
    >>> images = model.sample(noise, which, operators)
    >>> images.shape, model.log_likelihood(images).shape, model.posterior(images).shape
    (torch.Size([8, 1, 4, 4]), torch.Size([8]), torch.Size([8, 3]))
    """

    pullback: Tensor
    chosen: Tensor

    def __init__(self, g: Invertible, gaussians: AffineGaussians, event: Event) -> None:
        super().__init__()
        self.g = g
        self.gaussians = gaussians
        self.event = event
        dim = gaussians.dim
        self.register_buffer("pullback", torch.eye(dim))
        """The mean pull-back metric E[JᵀJ] of g⁻¹ over latents of training images, as found by ``measure``."""
        self.register_buffer("chosen", torch.tensor([float(dim), 1.0]))
        """The default rank and temperature of samples."""

    @property
    def rank(self) -> int:
        """The rank chosen for sampling."""
        return int(self.chosen[0])

    @property
    def temperature(self) -> float:
        """The temperature chosen for sampling."""
        return float(self.chosen[1])

    def choose(self, rank: int, temperature: float) -> None:
        """Set the default rank and temperature of samples."""
        self.chosen.copy_(torch.tensor([float(rank), temperature]))

    @torch.no_grad()
    def measure(self, latents: Tensor, generator: torch.Generator, passes: int) -> None:
        """Compute the pull-back metric at ``latents`` ``(count, dim)`` of training images."""
        found = pullback_metric(lambda z: self.g.inverse(z)[0], latents, generator, passes=passes)
        self.pullback.copy_(found.to(self.pullback.dtype))

    @torch.no_grad()
    def operators(self, rank: int | None = None, order: Order = "pullback") -> AffineOperators:
        """The K operators, each cut to its ``rank`` leading directions, or with all of them if ``rank`` is None.

        ``order`` decides which directions lead: with ``covariance``, those with the largest variance of latents; with
        ``pullback``, those that change images most, the right singular vectors of M^½ A_k with M the pull-back metric
        and A_k = Σ_k^½. With leading directions V, samples have the distribution of A_k V Vᵀ z0, and the operator is
        the symmetric root of its covariance, which the diffusion of this distribution leads to.

        Raises ``InputValueError`` for a rank outside 1 … ``dim``.
        """
        rank = self.gaussians.dim if rank is None else rank
        return self.operators_at([rank], order)[rank]

    @torch.no_grad()
    def operators_at(self, ranks: Sequence[int], order: Order = "pullback") -> dict[int, AffineOperators]:
        """``operators`` at several ranks, by rank; the order of the directions, the costly part, is computed once.

        Raises ``InputValueError`` for a rank outside 1 … ``dim``.
        """
        dim = self.gaussians.dim
        for rank in ranks:
            if not 1 <= rank <= dim:
                raise InputValueError(f"rank must be between 1 and the dimension {dim}, got {rank}")
        metric = self.pullback.double() if order == "pullback" else None
        each = [leading_roots(self.gaussians.covariance(k), ranks, metric) for k in range(self.gaussians.count)]
        like = self.gaussians.offsets.detach()
        return {
            rank: AffineOperators(
                like.clone(),
                torch.stack([roots[rank][0] for roots in each]).to(like),
                torch.stack([roots[rank][1] for roots in each]).to(like),
            )
            for rank in ranks
        }

    def labels(self, count: int, generator: torch.Generator) -> Tensor:
        """The label k of each of ``count`` samples, drawn in the mixture's proportions."""
        return draw_labels(self.gaussians.proportions, count, generator).to(self.device)

    @torch.no_grad()
    def sample(self, x0: Tensor, which: Tensor, operators: AffineOperators, temperature: float = 1.0) -> Tensor:
        """Images g⁻¹(b_k + T A_k x0) from noise ``(batch, *event)``: one application of an affine operator."""
        return self.g.inverse(operators.apply(temperature * x0.flatten(1), which))[0]

    @torch.no_grad()
    def sample_stepping(
        self,
        x0: Tensor,
        which: Tensor,
        operators: AffineOperators,
        steps: int,
        solver: Solver,
        grid: Grid = uniform,
        temperature: float = 1.0,
    ) -> Tensor:
        """Images from noise ``(batch, *event)`` by ``steps`` solver steps of the closed-form velocity over [0, 1].

        Steps are taken in the coordinates of the operator's range. The rest of the noise moves on a straight line to
        the mean, which every solver follows exactly.
        """
        variance = operators.scales[which].square()
        y = temperature * operators.coordinates(x0.flatten(1), which)
        for start, stop in pairwise(grid(steps, 1.0)):
            y = solver.step(lambda t, point: gain(t, variance) * point, start, stop - start, y)
        return self.g.inverse(operators.embed(y, which))[0]

    @torch.no_grad()
    def collapse(self, operators: AffineOperators, steps: int, solver: Solver, grid: Grid = uniform) -> AffineOperators:
        """The affine operators that ``steps`` solver steps amount to: b_k + U_k diag(m_k) U_kᵀ.

        m_k is the product of the steps' multipliers; with Euler's method it converges to s_k at the rate 1/steps.
        """
        scales = []
        for variance in operators.scales.square():
            product: LinearOperator = DiagonalOperator(torch.ones_like(variance))
            for start, stop in pairwise(grid(steps, 1.0)):
                times = [start + c * (stop - start) for c in solver.c]
                velocities: list[LinearOperator] = [DiagonalOperator(gain(t, variance)) for t in times]
                product = solver.step_operator(velocities, stop - start).compose(product)
            scales.append(product.apply(torch.ones_like(variance)[None])[0])
        return replace(operators, scales=torch.stack(scales))

    def generator(self, operator: AffineOperator | LinearOperator) -> Linearizer:
        """x0 ↦ g⁻¹(b + A x0): a Linearizer from noise, which is its own latent, to images."""
        return Linearizer(identity(self.event), operator, self.g)

    def blend(self, operators: AffineOperators, first: int, second: int, weight: float) -> AffineOperator:
        """(1 - w) f_first ⊕ w f_second: between the two operators for w in (0, 1), away from the first for w > 1."""
        return operators.one(first).scale(1 - weight).add(operators.one(second).scale(weight))

    @torch.no_grad()
    def edit(self, images: Tensor, source: Tensor, target: Tensor, operators: AffineOperators) -> Tensor:
        """f_target(f_source⁺(x)) for images ``(batch, *event)``, with their ``source`` and ``target`` ``(batch,)``."""
        noise = operators.pinv(self.g(images)[0], source)
        return self.g.inverse(operators.apply(noise, target))[0]

    def log_likelihood(self, images: Tensor, which: Tensor | None = None) -> Tensor:
        """log p(x | k) in nats, ``(batch,)``; without ``which``, that of the mixture, log Σ_k π_k p(x | k).

        Exact, by the change of variables log N(g(x); b_k, Σ_k) + log|det g'(x)|, with the full Σ_k. Operators of lower
        rank have no density.
        """
        z, log_det = self.g(images)
        return (self.gaussians.mixture(z) if which is None else self.gaussians.log_prob(z, which)) + log_det

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Tensor:
        """p(k | x), ``(batch, K)``: the generator as a classifier, by Bayes' rule; log|det g'| cancels."""
        return self.gaussians.posterior(self.g(images)[0])

    def denoise(self, images: Tensor, deviation: float) -> Tensor:
        """x + σ² ∇ log p(x), the mean of the clean image given x with noise of deviation σ (Tweedie's formula).

        This is not linear in the induced space: it is an option of sampling, and not part of the algebra.
        """
        with torch.enable_grad():
            point = images.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.log_likelihood(point).sum(), point)
        return (point + deviation**2 * gradient).detach()
