"""Ordinary flow matching, the baseline that shows the costs and gains of linearity (Lipman et al., 2023)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from linearizer_core.grids import Grid, uniform
from linearizer_core.models.transport import Transport
from linearizer_core.solvers import Solver


class FlowMatching(Transport):
    """x_t = (1-t) x0 + t x1 and a network v(x_t, t) ≈ x1 - x0; sampling integrates ẋ = v from noise to images.

    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.solvers import EULER
    >>> options = {"depth": 1, "activation": "gelu", "attention": False}
    >>> network = lc.models.velocity_network((1, 4, 4), 2000, convolutional=False, **options)
    >>> model = lc.models.FlowMatching(network, (1, 4, 4))
    >>> model.sample_stepping(torch.ones(2, 1, 4, 4), 4, EULER).shape
    torch.Size([2, 1, 4, 4])

    Conditioned on one of ten labels, in the leading 8 principal coordinates:

    >>> network = lc.models.velocity_network((8,), 2000, convolutional=False, told=10, **options)
    >>> model = lc.models.FlowMatching(network, (1, 4, 4), 10, lc.flows.LeadingAxes((1, 4, 4), 8))
    >>> model.sample_stepping(torch.ones(2, 1, 4, 4), 4, EULER, which=torch.tensor([3, 7])).shape
    torch.Size([2, 1, 4, 4])
    """

    def velocity(self, t: Tensor, x: Tensor, which: Tensor | None = None) -> Tensor:
        """v(x, t) at x in the frame, ``(batch, *event)`` or ``(batch, count)``, and times ``(batch,)``."""
        return self.field(x, t, which)

    @torch.no_grad()
    def sample_stepping(
        self,
        x0: Tensor,
        steps: int,
        solver: Solver,
        grid: Grid = uniform,
        which: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Images from noise ``(batch, *event)`` by ``steps`` solver steps over the grid's times in [0, 1]."""
        x = self.start(x0, temperature)
        for start, stop in pairwise(grid(steps, 1.0)):
            x = solver.step(
                lambda t, point: self.velocity(point.new_full((len(point),), t), point, which), start, stop - start, x
            )
        return self.decode(x)
