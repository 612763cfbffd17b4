"""The regression family: an ordinary network that restores images, of the same size as the inverse Linearizer."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.data.degrade import DEGRADATIONS
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality, capped_psnr, in_batches, timed
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.inverse import Inverse
from linearizer_core.experiment.families.linear import GRID_ROWS
from linearizer_core.experiment.families.restoration import (
    fidelity,
    fidelity_keys,
    measurement,
    pairs,
    restoration_references,
    shown,
)
from linearizer_core.experiment.networks import on_vectors
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.metrics.perceptual import distance
from linearizer_core.models.base import Event
from linearizer_core.models.regression import Regression
from linearizer_core.models.velocity_networks import velocity_network


class RegressionBaseline(Family):
    """A network with as many values as the same configuration's inverse Linearizer, trained on restoration alone."""

    operators = Inverse.operators
    terms = ("restoration",)

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> Regression:
        flow, filled = config.model.flow, DEGRADATIONS[config.data.degraded].filled
        size = fitted_values(Inverse().build(config, event, classes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            network = velocity_network(
                event,
                size,
                convolutional=not on_vectors(flow),
                depth=flow.depth,
                activation=flow.activation,
                attention=flow.attention,
            )
        return Regression(network, lambda y: filled(y, event), event, measurement(config))

    def initialise(
        self, model: Regression, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        pass  # nothing is initialised from data

    def losses(self, model: Regression, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """d(x, N(y)) for a batch ``(batch, *event)`` of images, with measurements y whose noise is drawn each time."""
        made = model(model.measure(images, draws.normal))
        return {"restoration": distance(config.train.distance)(made, images)}

    @torch.no_grad()
    def sample(self, model: Regression, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Restored images of the validation split, ``(count, *event)``, chosen by the generator."""
        images = load(config.data).validation
        chosen = torch.randint(len(images), (count,), generator=generator, device=generator.device)
        return in_batches(model, model.measure.drawn(images[chosen.cpu()].to(model.device, model.dtype), generator))

    @torch.no_grad()
    def interim(self, model: Regression, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        images, measured = (each.to(model.device) for each in pairs(config, data)["quality"])
        return {"quality/psnr_collapsed": capped_psnr(shown(in_batches(model, measured)), images)}

    @torch.no_grad()
    def evaluate(self, model: Regression, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        summary, grids = {"cost/params": float(fitted_values(model))}, {}
        for split, both in pairs(config, data).items():
            images, measured = (each.to(model.device) for each in both)
            made, milliseconds = timed(model.device, partial(in_batches, model, measured))
            summary |= fidelity(split, "collapsed", made, images) | {"cost/sample_ms_collapsed": milliseconds}
            clean = model.measure(images)
            summary[f"{split}/psnr_remeasured"] = capped_psnr(model.measure(shown(made)), clean)
            columns = [images, DEGRADATIONS[config.data.degraded].filled(measured, model.event), made]
            rows = torch.stack([shown(each[:GRID_ROWS]) for each in columns], 1)
            grids = {"restoration": rows.flatten(0, 1).cpu()}
        return Evaluation(summary, grids=grids)

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        return restoration_references(config, data)

    def metrics(self, config: TrialConfig) -> tuple[str, ...]:
        return ()

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return ["quality/psnr_collapsed"]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        keys = [*fidelity_keys("collapsed"), "quality/psnr_remeasured", "test/psnr_remeasured"]
        return [*keys, "cost/params", "cost/sample_ms_collapsed"]
