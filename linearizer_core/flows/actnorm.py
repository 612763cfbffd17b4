"""Activation normalisation (Kingma & Dhariwal, Glow, 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible


class ActNorm(Invertible):
    """y = (x - mean) · exp(log_scale), one pair per channel, fitted to the first batch passed to ``initialise``.

    ``initialised`` is a buffer, so a loaded network is not fitted a second time. Inputs are
    ``(batch, channels)`` or ``(batch, channels, height, width)``.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.ActNorm(4)
    >>> x = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0)) + 5
    >>> z = g.initialise(x)
    >>> torch.allclose(z.mean(0), torch.zeros(4), atol=1e-5), torch.allclose(z.std(0), torch.ones(4), atol=1e-5)
    (True, True)
    >>> z, log_det = g(x)
    >>> log_det.shape, bool(log_det[0] < 0), torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True, True)
    >>> g
    ActNorm(4)
    """

    keeps_shape = True

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))

    def _broadcast(self, parameter: Tensor, x: Tensor) -> Tensor:
        return parameter if x.ndim == 2 else parameter.view(1, -1, *[1] * (x.ndim - 2))

    def _log_det(self, x: Tensor) -> Tensor:
        log_det = self.log_scale.sum()
        return (log_det if x.ndim == 2 else log_det * math.prod(x.shape[2:])).expand(len(x))

    def extra_repr(self) -> str:
        return f"{len(self.mean)}"

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = (x - self._broadcast(self.mean, x)) * self._broadcast(self.log_scale, x).exp()
        return y, self._log_det(x)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = y * self._broadcast(-self.log_scale, y).exp() + self._broadcast(self.mean, y)
        return x, -self._log_det(y)

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """On the first call, fit the channels of the batch to zero mean and unit variance.

        Raises ``ValueError`` if that batch is empty.
        """
        if not self.initialised:
            if not x.numel():
                raise InputValueError(f"actnorm needs at least one input to fit, got a batch of shape {tuple(x.shape)}")
            dims = [d for d in range(x.ndim) if d != 1]
            deviation = x.std(dims, correction=int(x.numel() > x.shape[1]))  # a single value has no spread
            self.mean.copy_(x.mean(dims))
            # Limit the gain to 20: that of a border pixel that is black in the whole batch would be unbounded.
            self.log_scale.copy_(-deviation.clamp_min(0.05).log())
            self.initialised.fill_(True)
        return self.forward(x)[0]
