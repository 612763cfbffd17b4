"""Flow matching in the induced space, and the collapse of its samplers (arXiv 2510.08570, section 4.1).

z_t = (1-t) z0 + t z1 with z0 = g_y(x0) the latent of noise and z1 = g_x(x1) the latent of an image. A(t) predicts the
endpoint, ẑ1 = A(t) z_t, so the velocity is the linear map V(t) = (A(t) - I) / (1-t), and every solver step is a matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.grids import Grid, uniform
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model
from linearizer_core.operators.affine import Operator
from linearizer_core.operators.base import LinearOperator
from linearizer_core.operators.time_dependent import TimeOperator
from linearizer_core.solvers import Solver
from linearizer_core.space import InducedSpace


@dataclass(frozen=True)
class Inversion:
    """The noise ``(batch, *event)`` that images were inverted to, and how far it can be trusted.

    ``condition`` of B bounds the growth of relative errors in the inversion. If ``rank`` is less than ``dim``, the
    noise is the one of smallest induced norm, and whatever B annihilates is lost.
    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.solvers import EULER
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.LinearDiffusion(g, lc.flows.identity((1, 4, 4)), lc.operators.TimeLowRank(16, 3), (1, 4, 4), end=0.9)
    >>> images = torch.zeros(2, 1, 4, 4)
    >>> found = model.invert(images, model.collapse(10, EULER))
    >>> found.noise.shape, found.rank, found.dim
    (torch.Size([2, 1, 4, 4]), 16, 16)
    """

    noise: Tensor
    condition: float
    rank: int
    dim: int


class LinearDiffusion(Model):
    """A diffusion model whose sampler is a Linearizer from noise to images.

    ``end`` is the time at which sampling stops, since the velocity is singular at 1. Directions in which A is 0 move on
    a straight line, so every solver multiplies them by exactly 1 - ``end``, whatever the number of steps.
    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.solvers import EULER
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.LinearDiffusion(g, lc.flows.identity((1, 4, 4)), lc.operators.TimeLowRank(16, 3), (1, 4, 4), end=0.9)
    >>> noise = model.noise(8, torch.Generator().manual_seed(0))
    >>> b = model.collapse(10, EULER)
    >>> images = model.generator(b)(noise)
    >>> images.shape, torch.allclose(images, model.sample_stepping(noise, 10, EULER), atol=1e-3)
    (torch.Size([8, 1, 4, 4]), True)
    """

    def __init__(self, g_x: Invertible, g_y: Invertible, operator: TimeOperator, event: Event, end: float) -> None:
        super().__init__()
        self.g_x = g_x
        self.g_y = g_y
        self.operator = operator
        self.event = event
        self.end = end

    def velocity(self, t: float, z: Tensor) -> Tensor:
        """V(t) z = (A(t) z - z) / (1 - t) for ``(batch, dim)``."""
        operator = self.operator.at(torch.tensor([[t]], dtype=self.dtype, device=self.device))[0][0]
        return (operator.apply(z) - z) / (1 - t)

    def velocity_operators(self, times: list[list[float]]) -> list[list[LinearOperator]]:
        """The operators V(t) at the times of each step's stages."""
        operators = self.operator.at(torch.tensor(times, dtype=self.dtype, device=self.device))
        return [
            [operator.shift(-1.0).scale(1 / (1 - t)) for operator, t in zip(step, stages, strict=True)]
            for step, stages in zip(operators, times, strict=True)
        ]

    @torch.no_grad()
    def sample_stepping(
        self, x0: Tensor, steps: int, solver: Solver, grid: Grid = uniform, temperature: float = 1.0
    ) -> Tensor:
        """Images from noise ``(batch, *event)`` by ``steps`` solver steps over the grid's times in [0, ``end``].

        ``temperature`` scales the noise latents: below 1 images are closer to the mean and less varied.
        """
        z: Tensor = temperature * self.g_y(x0)[0]
        for start, stop in self._spans(steps, grid):
            z = solver.step(self.velocity, start, stop - start, z)
        return self.g_x.inverse(z)[0]

    @torch.no_grad()
    def collapse(self, steps: int, solver: Solver, grid: Grid = uniform) -> LinearOperator:
        """B = M_{steps-1} … M_0: all solver steps as one operator (section 4.1, "one-step sampling").

        With factors that do not change with time this takes O(steps · rank³) and forms nothing of size dim×dim.
        """
        spans = self._spans(steps, grid)
        velocities = self.velocity_operators([[start + c * (stop - start) for c in solver.c] for start, stop in spans])
        products = [
            solver.step_operator(stages, stop - start) for (start, stop), stages in zip(spans, velocities, strict=True)
        ]
        # Multiply neighbours, then neighbouring products: wide stacks of factors are then multiplied only a few times.
        while len(products) > 1:
            last = products[-1:] if len(products) % 2 else []
            pairs = zip(products[::2], products[1::2], strict=False)
            products = [then.compose(first) for first, then in pairs] + last
        return products[0]

    def _spans(self, steps: int, grid: Grid) -> list[tuple[float, float]]:
        """The start and end time of each step."""
        if steps < 1:
            raise ValueError(f"sampling takes at least one step, got {steps}")
        return list(pairwise(grid(steps, self.end)))

    def generator(self, operator: Operator) -> Linearizer:
        """x0 ↦ g_x⁻¹(B g_y(x0)) for a collapsed B: a Linearizer from noise to images."""
        return Linearizer(self.g_y, operator, self.g_x)

    @torch.no_grad()
    def invert(self, images: Tensor, operator: Operator, rcond: float | None = None) -> Inversion:
        """The noise g_y⁻¹(B⁺ g_x(x)) of ``images`` ``(batch, *event)`` (section 4.1, "inversion")."""
        return Inversion(
            self.generator(operator).pinv(rcond)(images), operator.condition(), operator.rank(rcond), operator.shape[1]
        )

    @torch.no_grad()
    def reconstruct(self, images: Tensor, operator: Operator, rcond: float | None = None) -> Tensor:
        """g_x⁻¹(B B⁺ g_x(x)): images inverted to noise and generated again; exact if B has full rank."""
        generate = self.generator(operator)
        return generate(generate.pinv(rcond)(images))

    @torch.no_grad()
    def interpolate(self, first: Tensor, second: Tensor, weight: float, operator: Operator) -> Tensor:
        """Interpolate two images through their noise: spherically in g_y's space, where noise lies near a shell.

        ``InducedSpace(g_x).lerp`` is the straight line in the images' own induced space.
        """
        generate = self.generator(operator)
        back = generate.pinv()
        return generate(InducedSpace(self.g_y).slerp(back(first), back(second), weight))

    def log_likelihood(self, images: Tensor, operator: Operator) -> Tensor:
        """log p(x) in nats, ``(batch,)``, of the normalizing flow x = g_x⁻¹(B g_y(x0)) with x0 ~ N(0, I).

        log p(x) = log N(x0; 0, I) + log|det g_x'(x)| - log|det B| + log|det (g_y⁻¹)'(z0)|, with z0 = B⁻¹ g_x(x) and
        x0 = g_y⁻¹(z0): exact, by the change of variables of the one-step generator.

        Raises ``ValueError`` if B is singular, since there is then no density.
        """
        z1, image_log_det = self.g_x(images)
        x0, noise_log_det = self.g_y.inverse(operator.solve(z1))
        normal = -0.5 * x0.flatten(1).square().sum(1) - 0.5 * z1.shape[1] * math.log(2 * math.pi)
        return normal + image_log_det - operator.logdet() + noise_log_det
