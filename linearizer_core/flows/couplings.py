"""Couplings: half of the channels decide how the rest are transformed (Dinh et al., NICE, 2015; Real NVP, 2017)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible

CLAMP = 2.0
"""Largest |log scale| of one coupling; unlike a hard clamp's, the soft clamp's gradient never vanishes exactly."""


class Coupling(Invertible):
    """Transforms both halves of the channels in turn: b ← τ(b; θ(a)), then a ← τ(a; θ(b)), with τ monotone per entry.

    ``conditioner(inputs, outputs)`` builds the networks θ, which are called with an input and a label; ``parameters``
    is the number of their outputs per entry.

    Raises ``ValueError`` for a single channel.

    >>> import linearizer_core as lc
    >>> issubclass(lc.flows.AffineCoupling, lc.flows.Coupling)
    True
    """

    keeps_shape = True

    def __init__(self, channels: int, conditioner: Callable[[int, int], nn.Module], parameters: int) -> None:
        super().__init__()
        if channels < 2:
            raise InputValueError(f"a coupling needs at least two channels to split, got {channels}")
        self.split = channels // 2
        rest = channels - self.split
        self.first = conditioner(self.split, parameters * rest)
        self.second = conditioner(rest, parameters * self.split)
        self.channels = channels

    def extra_repr(self) -> str:
        return f"{self.channels}, {type(self.first).__name__}"

    @abstractmethod
    def transform(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """τ(x; θ) and its log-determinant ``(batch,)``; ``theta`` is ``(batch, parameters · channels, …)``."""

    @abstractmethod
    def untransform(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """τ⁻¹(y; θ) and the log-determinant of τ⁻¹, ``(batch,)``."""

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Unlike two slices, a split needs no zero padding in the backward pass.
        a, b = x.split((self.split, x.shape[1] - self.split), 1)
        return a, b

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._halves(x)
        b, first = self.transform(b, self.first(a, label))
        a, second = self.transform(a, self.second(b, label))
        return torch.cat([a, b], 1), first + second

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._halves(y)
        a, second = self.untransform(a, self.second(b, label))
        b, first = self.untransform(b, self.first(a, label))
        return torch.cat([a, b], 1), first + second


class AffineCoupling(Coupling):
    """τ(x; s, m) = x·exp(s) + m (Real NVP, equation 7), with s clamped softly to ±``CLAMP`` by tanh.

    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.flows.conditioners import MLP
    >>> g = lc.flows.AffineCoupling(4, lambda inputs, outputs: MLP(inputs, outputs, width=8, activation="gelu"))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    """

    def __init__(self, channels: int, conditioner: Callable[[int, int], nn.Module]) -> None:
        super().__init__(channels, conditioner, 2)

    def transform(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        s, m = _scale_and_shift(theta)
        return x * s.exp() + m, s.flatten(1).sum(1)

    def untransform(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        s, m = _scale_and_shift(theta)
        return (y - m) / s.exp(), -s.flatten(1).sum(1)


class AdditiveCoupling(Coupling):
    """τ(x; m) = x + m (NICE, section 3.2): volume-preserving, and its inverse loses no precision to scaling.

    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.flows.conditioners import MLP
    >>> g = lc.flows.AdditiveCoupling(4, lambda inputs, outputs: MLP(inputs, outputs, width=8, activation="gelu"))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    """

    def __init__(self, channels: int, conditioner: Callable[[int, int], nn.Module]) -> None:
        super().__init__(channels, conditioner, 1)

    def transform(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return x + theta, x.new_zeros(len(x))

    def untransform(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return y - theta, y.new_zeros(len(y))


def _scale_and_shift(theta: Tensor) -> tuple[Tensor, Tensor]:
    s, m = theta.chunk(2, 1)
    # CLAMP·tanh(s / 2), in a form that a CPU computes four times as fast.
    return 2 * CLAMP * s.sigmoid() - CLAMP, m
