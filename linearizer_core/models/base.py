"""Common parts of all families' models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Event = tuple[int, int, int]


def draw_labels(proportions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``(count,)`` labels in random order, each as often as its share in ``proportions`` ``(classes,)``.

    The remainder left after rounding down is drawn without replacement. Independent draws would have the same expected
    shares, but the Fréchet distance would then depend on which labels happened to be drawn: on digits, that of 1,024
    real images varies from 6 to 11, against 6.
    >>> draw_labels(torch.tensor([0.75, 0.25]), 8, torch.Generator().manual_seed(0)).bincount()
    tensor([6, 2])
    """
    expected = proportions.double().cpu() / proportions.double().sum().cpu() * count
    counts = expected.floor()
    rest = count - int(counts.sum())
    if rest:
        remainders = expected - counts
        counts[torch.multinomial(remainders, rest, generator=_of_cpu(generator))] += 1
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts.long())
    return labels[torch.randperm(count, generator=_of_cpu(generator))]


def _of_cpu(generator: torch.Generator) -> torch.Generator:
    """The generator itself, or a CPU generator seeded from it: the same labels on every device."""
    if generator.device.type == "cpu":
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


class Model(nn.Module):
    """Base class of all families' models.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.models.IdempotentLinearizer(g, lc.operators.projection(16, 4), (1, 4, 4))
    >>> isinstance(model, lc.models.Model), model.noise(2, torch.Generator().manual_seed(0)).shape
    (True, torch.Size([2, 1, 4, 4]))
    """

    event: Event
    """``(channels, height, width)`` of the images."""

    classes: int = 0
    """The number of labels that the model is conditioned on; 0 if there are none."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """x0 ~ N(0, I), ``(count, *event)``, drawn on the generator's device: a CPU's gives the same anywhere."""
        drawn = torch.randn(count, *self.event, generator=generator, device=generator.device, dtype=self.dtype)
        return drawn.to(self.device)
