"""What the models of all families have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Event = tuple[int, int, int]


def draw_labels(proportions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` labels or clusters drawn by their proportions ``(groups,)``, on the generator's device.

    >>> draw_labels(torch.tensor([0.0, 1.0]), 3, torch.Generator().manual_seed(0))
    tensor([1, 1, 1])
    """
    return torch.multinomial(proportions.to(generator.device), count, replacement=True, generator=generator)


class Model(nn.Module):
    """What all families' models have besides their own methods.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.models.IdempotentLinearizer(g, lc.operators.projection(16, 4), (1, 4, 4))
    >>> isinstance(model, lc.models.Model), model.noise(2, torch.Generator().manual_seed(0)).shape
    (True, torch.Size([2, 1, 4, 4]))
    """

    event: Event
    """``(channels, height, width)`` of the images."""

    classes: int = 0
    """The number of labels that the model is told; 0 where it is told none."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """x0 ~ N(0, I), ``(count, *event)``, drawn on the generator's device: a CPU's means the same everywhere."""
        drawn = torch.randn(count, *self.event, generator=generator, device=generator.device, dtype=self.dtype)
        return drawn.to(self.device)
