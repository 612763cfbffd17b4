"""What the structure of the collapsed operator saves, each against its plain counterpart in the same run.

``collapse_d1024``: collapsing 100 Euler steps at rank 8 in 1,024 dimensions, against multiplying the 1,024×1,024
matrices of the same steps, whose results are compared first. ``collapsed_vs_100_steps``: sampling by one application of
the collapsed operator, against taking the 100 steps. Ratios are "ours is this many times faster".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.config import EvaluateConfig, FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.models import build_diffusion
from linearizer_core.solvers import EULER

STEPS = 100
EVENT = (1, 32, 32)


def best_seconds(call: Callable[[], object], repeats: int) -> float:
    """The shortest wall time of a call, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def model_of_rank(rank: int) -> LinearDiffusion:
    """A diffusion model on 32×32 images whose operator network is not at its start."""
    config = ModelConfig(flow=FlowConfig(depth=4), operator=OperatorConfig(rank=rank))
    model = build_diffusion(config, EvaluateConfig(), EVENT, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.operator.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def dense_collapse(model: LinearDiffusion) -> Tensor:
    """The same product with every step's matrix formed."""
    h = model.end / STEPS
    product = torch.eye(model.operator.dim)
    for velocity in model.velocity_operators([i * h for i in range(STEPS)]):
        product = product + h * (velocity.to_dense() @ product)
    return product


def main() -> None:
    model = model_of_rank(8)
    structured, dense = model.collapse(STEPS, EULER).to_dense(), dense_collapse(model)
    error = float((structured - dense).norm() / dense.norm())
    print(f"collapse: structured and dense products differ by {error:.1e} relative, {torch.get_num_threads()} threads")
    if error > 1e-4:
        raise SystemExit("the two products are not the same operator")
    ours, theirs = best_seconds(lambda: model.collapse(STEPS, EULER), 5), best_seconds(lambda: dense_collapse(model), 2)
    print(f"collapse of {STEPS} steps at rank 8, dimension 1024: {1e3 * ours:.1f} ms, dense {1e3 * theirs:.1f} ms")
    figures = {"collapse_d1024": theirs / ours}

    generate = model.generator(model.collapse(STEPS, EULER))
    noise = model.noise(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        one = best_seconds(lambda: generate(noise), 5)
        many = best_seconds(lambda: model.sample_stepping(noise, STEPS, EULER), 3)
    print(f"64 images: one application {1e3 * one:.1f} ms, {STEPS} steps {1e3 * many:.1f} ms")
    figures["collapsed_vs_100_steps"] = many / one
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
