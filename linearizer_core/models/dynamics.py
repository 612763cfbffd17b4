"""Models that move images forward and back in time by powers of one linear operator: z_{t+1} = A z_t."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from linearizer_core.flows.base import Invertible
from linearizer_core.flows.conditioners import fitted_values, hidden, zero
from linearizer_core.flows.principal_axes import principal_axes
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model
from linearizer_core.models.motion import Motion
from linearizer_core.operators.base import LinearOperator
from linearizer_core.operators.transitions import LearnedRotation, LearnedTransition

LEAST_DEVIATION = 0.05
"""Smallest standard deviation by which a principal component of frames is divided, as in an actnorm."""

Sized = TypeVar("Sized", bound=nn.Module)
Transition = LearnedRotation | LearnedTransition
"""Operators that lead from one time step to the next."""


class Moving(Model):
    """Frames ``(batch, *frame)`` as latents ``(batch, dim)``, in which one step of time is one linear operator.

    ``event`` is the shape of the images that move, and ``frame`` that of the frames in which they do.
    """

    def __init__(self, transition: Transition, event: Event, motion: Motion) -> None:
        super().__init__()
        self.transition = transition
        self.event = event
        self.motion = motion
        self.frame = motion.shape(event)

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Latents of frames."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Frames of latents."""

    def operator(self) -> LinearOperator:
        """A, with its gradients."""
        return self.transition.operator()

    def steps(self, count: float) -> LinearOperator:
        """A to any power: one operator for any number of steps, backwards if negative, in between if not whole.

        An operator of lower rank has no inverse, and goes back by its pseudo-inverse.
        """
        return real_power(self.operator() if count >= 0 else self.transition.inverse(), abs(count))

    def ahead(self, frames: Tensor, count: float) -> Tensor:
        """The frames ``count`` steps later, by one application of an operator."""
        return self.decode(self.steps(count).apply(self.encode(frames)))

    @torch.no_grad()
    def initialise(self, before: Tensor, after: Tensor) -> None:
        """Fit the data-dependent parts to frames ``(count, *frame)`` and those one step later, A by least squares."""
        self.transition.fit(self._start(before), self.encode(after))

    def _start(self, frames: Tensor) -> Tensor:
        """The latents of frames, to which the data-dependent parts of the encoder are fitted first."""
        return self.encode(frames)


class Dynamics(Moving):
    """f = g⁻¹ A g from frames to the next frames, so that n steps are fⁿ = g⁻¹ Aⁿ g, whatever n.

    >>> import torch, linearizer_core as lc
    >>> g, a = lc.flows.coupling((1, 4, 4), depth=1, width=8), lc.operators.LearnedRotation(16)
    >>> motion = lc.models.Motion("drift", period=8, padding=0, contrast=0.0)
    >>> model = lc.models.Dynamics(g, a, (1, 4, 4), motion)
    >>> x = torch.randn(3, 1, 4, 4)
    >>> three = model.ahead(model.ahead(model.ahead(x, 1), 1), 1)
    >>> torch.allclose(model.ahead(x, 3), three, atol=1e-4), torch.allclose(model.ahead(three, -3), x, atol=1e-4)
    (True, True)
    """

    def __init__(self, g: Invertible, transition: Transition, event: Event, motion: Motion) -> None:
        super().__init__(transition, event, motion)
        self.g = g

    def linearizer(self) -> Linearizer:
        """f, with the current operator."""
        return Linearizer(self.g, self.operator())

    def encode(self, frames: Tensor) -> Tensor:
        return self.g(frames)[0]

    def decode(self, latents: Tensor) -> Tensor:
        return self.g.inverse(latents)[0]

    def _start(self, frames: Tensor) -> Tensor:
        return self.g.initialise(frames)


class KoopmanAutoencoder(Moving):
    """Networks from frames to latents and back, with a linear operator between the latents of successive frames.

    The model of Lusch et al. (Deep learning for universal linear embeddings of nonlinear dynamics, Nature
    Communications, 2018) for a spectrum that does not depend on the state. Encoder and decoder are each a linear map
    plus a perceptron. They start as principal components and back, and A as the least squares between these: without
    that start, the perceptrons alone learned far more slowly. Unlike g⁻¹, the decoder undoes the encoder only as far as
    training makes it.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.LearnedTransition(6)
    >>> motion = lc.models.Motion("drift", period=8, padding=1, contrast=0.0)
    >>> model = lc.models.KoopmanAutoencoder(a, (1, 4, 4), motion, width=8, depth=2, activation="gelu")
    >>> model.ahead(torch.randn(3, 1, 6, 6), 2).shape
    torch.Size([3, 1, 6, 6])
    """

    def __init__(
        self, transition: Transition, event: Event, motion: Motion, *, width: int, depth: int, activation: str
    ) -> None:
        super().__init__(transition, event, motion)
        pixels, latents = math.prod(self.frame), transition.operator().shape[0]
        self.encoder = _Corrected(pixels, latents, width, depth, activation)
        self.decoder = _Corrected(latents, pixels, width, depth, activation)

    def encode(self, frames: Tensor) -> Tensor:
        made: Tensor = self.encoder(frames.flatten(1))
        return made

    def decode(self, latents: Tensor) -> Tensor:
        made: Tensor = self.decoder(latents)
        return made.view(len(made), *self.frame)

    @torch.no_grad()
    def _start(self, frames: Tensor) -> Tensor:
        into, back = self.encoder.linear, self.decoder.linear
        mean, axes, variances = principal_axes(frames.flatten(1))
        scale = variances.sqrt().clamp_min(LEAST_DEVIATION)[: into.out_features]
        axes = axes[:, : into.out_features]
        into.weight.copy_((axes / scale).T)
        into.bias.copy_(-(axes / scale).T @ mean.to(axes))
        back.weight.copy_(axes * scale)
        back.bias.copy_(mean)
        return self.encode(frames)


def real_power(operator: LinearOperator, count: float) -> LinearOperator:
    """A to a power of at least 0, by repeated squaring if it is a whole number."""
    whole = float(count).is_integer()
    return operator.power(int(count)) if whole else operator.principal_power(count)


def of_size(build: Callable[[int], Sized], size: int) -> Sized:
    """The model whose width brings it closest to ``size`` learned values, which grow quadratically with the width."""
    counts = torch.tensor([fitted_values(build(width)) for width in (4, 8, 12)], dtype=torch.float64)
    powers = torch.tensor([[width**2, width, 1] for width in (4, 8, 12)], dtype=torch.float64)
    a, b, c = torch.linalg.solve(powers, counts).tolist()
    c -= size
    # Without a product of two widths the count is linear in the width.
    width = (math.sqrt(max(b**2 - 4 * a * c, 0)) - b) / (2 * a) if abs(a) > 1e-6 else -c / b
    return build(max(2, round(width)))


class _Corrected(nn.Module):
    """A linear map plus a perceptron with ``depth`` hidden layers, which starts at zero."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        layers: list[nn.Module] = []
        for entering in (inputs, *[width] * (depth - 1)):
            layers += hidden(partial(nn.Linear, entering), width, activation, labelled=False)
        last = nn.Linear(width, outputs)
        zero(last)
        self.perceptron = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.linear(x) + self.perceptron(x)
        return made
