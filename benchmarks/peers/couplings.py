"""Stacks of eight affine couplings with the same conditioners, here and in four other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import FrEIA.framework
import FrEIA.modules
import nflows.transforms
import normflows
import torch
import zuko
from torch import Tensor, nn

from linearizer_core.flows import AffineCoupling, Chain

COUPLINGS = 8


@dataclass(frozen=True)
class Stack:
    """A flow with both directions: ``encode`` returns ``(batch, dim)`` latents and log-determinants ``(batch,)``."""

    module: nn.Module
    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def train(self, x: Tensor) -> None:
        """The timed work: gradients of the mean negative log-likelihood under N(0, I), then decoding the latents."""
        self.module.zero_grad()
        z, log_det = self.encode(x)
        (0.5 * z.square().sum(1) - log_det).mean().backward()
        with torch.no_grad():
            self.decode(z)

    def round_trip(self, x: Tensor) -> float:
        """The largest error of decoding encoded points."""
        with torch.no_grad():
            return float((self.decode(self.encode(x)[0]) - x).abs().max())


class Perceptron(nn.Sequential):
    """Two hidden layers with ReLU; further arguments that a library passes to its conditioners are ignored."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        super().__init__(*hidden, nn.Linear(width, outputs))

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        return super().forward(x)


def our_stack(dim: int, width: int) -> Stack:
    """Couplings that transform both halves in turn: four of them."""
    conditioner = partial(Perceptron, width=width)
    flow = Chain([AffineCoupling(dim, conditioner) for _ in range(COUPLINGS // 2)])
    return Stack(flow, flow, lambda z: flow.inverse(z)[0])


def zuko_stack(dim: int, width: int) -> Stack:
    """The transformation of this library's NICE, with the affine couplings of RealNVP."""
    flow = zuko.flows.NICE(dim, transforms=COUPLINGS, hidden_features=(width, width), activation=nn.ReLU)
    # The transformation is built at each pass, as the library's users do.
    return Stack(flow, lambda x: flow.transform().call_and_ladj(x), lambda z: flow.transform().inv(z))


def nflows_stack(dim: int, width: int) -> Stack:
    """Affine couplings on alternating masks."""
    coupling, conditioner = nflows.transforms.AffineCouplingTransform, partial(Perceptron, width=width)
    masks = [(torch.arange(dim) + i) % 2 for i in range(COUPLINGS)]
    flow = nflows.transforms.CompositeTransform([coupling(mask, conditioner) for mask in masks])
    return Stack(flow, flow, lambda z: flow.inverse(z)[0])


def normflows_stack(dim: int, width: int) -> Stack:
    """Coupling blocks on one half, with the halves swapped in between; its flows run from latents to data."""
    flows = []
    for _ in range(COUPLINGS):
        flows += [
            normflows.flows.AffineCouplingBlock(Perceptron(dim // 2, dim, width)),
            normflows.flows.Permute(dim, mode="swap"),
        ]
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dim, trainable=False), flows)
    return Stack(flow, flow.inverse_and_log_det, flow.forward)


def freia_stack(dim: int, width: int) -> Stack:
    """GLOW coupling blocks, which transform both halves in turn: four of them."""
    flow = FrEIA.framework.SequenceINN(dim)
    for _ in range(COUPLINGS // 2):
        flow.append(FrEIA.modules.GLOWCouplingBlock, subnet_constructor=partial(Perceptron, width=width))
    return Stack(flow, flow, lambda z: flow(z, rev=True, jac=False)[0])


PEERS: dict[str, Callable[[int, int], Stack]] = {
    "zuko": zuko_stack,
    "nflows": nflows_stack,
    "normflows": normflows_stack,
    "freia": freia_stack,
}
