"""Restoration by an ordinary network, the baseline for a Linearizer for inverse problems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.flows.conditioners import Conditioner
from linearizer_core.models.base import Event, Model
from linearizer_core.models.inverse import Measurement
from linearizer_core.models.velocity_networks import ResidualMLP


class Regression(Model):
    """x = b(y) + N(b(y)): a network that corrects the obvious restoration b of measured images ``(batch, *measured)``.

    >>> import torch, linearizer_core as lc
    >>> options = {"depth": 1, "activation": "gelu", "attention": False}
    >>> network = lc.models.velocity_network((1, 4, 4), 2000, convolutional=False, **options)
    >>> model = lc.models.Regression(network, lambda y: y, (1, 4, 4), lc.models.Measurement(lambda x: x, 0.1))
    >>> y = torch.randn(2, 1, 4, 4)
    >>> torch.equal(model(y), y)
    True
    """

    def __init__(
        self, network: Conditioner, filled: Callable[[Tensor], Tensor], event: Event, measure: Measurement
    ) -> None:
        super().__init__()
        self.measure = measure
        self.network = network
        self.filled = filled
        self.event = event

    def forward(self, measured: Tensor) -> Tensor:
        """Images ``(batch, *event)``."""
        start = self.filled(measured)
        inputs = start.flatten(1) if isinstance(self.network, ResidualMLP) else start
        return start + self.network(inputs, torch.zeros(len(start), dtype=start.dtype, device=start.device)).view(
            start.shape
        )
