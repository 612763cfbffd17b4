"""What the models of all families have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Event = tuple[int, int, int]


class Model(nn.Module):
    """What all families' models have besides their own methods."""

    event: Event
    """``(channels, height, width)`` of the images."""

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
