"""Velocity networks: ordinary networks of any size, conditioned on time and a label."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from linearizer_core.flows.conditioners import EMBEDDING, Conditioner, Modulation, hidden, parameters, run, zero
from linearizer_core.flows.unet import UNet


class ResidualMLP(Conditioner):
    """A perceptron of ``depth`` residual blocks modulated by ``times``, ``(batch, dim + told)`` to ``(batch, dim)``.

    The first ``dim`` inputs, times a factor that depends on time, are added to the output: hidden layers narrower than
    the images could not pass on the noise that is part of a velocity.
    """

    def __init__(self, dim: int, *, width: int, depth: int, activation: str, told: int = 0, times: int = 1) -> None:
        super().__init__(labelled=True, labels=times)
        self.dim = dim
        self.first = nn.Linear(dim + told, width)
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
        return torch.addcmul(self.last(state), self.skip(embedding), x[:, : self.dim])


def velocity_network(
    event: Sequence[int],
    size: int,
    *,
    convolutional: bool,
    depth: int,
    activation: str,
    attention: bool,
    told: int = 0,
    times: int = 1,
) -> Conditioner:
    """The network for inputs of shape ``event`` whose width brings it closest to ``size`` learned values.

    A U-Net if ``convolutional``, otherwise a perceptron of ``depth`` residual blocks. ``told`` is the number of further
    inputs, or planes; ``times`` is the number of times that modulate it.

    >>> import linearizer_core as lc
    >>> from linearizer_core.flows.conditioners import parameters
    >>> options = {"depth": 1, "activation": "gelu", "attention": False}
    >>> network = lc.models.velocity_network((1, 4, 4), 5000, convolutional=True, **options)
    >>> abs(parameters(network) / 5000 - 1) < 0.2
    True
    """

    def build(width: int) -> Conditioner:
        if convolutional:
            inputs, outputs = event[0] + told, event[0]
            return UNet(
                inputs,
                outputs,
                width=width,
                activation=activation,
                attention=attention,
                labelled=True,
                labels=times,
            )
        return ResidualMLP(math.prod(event), width=width, depth=depth, activation=activation, told=told, times=times)

    # The number of learned values is quadratic in the width for any network, so three small ones determine it.
    counts = torch.tensor([parameters(build(width)) for width in (4, 8, 12)], dtype=torch.float64)
    powers = torch.tensor([[width**2, width, 1] for width in (4, 8, 12)], dtype=torch.float64)
    a, b, c = torch.linalg.solve(powers, counts).tolist()
    width = (math.sqrt(b**2 + 4 * a * max(size - c, 0)) - b) / (2 * a)
    return build(max(2, round(width)))
