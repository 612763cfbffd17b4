"""Ordinary flow matching in pixels, the baseline that shows what linearity costs and gains (Lipman et al., 2023)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from linearizer_core.flows.conditioners import EMBEDDING, Conditioner, Modulation, hidden, parameters, run, zero
from linearizer_core.flows.unet import UNet
from linearizer_core.grids import Grid, uniform
from linearizer_core.models.base import Event, Model
from linearizer_core.solvers import Solver


class ResidualMLP(Conditioner):
    """A perceptron of ``depth`` residual blocks that time modulates, ``(batch, dim)`` to ``(batch, dim)``.

    The input, by a factor that depends on time, is added to the output: hidden layers that are narrower than the images
    could not hand on the noise that a velocity has in it.
    """

    def __init__(self, dim: int, *, width: int, depth: int, activation: str) -> None:
        super().__init__(labelled=True)
        self.first = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([
                nn.LayerNorm(width),
                *hidden(lambda channels: nn.Linear(width, channels), width, activation, labelled=True),
                nn.Linear(width, width),
            ])
            for _ in range(depth)
        )  # fmt: skip
        self.modulation = Modulation(width)
        self.last = nn.Linear(width, dim)
        zero(self.last)
        self.skip = nn.Linear(EMBEDDING, 1)
        zero(self.skip)

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        embedding = self.embed(x, label)
        assert embedding is not None
        state = self.modulation(self.first(x), embedding)
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            state = state + run(block, state, embedding)
        return torch.addcmul(self.last(state), self.skip(embedding), x)


class FlowMatching(Model):
    """x_t = (1-t) x0 + t x1 and a network v(x_t, t) ≈ x1 - x0; sampling integrates ẋ = v from noise to images.

    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.solvers import EULER
    >>> options = {"depth": 1, "activation": "gelu", "attention": False}
    >>> network = lc.models.velocity_network((1, 4, 4), 2000, convolutional=False, **options)
    >>> model = lc.models.FlowMatching(network, (1, 4, 4))
    >>> model.sample_stepping(torch.ones(2, 1, 4, 4), 4, EULER).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, network: Conditioner, event: Event) -> None:
        super().__init__()
        self.network = network
        self.event = event

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """v(x, t) for ``(batch, *event)`` at times ``(batch,)``."""
        flat = isinstance(self.network, ResidualMLP)
        return self.network(x.flatten(1) if flat else x, t).view(x.shape)

    @torch.no_grad()
    def sample_stepping(self, x0: Tensor, steps: int, solver: Solver, grid: Grid = uniform) -> Tensor:
        """Images from noise ``(batch, *event)`` by ``steps`` solver steps over the grid's times in [0, 1]."""
        x = x0
        for start, stop in pairwise(grid(steps, 1.0)):
            x = solver.step(
                lambda t, point: self.velocity(point.new_full((len(point),), t), point), start, stop - start, x
            )
        return x


def velocity_network(
    event: Event, size: int, *, convolutional: bool, depth: int, activation: str, attention: bool
) -> Conditioner:
    """The network of the width that brings it nearest to ``size`` learned values.

    A perceptron of ``depth`` residual blocks, or a U-Net for ``convolutional``.

    >>> import linearizer_core as lc
    >>> from linearizer_core.flows.conditioners import parameters
    >>> options = {"depth": 1, "activation": "gelu", "attention": False}
    >>> network = lc.models.velocity_network((1, 4, 4), 5000, convolutional=True, **options)
    >>> abs(parameters(network) / 5000 - 1) < 0.2
    True
    """

    def build(width: int) -> Conditioner:
        if convolutional:
            return UNet(event[0], event[0], width=width, activation=activation, attention=attention, labelled=True)
        return ResidualMLP(math.prod(event), width=width, depth=depth, activation=activation)

    # Whatever the network, the number of its learned values is a quadratic in the width: three small ones tell it.
    counts = torch.tensor([parameters(build(width)) for width in (4, 8, 12)], dtype=torch.float64)
    powers = torch.tensor([[width**2, width, 1] for width in (4, 8, 12)], dtype=torch.float64)
    a, b, c = torch.linalg.solve(powers, counts).tolist()
    width = (math.sqrt(b**2 + 4 * a * max(size - c, 0)) - b) / (2 * a)
    return build(max(2, round(width)))
