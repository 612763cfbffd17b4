"""The MeanFlow family: an ordinary network trained from scratch to sample in one step."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import EvaluateConfig, TrialConfig
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.families.baseline import Baseline
from linearizer_core.experiment.families.diffusion import times
from linearizer_core.flows.conditioners import Conditioner
from linearizer_core.flows.principal_axes import LeadingAxes
from linearizer_core.grids import GRIDS
from linearizer_core.models.base import Event
from linearizer_core.models.mean_flow import MeanFlow

INSTANTANEOUS = 0.75
"""Share of rows with r = t, where u is the velocity itself; the paper's best has 25 % of other rows (its table 1a)."""

FLOOR = 1e-3
"""c of the adaptive weight 1 / (‖Δ‖² + c): the paper's value with its best power p = 1 (its table 1e)."""


class MeanFlowBaseline(Baseline):
    """Average velocities by a network of the size of the same configuration's Linearizer, sampled in one step.

    Geng, Deng, Bai, Kolter & He, Mean Flows for One-step Generative Modeling, 2025 (arXiv 2505.13447).
    """

    times = 2

    def model(self, network: Conditioner, event: Event, told: int, frame: LeadingAxes | None) -> MeanFlow:
        return MeanFlow(network, event, told, frame)

    def headline(self, evaluate: EvaluateConfig) -> int:
        """One step; curves over steps show what more would give."""
        return 1

    def losses(self, model: MeanFlow, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """‖u(x_t, t, r) - sg(v + (r - t) du/dt)‖² with v = x1 - x0, a mean over the batch and the dimensions.

        This is its value; the gradient is that of the same squares with the adaptive weights (the paper's equations 9
        to 11 and 22, with time reversed). t and r are two training times in order.
        """
        x1 = model.encode(images)
        x0 = draws.normal(x1)
        first, second = (times(config.train.time, draws, x1) for _ in range(2))
        # Where r = t, the time is distributed as in flow matching, not as the smaller of two.
        second = torch.where(draws.uniform(first) < INSTANTANEOUS, first, second)
        t, r = torch.minimum(first, second), torch.maximum(first, second)
        across = [-1, *[1] * (x1.ndim - 1)]
        velocity = x1 - x0
        u, rate = model.with_rate(t, r, torch.lerp(x0, x1, t.view(across)), velocity, draws.groups)
        target = (velocity + (r - t).view(across) * rate).detach()
        squares = (u - target).square().flatten(1).sum(1)
        weighted = (squares / (squares.detach() + FLOOR)).mean()
        # The weighted sum is 1 whatever the error: useful for the optimiser, but not for a reader.
        return {"flow": weighted - weighted.detach() + squares.detach().mean() / x1[0].numel()}

    def step(
        self, model: MeanFlow, config: TrialConfig, noise: Tensor, which: Tensor, steps: int, temperature: float
    ) -> Tensor:
        return model.sample_stepping(noise, steps, GRIDS[config.evaluate.grid], which, temperature)
