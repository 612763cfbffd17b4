"""One training step: gradients of a batch, clipping, Adam, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import get_ema_multi_avg_fn

from linearizer_core.experiment.configuration import TrainConfig
from linearizer_core.experiment.draws import Draws, Given, Noted, Request
from linearizer_core.experiment.flat import FlatParameters
from linearizer_core.experiment.graph import Recorded, Recorder
from linearizer_core.experiment.losses import Losses, perturbed
from linearizer_core.experiment.workers import ALONE
from linearizer_core.models.base import Model


class Step:
    """The training steps of a model, which never wait for results from the device.

    ``averaged`` follows the model, unless it is the model itself. Both models' parameters become views of flat tensors,
    which ``optimiser`` updates. ``names`` and ``sums`` ``(count,)`` are the loss, its terms and the gradient norm,
    summed over the steps since ``forget``.
    """

    def __init__(self, losses: Losses, averaged: Model, config: TrainConfig, recorder: Recorder | None = None) -> None:
        self.losses = losses
        self.averaged = averaged
        self.names: list[str] = []
        self.sums = torch.zeros(0)
        self._config = config
        model = losses.model
        self._perturbed = list(zip(perturbed(model), perturbed(averaged), strict=True))
        apart = {id(each) for layer, _ in self._perturbed for each in (layer.u, layer.v)}
        # Perturbed parameters come last, since the optimiser must be able to reset each one separately.
        places = sorted(
            zip(model.parameters(), averaged.parameters(), strict=True), key=lambda pair: id(pair[0]) in apart
        )
        self.flat = FlatParameters([learned for learned, _ in places])
        self._averages = self.flat if averaged is model else FlatParameters([average for _, average in places])
        self._blend = get_ema_multi_avg_fn(config.ema)
        own = len(places) - len(apart)
        moved = [self.flat.part(0, own)] if own else []
        moved += [learned for learned, _ in places[own:]]
        # A recorded step reads the learning rate from a fixed place, so it must be a tensor.
        self._rate = None if recorder is None else torch.tensor(config.lr, device=self.flat.values.device)
        on_gpu = self.flat.values.device.type == "cuda"
        self.optimiser = torch.optim.Adam(
            moved, lr=config.lr, betas=(0.9, 0.99), fused=True, capturable=recorder is not None and on_gpu
        )
        self._requests: list[Request] | None = None
        self._workers = ALONE
        self.recorder = recorder
        self.go_on(0)

    def __call__(self, images: Tensor, draws: Draws, rate: float, merging: torch.Generator) -> None:
        """Take a step for this worker's rows ``(batch, *event)`` at the given learning rate.

        ``merging`` draws the perturbations that follow a merge. Raises an error in ``LOST`` if the loss depends on a
        number that has diverged.
        """
        self.prepare(rate)
        if self.recorded is None:
            self.advance(self.differentiate(images, draws))
        elif self._requests is None:
            noted = Noted(draws.generator, draws.workers)
            noted.groups = draws.groups
            self.advance(self.differentiate(images, noted))
            self._requests, self._workers = noted.requests, draws.workers
        else:
            groups = [] if draws.groups is None else [draws.groups]
            self.recorded([images, *groups, *(draws.draw(request) for request in self._requests)])
        self.finish(merging)

    def go_on(self, taken: int) -> None:
        """Continue after ``taken`` steps, with whatever state the optimiser has been given."""
        self.taken = taken
        self.recorded = None if self.recorder is None else Recorded(self._run, self.recorder)

    def prepare(self, rate: float) -> None:
        """Set the learning rate of the step."""
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate if self._rate is None else self._rate

    def finish(self, merging: torch.Generator) -> None:
        """Do what follows a step: start the average after the first one, and merge perturbations at intervals."""
        self.taken += 1
        if self.taken == 1:  # the average starts here
            self._averages.values.copy_(self.flat.values)
        if self._perturbed and self.taken % self._config.merge_every == 0:
            self._merge(merging)

    def _run(self, inputs: Sequence[Tensor]) -> None:
        requests = self._requests or []
        groups = inputs[1] if len(inputs) > 1 + len(requests) else None
        drawn = inputs[len(inputs) - len(requests) :]
        self.advance(self.differentiate(inputs[0], Given(requests, drawn, groups, self._workers)))

    def advance(self, found: Mapping[str, Tensor]) -> None:
        """Update the weights and the average, and add to the sums."""
        values = {**found, "gradient_norm": self.move()}
        if self.losses.lost:
            return  # there are no terms; the end of the epoch reports it
        if not self.names:
            self.names, self.sums = list(values), values["loss"].new_zeros(len(values))
        self.sums += torch.stack(list(values.values()))

    def differentiate(self, images: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Compute the gradient of the loss, averaged over workers; returns the loss and its terms."""
        loss, terms = self.losses(images, draws)
        self.flat.take(torch.autograd.grad(loss, self.flat.parameters, allow_unused=True))
        if draws.workers.count > 1:
            self.flat.gradient.copy_(draws.workers.total(self.flat.gradient) / draws.workers.count)
        return {"loss": loss.detach(), **terms}

    @torch.no_grad()
    def move(self) -> Tensor:
        """Clip the gradient, update the weights and then the average; returns the norm before clipping."""
        norm = clip_grad_norm_([self.flat.whole], self._config.clip)
        self.optimiser.step()
        if self._averages is not self.flat:
            self._blend([self._averages.values], [self.flat.values], None)
        self._take_perturbations()
        return norm

    def forget(self) -> None:
        """Reset the sums."""
        self.sums.zero_()

    def _merge(self, generator: torch.Generator) -> None:
        for layer, averaged in self._perturbed:
            layer.merge(self.optimiser, generator)
            if averaged is not layer:
                averaged.load_state_dict(layer.state_dict())

    def _take_perturbations(self) -> None:
        """Copy perturbations instead of averaging them: a perturbation means nothing next to another matrix."""
        for layer, averaged in self._perturbed:
            if averaged is not layer:
                averaged.u.copy_(layer.u)
                averaged.v.copy_(layer.v)
