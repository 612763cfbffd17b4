"""Flow matching in the induced space, and the collapse of its samplers (arXiv 2510.08570, section 4.1).

z_t = (1-t) z0 + t z1 with z0 = g_y(x0) the latent of noise and z1 = g_x(x1) that of an image; A(t) predicts the
endpoint, ẑ1 = A(t) z_t, so the velocity is the linear map V(t) = (A(t) - I) / (1-t) and every solver step is a matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linearizer_core.flows.base import Chain
from linearizer_core.linearizer import Linearizer
from linearizer_core.operators.base import LinearOperator
from linearizer_core.operators.time_dependent import TimeOperator
from linearizer_core.solvers import Solver


class LinearDiffusion(nn.Module):
    """A diffusion model whose sampler is a Linearizer from noise to images.

    ``end`` is the time at which sampling stops: the velocity is singular at 1. What A leaves alone moves on a straight
    line, so every solver multiplies it by 1 - ``end`` exactly, whatever the number of steps.
    """

    def __init__(self, g_x: Chain, g_y: Chain, operator: TimeOperator, event: tuple[int, int, int], end: float) -> None:
        super().__init__()
        self.g_x = g_x
        self.g_y = g_y
        self.operator = operator
        self.event = event
        self.end = end

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def velocity(self, t: float, z: Tensor) -> Tensor:
        """V(t) z = (A(t) z - z) / (1 - t) for ``(batch, dim)``."""
        operator = self.operator.at(torch.tensor([t], dtype=self.dtype, device=self.device))[0]
        return (operator.apply(z) - z) / (1 - t)

    def velocity_operators(self, times: list[float]) -> list[LinearOperator]:
        """V(t) as operators at the given times."""
        operators = self.operator.at(torch.tensor(times, dtype=self.dtype, device=self.device))
        return [operator.shift(-1.0).scale(1 / (1 - t)) for operator, t in zip(operators, times, strict=True)]

    @torch.no_grad()
    def sample_stepping(self, x0: Tensor, steps: int, solver: Solver) -> Tensor:
        """Images from noise ``(batch, *event)`` by ``steps`` solver steps on the uniform grid of [0, ``end``]."""
        z: Tensor = self.g_y(x0)[0]
        h = self.end / steps
        for i in range(steps):
            z = solver.step(self.velocity, i * h, h, z)
        return self.g_x.inverse(z)[0]

    @torch.no_grad()
    def collapse(self, steps: int, solver: Solver) -> LinearOperator:
        """B = M_{steps-1} … M_0: the whole of stepping as one operator."""
        h = self.end / steps
        stages = len(solver.c)
        velocities = self.velocity_operators([(i + c) * h for i in range(steps) for c in solver.c])
        product: LinearOperator | None = None
        for i in range(steps):
            step = solver.step_operator(velocities[i * stages : (i + 1) * stages], h)
            product = step if product is None else step.compose(product)
        assert product is not None
        return product

    def generator(self, operator: LinearOperator) -> Linearizer:
        """x0 ↦ g_x⁻¹(B g_y(x0)) for a collapsed B: a Linearizer from noise to images."""
        return Linearizer(self.g_y, self.g_x, operator)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """x0 ~ N(0, I), ``(count, *event)``, drawn on the CPU so that a seed means the same on every device."""
        drawn = torch.randn(count, *self.event, generator=generator, dtype=self.dtype)
        return drawn.to(self.device)
