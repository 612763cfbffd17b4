"""From a trial's configuration to its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from linearizer_core.config import EvaluateConfig, ModelConfig
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.flows import Invertible, Labelled, build_flow
from linearizer_core.operators import TimeDense, TimeFactors, TimeLowRank, TimeOperator


def build_diffusion(
    model: ModelConfig, evaluate: EvaluateConfig, event: tuple[int, int, int], seed: int
) -> LinearDiffusion:
    """A diffusion model for images ``event`` = ``(channels, height, width)`` with weights fixed by ``seed``."""
    dim = event[0] * event[1] * event[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        g_x, g_y = _networks(model, event)
        kinds: dict[str, Callable[[], TimeOperator]] = {
            "time_lowrank": lambda: TimeLowRank(dim, model.operator.rank),
            "time_factors": lambda: TimeFactors(dim, model.operator.rank),
            "time_dense": lambda: TimeDense(dim),
        }
        operator = kinds[model.operator.kind]()
    return LinearDiffusion(g_x, g_y, operator, event, evaluate.end)


def _networks(model: ModelConfig, event: tuple[int, int, int]) -> tuple[Invertible, Invertible]:
    """g_x and g_y; a shared network is told by its label which it is, as the paper's models are."""
    if model.noise_flow == "shared":
        network = build_flow(model.flow, event, labelled=True)
        return Labelled(network, 1.0), Labelled(network, 0.0)
    noise = replace(model.flow, kind="identity") if model.noise_flow == "identity" else model.flow
    return build_flow(model.flow, event), build_flow(noise, event)
