"""A family's loss in the form that a training step differentiates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from linearizer_core.experiment.configuration import LossConfig, TrialConfig
from linearizer_core.experiment.draws import Draws, dequantised
from linearizer_core.experiment.families import Family
from linearizer_core.experiment.workers import LOST
from linearizer_core.flows.conditioners import Conditioner, in_precision
from linearizer_core.flows.recompute import deferred
from linearizer_core.models.base import Model
from linearizer_core.operators.rank_one import RankOneLayer


class Losses:
    """A family's loss of a model on images with the configured noise, compiled if so configured.

    With several workers, one whose numbers diverge does not raise while others wait for it: the error goes into
    ``lost``, and from then on its loss and all gradients are NaN.
    """

    def __init__(self, family: Family, model: Model, config: TrialConfig) -> None:
        self.model = model
        self.lost: list[Exception] = []
        self.precision = torch.bfloat16 if config.train.precision == "bfloat16" else None
        self._family, self._config = family, config
        self._perturbed = perturbed(model)
        self._conditioners = [module for module in model.modules() if isinstance(module, Conditioner)]
        self._terms = torch.compile(family.losses, dynamic=False) if config.train.compile else family.losses

    def __call__(self, images: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its terms without gradients, for this worker's rows ``(batch, *event)`` of images."""
        images = dequantised(images, self._config.train.dequantise, self.model.dtype, draws)
        if draws.workers.count == 1:
            return self._losses(images, draws)
        if not self.lost:
            try:
                with deferred(self.lost):
                    return self._losses(images, draws)
            except LOST as error:
                self.lost.append(error)
        if self._family.meets(self._config) and not draws.waited:
            draws.everyones(torch.full_like(images.flatten(1), math.nan))
        return math.nan * torch.stack([each.sum() for each in self.model.parameters()]).sum(), {}

    def uncompiled(self) -> None:
        """Use the uncompiled losses from now on."""
        self._terms = self._family.losses

    def _losses(self, images: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        with in_precision(self._conditioners, self.precision):
            terms = self._terms(self.model, images, self._config, draws)
        loss = total_loss(terms, self._config.train.loss)
        for layer in self._perturbed:
            loss = loss + layer.penalty()
        return loss, {name: term.detach() for name, term in terms.items()}


def perturbed(model: nn.Module) -> list[RankOneLayer]:
    """The layers of a model that are trained by perturbations merged at intervals."""
    return [module for module in model.modules() if isinstance(module, RankOneLayer)]


def total_loss(terms: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """The weighted sum of the terms; raises ``ValueError`` if there are none.

    Terms without a configured weight, such as a plugin's own, have weight 1.
    """
    if not terms:
        raise ValueError("every weight of train.loss is zero: there is nothing to train")
    weighted = [getattr(weights, name, 1.0) * term for name, term in terms.items()]
    return reduce(torch.add, weighted)
