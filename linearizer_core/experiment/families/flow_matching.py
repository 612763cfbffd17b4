"""The flow-matching family: an ordinary network as large as the Linearizer that it is compared with."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    SAMPLE_SEED,
    Evaluation,
    Quality,
    in_batches,
    scores,
    step_counts,
    step_keys,
)
from linearizer_core.experiment.families.affine import AffineDiffusionFamily
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.diffusion import Diffusion, times
from linearizer_core.flows.conditioners import parameters
from linearizer_core.grids import GRIDS
from linearizer_core.models.base import Event
from linearizer_core.models.flow_matching import FlowMatching, velocity_network
from linearizer_core.solvers import SOLVERS


class FlowMatchingBaseline(Family):
    """Flow matching in pixels by a network of the size of the same configuration's diffusion Linearizer."""

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> FlowMatching:
        compared = AffineDiffusionFamily() if config.model.operator.kind == "affine" else Diffusion()
        size = parameters(compared.build(config, event, classes))
        flow = config.model.flow
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = velocity_network(
                event,
                size,
                convolutional=flow.conditioner != "mlp",
                depth=flow.depth,
                activation=flow.activation,
                attention=flow.attention,
            )
        return FlowMatching(network, event)

    def initialise(
        self, model: FlowMatching, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        """Nothing starts from data."""

    def losses(self, model: FlowMatching, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """‖v(x_t, t) - (x1 - x0)‖², a mean over the batch and the dimensions (Lipman et al., 2023, equation 23)."""
        noise = draws.normal(images)
        t = times(config.train.time, draws, images)
        between = torch.lerp(noise, images, t.view(-1, 1, 1, 1))
        return {"flow": (model.velocity(t, between) - (images - noise)).square().mean()}

    @torch.no_grad()
    def sample(self, model: FlowMatching, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Images by the configuration's most steps: there is no operator to collapse to."""
        return self._step(model, config, model.noise(count, generator), config.evaluate.steps[-1])

    def _step(self, model: FlowMatching, config: TrialConfig, noise: Tensor, steps: int) -> Tensor:
        solver, grid = SOLVERS[config.evaluate.solver], GRIDS[config.evaluate.grid]
        return in_batches(lambda x0: model.sample_stepping(x0, steps, solver, grid), noise)

    @torch.no_grad()
    def interim(self, model: FlowMatching, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        samples = self.sample(model, config.evaluate.samples, config, generator)
        return scores(quality, samples, f"k{config.evaluate.steps[-1]}", ["quality"])

    @torch.no_grad()
    def evaluate(self, model: FlowMatching, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        noise = model.noise(config.evaluate.samples, torch.Generator().manual_seed(SAMPLE_SEED))
        stepping = step_counts(partial(self._step, model, config, noise), config.evaluate, quality, model.device)
        finest = config.evaluate.steps[-1]
        summary = stepping.summary | scores(quality, stepping.images[finest], f"k{finest}", ["test"])
        summary["cost/params"] = float(parameters(model))
        return Evaluation(summary, stepping.curves, stepping.grids())

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return [f"quality/{name}_k{config.evaluate.steps[-1]}" for name in config.evaluate.quality]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        tested = [f"test/{name}_k{config.evaluate.steps[-1]}" for name in config.evaluate.quality]
        return step_keys(config.evaluate) + tested + ["cost/params"]
