"""One training step: gradients of a batch, clipping, Adam, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import get_ema_multi_avg_fn

from linearizer_core.experiment.configuration import TrainConfig
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.flat import FlatParameters
from linearizer_core.experiment.losses import Losses, perturbed
from linearizer_core.models.base import Model


class Step:
    """The steps of a model's training, which wait for nothing that the device computes.

    ``averaged`` follows the model, unless it is the model itself. Both models' parameters become views of flat tensors.
    ``optimiser`` moves them. ``names`` and ``sums`` ``(count,)`` are the loss, its terms and the norm of the gradient,
    added up over the steps since ``forget``.
    """

    def __init__(self, losses: Losses, averaged: Model, config: TrainConfig) -> None:
        self.losses = losses
        self.averaged = averaged
        self.names: list[str] = []
        self.sums = torch.zeros(0)
        self.taken = 0
        self._config = config
        model = losses.model
        self._perturbed = list(zip(perturbed(model), perturbed(averaged), strict=True))
        apart = {id(each) for layer, _ in self._perturbed for each in (layer.u, layer.v)}
        # What is perturbed comes last: the optimiser has to forget each of it by itself.
        places = sorted(
            zip(model.parameters(), averaged.parameters(), strict=True), key=lambda pair: id(pair[0]) in apart
        )
        self.flat = FlatParameters([learned for learned, _ in places])
        self._averages = self.flat if averaged is model else FlatParameters([average for _, average in places])
        self._blend = get_ema_multi_avg_fn(config.ema)
        own = len(places) - len(apart)
        moved = [self.flat.part(0, own)] if own else []
        moved += [learned for learned, _ in places[own:]]
        self.optimiser = torch.optim.Adam(moved, lr=config.lr, betas=(0.9, 0.99), fused=True)

    def __call__(self, images: Tensor, draws: Draws, rate: float, merging: torch.Generator) -> None:
        """Take a step for this worker's rows ``(batch, *event)`` at a learning rate.

        ``merging`` draws the perturbations that follow a merge. Raises what is in ``LOST`` where a number is lost that
        the loss cannot do without.
        """
        self.follow(self.differentiate(images, draws), rate, merging)

    def follow(self, found: Mapping[str, Tensor], rate: float, merging: torch.Generator) -> None:
        """Move along the gradient that has been found, with the loss and its terms, as ``differentiate`` gives them."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.advance(found)
        self.taken += 1
        if self.taken == 1:  # where the average starts
            self._averages.values.copy_(self.flat.values)
        if self._perturbed and self.taken % self._config.merge_every == 0:
            self._merge(merging)

    def advance(self, found: Mapping[str, Tensor]) -> None:
        """Move the weights and the average, and add to the sums."""
        values = {**found, "gradient_norm": self.move()}
        if self.losses.lost:
            return  # there are no terms, and the epoch will say so
        if not self.names:
            self.names, self.sums = list(values), values["loss"].new_zeros(len(values))
        self.sums += torch.stack(list(values.values()))

    def differentiate(self, images: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Find the gradient of the loss, of several workers the mean of theirs; the loss and its terms."""
        loss, terms = self.losses(images, draws)
        self.flat.take(torch.autograd.grad(loss, self.flat.parameters, allow_unused=True))
        if draws.workers.count > 1:
            self.flat.gradient.copy_(draws.workers.total(self.flat.gradient) / draws.workers.count)
        return {"loss": loss.detach(), **terms}

    @torch.no_grad()
    def move(self) -> Tensor:
        """Clip the gradient, whose norm it was before is given, and move the weights, and the average after them."""
        norm = clip_grad_norm_([self.flat.whole], self._config.clip)
        self.optimiser.step()
        if self._averages is not self.flat:
            self._blend([self._averages.values], [self.flat.values], None)
        self._take_perturbations()
        return norm

    def forget(self) -> None:
        """Begin new sums."""
        self.sums.zero_()

    def _merge(self, generator: torch.Generator) -> None:
        for layer, averaged in self._perturbed:
            layer.merge(self.optimiser, generator)
            if averaged is not layer:
                averaged.load_state_dict(layer.state_dict())

    def _take_perturbations(self) -> None:
        """What is perturbed has no average: a perturbation means nothing beside another matrix."""
        for layer, averaged in self._perturbed:
            if averaged is not layer:
                averaged.u.copy_(layer.u)
                averaged.v.copy_(layer.v)
