"""The koopman family: an autoencoder with a linear operator in between, as large as the dynamics Linearizer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality
from linearizer_core.experiment.families.dynamics import DynamicsFamily, moving, moving_keys
from linearizer_core.experiment.families.motion import motion_of, prediction_losses
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.models.base import Event
from linearizer_core.models.dynamics import KoopmanAutoencoder, Moving, of_size


class KoopmanBaseline(DynamicsFamily):
    """A Koopman autoencoder with as many values, and as wide an operator, as the same configuration's Linearizer.

    Its latents have as many dimensions as the Linearizer's operator has rank. It learns what the Linearizer learns, and
    to reconstruct, which an invertible g does by construction.
    """

    terms = (*DynamicsFamily.terms, "reconstruction")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> KoopmanAutoencoder:  # type: ignore[override]
        compared = DynamicsFamily().build(config, event, classes)
        rank = config.model.operator.rank or compared.operator().shape[0]
        model = replace(config.model, operator=replace(config.model.operator, rank=0))

        def build(width: int) -> KoopmanAutoencoder:
            flow = config.model.flow
            between = core("dynamics", model, (rank, 1, 1))
            return KoopmanAutoencoder(
                between, event, motion_of(config), width=width, depth=flow.depth, activation=flow.activation
            )

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            return of_size(build, fitted_values(compared))

    def losses(self, model: Moving, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The terms of ``prediction_losses`` with reconstruction, for a batch ``(batch, *event)`` of images."""
        return prediction_losses(model, images, config, draws, reconstruct=True)

    @torch.no_grad()
    def evaluate(self, model: Moving, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        return moving(model, config, data)

    def summary_keys(self, config: TrialConfig) -> list[str]:
        return moving_keys(config)
