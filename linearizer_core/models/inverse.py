"""Inverse problems as Linearizers: two invertible networks and the correlations of what they make of a pair."""

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
    """y = s(x) + σε: a ``degrade`` s of images ``(batch, *event)`` and the standard deviation of its noise.

    >>> import torch, linearizer_core as lc
    >>> halved = lc.models.Measurement(lambda x: x[:, :, ::2], 0.0)
    >>> halved(torch.ones(3, 1, 4, 4)).shape
    torch.Size([3, 1, 2, 4])
    """

    def __init__(self, degrade: Callable[[Tensor], Tensor], deviation: float) -> None:
        self.degrade = degrade
        self.deviation = deviation

    def __call__(self, images: Tensor, noise: Callable[[Tensor], Tensor] = torch.zeros_like) -> Tensor:
        """What is measured of images; ``noise`` gives standard normal numbers like a tensor, without it none."""
        left = self.degrade(images)
        return left + self.deviation * noise(left) if self.deviation else left

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What is measured of images, with noise that is drawn on the generator's device."""

        def noise(like: Tensor) -> Tensor:
            drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
            return drawn.to(like.device)

        return self(images, noise)


class InverseProblem(Model):
    """f(x) = g_y⁻¹(A g_x(x)) of images x ``(batch, *event)`` and what is measured of them, y ``(batch, *measured)``.

    Both latents are standard normal with canonical correlations between them, so that the pairs have a density, and
    what the algebra of a Linearizer gives has a meaning: f is the most likely measurement, f⁺ the restoration of least
    norm, and the adjoint f* the mean of all that may have been, g_x⁻¹(E[g_x(x) | y]).

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
        """Fit what starts from data to images ``(count, *event)`` and what is measured of them."""
        self.correlation.fit(self.g_x.initialise(images), self.g_y.initialise(self.measure.drawn(images, generator)))

    def linearizer(self) -> Linearizer:
        """f, with the operator as it is now."""
        return Linearizer(self.g_x, self.correlation.operator(), self.g_y)

    def forward(self, images: Tensor) -> Tensor:
        """f(x): what is likely to be measured of images, ``(batch, *measured)``."""
        return self.linearizer()(images)

    def restore(self, measured: Tensor) -> Tensor:
        """f⁺(y): of the images that f takes nearest to y that of least norm, ``(batch, *event)``."""
        u, values, v = self.correlation.parts()
        return self.g_x.inverse((self.g_y(measured)[0] @ u / values) @ v.T)[0]

    def mean(self, measured: Tensor) -> Tensor:
        """f*(y) = g_x⁻¹(E[g_x(x) | y]): as f⁺, but each direction as far as it is told, ``(batch, *event)``."""
        u, values, v = self.correlation.parts()
        return self.g_x.inverse((self.g_y(measured)[0] @ u * values) @ v.T)[0]

    def complete(self, measured: Tensor, latents: Tensor) -> Tensor:
        """f⁺(y) ⊕ null(f)(x0) of latents z0 = g_x(x0) ``(batch, dim)``: images that f takes to what f f⁺ makes of y.

        With z0 ~ N(0, I) they are samples of what y leaves open, exactly so where y has no noise.
        """
        u, values, v = self.correlation.parts()
        known = (self.g_y(measured)[0] @ u / values - latents @ v) @ v.T
        return self.g_x.inverse(known + latents)[0]

    def sample(self, measured: Tensor, latents: Tensor) -> Tensor:
        """Images of the posterior p(x | y) from z0 ~ N(0, I) ``(batch, dim)``: g_x⁻¹(Aᵀ g_y(y) + (I - AᵀA)^½ z0)."""
        u, values, v = self.correlation.parts()
        shrink = torch.sigmoid(-self.correlation.logits).sqrt() - 1  # (1 - ρ²)^½ - 1
        known = (self.g_y(measured)[0] @ u * values + latents @ v * shrink) @ v.T
        return self.g_x.inverse(known + latents)[0]

    def back_project(self, images: Tensor, measured: Tensor) -> Tensor:
        """x ⊕ f†(y ⊖ f(x)): the image nearest to x in the induced space that f takes to y, ``(batch, *event)``.

        Where A has the full rank of y that is f(x') = y exactly, as in the iterations of SPNN (arXiv 2602.06042);
        below, x' has f(x') = f f⁺(y). One step does it, since f is linear there.
        """
        return self.complete(measured, self.g_x(images)[0])

    def log_likelihood(self, images: Tensor, measured: Tensor) -> Tensor:
        """log p(x, y) = log p(x) + log p(y | x) in nats, ``(batch,)``, exact by the change of variables."""
        (z, log_det_x), (w, log_det_y) = self.g_x(images), self.g_y(measured)
        prior = -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) + log_det_x
        return prior + self.correlation.log_prob(w, z) + log_det_y
