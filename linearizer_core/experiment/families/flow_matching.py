"""The flow-matching family: an ordinary network of the same size as the Linearizer it is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.families.baseline import Baseline
from linearizer_core.experiment.families.diffusion import times
from linearizer_core.flows.conditioners import Conditioner
from linearizer_core.flows.principal_axes import LeadingAxes
from linearizer_core.grids import GRIDS
from linearizer_core.models.base import Event
from linearizer_core.models.flow_matching import FlowMatching
from linearizer_core.solvers import SOLVERS


class FlowMatchingBaseline(Baseline):
    """Flow matching by a network with the size and frame of the same configuration's diffusion Linearizer."""

    def model(self, network: Conditioner, event: Event, told: int, frame: LeadingAxes | None) -> FlowMatching:
        return FlowMatching(network, event, told, frame)

    def losses(self, model: FlowMatching, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """‖v(x_t, t) - (x1 - x0)‖², a mean over the batch and the dimensions (Lipman et al., 2023, equation 23)."""
        x1 = model.encode(images)
        x0 = draws.normal(x1)
        t = times(config.train.time, draws, x1)
        between = torch.lerp(x0, x1, t.view(-1, *[1] * (x1.ndim - 1)))
        return {"flow": (model.velocity(t, between, draws.groups) - (x1 - x0)).square().mean()}

    def step(
        self, model: FlowMatching, config: TrialConfig, noise: Tensor, which: Tensor, steps: int, temperature: float
    ) -> Tensor:
        solver, grid = SOLVERS[config.evaluate.solver], GRIDS[config.evaluate.grid]
        return model.sample_stepping(noise, steps, solver, grid, which, temperature)
