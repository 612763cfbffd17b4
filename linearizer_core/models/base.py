"""What the models of all families have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Event = tuple[int, int, int]


def draw_labels(proportions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``(count,)`` labels in random order, each as often as its share of ``proportions`` ``(classes,)`` says.

    What is left of whole numbers is drawn without replacement by the remainders. Independent draws would have the same
    shares in the mean, and a Fréchet distance that says which labels happened to come: on digits, of 1,024 real images
    6 to 11 against 6.

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
    """The generator, or one on the CPU that it seeds: the same labels on every device."""
    if generator.device.type == "cpu":
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


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
