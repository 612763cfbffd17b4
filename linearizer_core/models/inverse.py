"""Inverse problems as Linearizers: two invertible networks, and the correlations between the latents of a pair."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model
from linearizer_core.operators.correlation import LearnedCorrelation


class Measurement:
    """y = s(x) + σε: a degradation s of images ``(batch, *event)``, and the standard deviation of the noise.

    >>> import torch, linearizer_core as lc
    >>> halved = lc.models.Measurement(lambda x: x[:, :, ::2], 0.0)
    >>> halved(torch.ones(3, 1, 4, 4)).shape
    torch.Size([3, 1, 2, 4])
    """

    def __init__(self, degrade: Callable[[Tensor], Tensor], deviation: float) -> None:
        self.degrade = degrade
        self.deviation = deviation

    def __call__(self, images: Tensor, noise: Callable[[Tensor], Tensor] = torch.zeros_like) -> Tensor:
        """The measurement of images; ``noise`` returns standard normal numbers like a tensor, by default zeros."""
        left = self.degrade(images)
        return left + self.deviation * noise(left) if self.deviation else left

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The measurement of images, with noise drawn on the generator's device."""

        def noise(like: Tensor) -> Tensor:
            drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
            return drawn.to(like.device)

        return self(images, noise)


class InverseProblem(Model):
    """f(x) = g_y⁻¹(A g_x(x)) for images x ``(batch, *event)`` and their measurements y ``(batch, *measured)``.

    Both latents are standard normal with canonical correlations between them. So pairs have a density, and the algebra
    of the Linearizer has a meaning: f is the most likely measurement, f⁺ the restoration of smallest norm, and the
    adjoint f* the mean of all possible images, g_x⁻¹(E[g_x(x) | y]).

    >>> import torch, linearizer_core as lc
    >>> g_x, g_y = (lc.flows.coupling(shape, depth=1, width=8) for shape in ((1, 4, 4), (1, 2, 4)))
    >>> halved = lc.models.Measurement(lambda x: x[:, :, ::2], 0.1)
    >>> model = lc.models.InverseProblem(g_x, g_y, lc.operators.LearnedCorrelation(16, 8, 8), (1, 4, 4), halved)
    >>> x, y = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 2, 4)
    >>> restored = model.back_project(x, y)
    >>> torch.allclose(model(restored), y, atol=1e-3), model.log_likelihood(x, y).shape
    (True, torch.Size([5]))
    """

    def __init__(
        self, g_x: Invertible, g_y: Invertible, correlation: LearnedCorrelation, event: Event, measure: Measurement
    ) -> None:
        super().__init__()
        self.g_x = g_x
        self.g_y = g_y
        self.correlation = correlation
        self.event = event
        self.measure = measure

    @torch.no_grad()
    def initialise(self, images: Tensor, generator: torch.Generator) -> None:
        """Fit the data-dependent parts to images ``(count, *event)`` and their measurements."""
        self.correlation.fit(self.g_x.initialise(images), self.g_y.initialise(self.measure.drawn(images, generator)))

    def linearizer(self) -> Linearizer:
        """f, with the current operator."""
        return Linearizer(self.g_x, self.correlation.operator(), self.g_y)

    def forward(self, images: Tensor) -> Tensor:
        """f(x): the most likely measurement of images, ``(batch, *measured)``."""
        return self.linearizer()(images)

    def restore(self, measured: Tensor) -> Tensor:
        """f⁺(y): the image of smallest norm among those that f maps closest to y, ``(batch, *event)``."""
        u, values, v = self.correlation.parts()
        return self.g_x.inverse((self.g_y(measured)[0] @ u / values) @ v.T)[0]

    def mean(self, measured: Tensor) -> Tensor:
        """f*(y) = g_x⁻¹(E[g_x(x) | y]): like f⁺, with each direction scaled by what y tells, ``(batch, *event)``."""
        u, values, v = self.correlation.parts()
        return self.g_x.inverse((self.g_y(measured)[0] @ u * values) @ v.T)[0]

    def complete(self, measured: Tensor, latents: Tensor) -> Tensor:
        """f⁺(y) ⊕ null(f)(x0) for latents z0 = g_x(x0) ``(batch, dim)``: images that f maps to f f⁺(y).

        With z0 ~ N(0, I) they are samples of what y leaves open; exactly so if y has no noise.
        """
        u, values, v = self.correlation.parts()
        known = (self.g_y(measured)[0] @ u / values - latents @ v) @ v.T
        return self.g_x.inverse(known + latents)[0]

    def sample(self, measured: Tensor, latents: Tensor) -> Tensor:
        """Samples of the posterior p(x | y) from z0 ~ N(0, I) ``(batch, dim)``: g_x⁻¹(Aᵀ g_y(y) + (I - AᵀA)^½ z0)."""
        u, values, v = self.correlation.parts()
        shrink = torch.sigmoid(-self.correlation.logits).sqrt() - 1  # (1 - ρ²)^½ - 1
        known = (self.g_y(measured)[0] @ u * values + latents @ v * shrink) @ v.T
        return self.g_x.inverse(known + latents)[0]

    def back_project(self, images: Tensor, measured: Tensor) -> Tensor:
        """x ⊕ f†(y ⊖ f(x)): the image x' closest to x in the induced space that f maps to y, ``(batch, *event)``.

        If A has the full rank of y, f(x') = y exactly, as in the iterations of SPNN (arXiv 2602.06042); otherwise
        f(x') = f f⁺(y). One step suffices, since f is linear in the induced spaces.
        """
        return self.complete(measured, self.g_x(images)[0])

    def log_likelihood(self, images: Tensor, measured: Tensor) -> Tensor:
        """log p(x, y) = log p(x) + log p(y | x) in nats, ``(batch,)``, exact by the change of variables."""
        (z, log_det_x), (w, log_det_y) = self.g_x(images), self.g_y(measured)
        prior = -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) + log_det_x
        return prior + self.correlation.log_prob(w, z) + log_det_y
