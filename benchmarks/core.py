"""The gains from the core's structures, each compared with a plain version or another library in the same run.

- ``collapse_d1024``, ``collapse_d12288``: collapsing 100 Euler steps at rank 8, compared with multiplying the matrices
  of the same steps. The larger one is extrapolated from two steps on some of the columns.
- ``apply_speed``, ``apply_memory``: the operator L(t) R(t)ᵀ of rank 8 in 1,024 dimensions on 256 latents, each at its
  own time, with gradients, compared with forming a matrix per latent as the paper's implementation does.
- ``coupling_vs_…``, ``coupling_small_vs_…``: the likelihood of eight affine couplings, its gradients, and decoding the
  latents without gradients, compared with other libraries' couplings of the same size.
- ``recompute_memory``: a training step of a flow of 32 blocks that recomputes its activations, compared with storing
  them; ``recompute_speed`` is the price in time.
- ``collapsed_vs_100_steps``: sampling by one application of the collapsed operator, compared with taking 100 steps.

Ratios say how many times better ours is. Everything runs on one thread: the amount of work is compared, not scheduling.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from peers.couplings import PEERS, our_stack
from peers.dense import euler_steps, per_sample
from peers.measure import best_seconds, median_seconds, peak_bytes, seconds
from torch import Tensor, nn

from linearizer_core.experiment.configuration import EvaluateConfig, FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.experiment.families.diffusion import build_diffusion
from linearizer_core.flows import ActNorm, AffineCoupling, Chain, Invertible, LUMixing
from linearizer_core.flows.conditioners import ConvNet
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.operators import TimeFactors
from linearizer_core.solvers import EULER

STEPS, RANK, BATCH = 100, 8, 256


def perturb(module: nn.Module, scale: float) -> None:
    """Perturb every parameter, so that nothing has a special initial value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def check(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Exit unless both sides of a comparison compute the same."""
    error = float((ours - theirs).norm() / theirs.norm())
    print(f"{what}: results differ by {error:.1e} relative")
    if not error < 1e-4:
        raise SystemExit(f"{what}: the two sides are not the same")


def diffusion(side: int, channels: int, flow: FlowConfig) -> LinearDiffusion:
    """A diffusion model on square images, with a perturbed operator."""
    config = ModelConfig(flow=flow, operator=OperatorConfig(rank=RANK))
    model = build_diffusion(config, EvaluateConfig(), (channels, side, side), seed=0)
    perturb(model.operator, 0.02)
    return model.eval()


def collapse() -> dict[str, float]:
    """Collapsing compared with products of matrices in 1,024 dimensions, computed in full on both sides."""
    model = diffusion(32, 1, FlowConfig(kind="identity"))
    identity = torch.eye(model.operator.dim)
    check("collapse, dimension 1,024", model.collapse(STEPS, EULER).to_dense(), euler_steps(model, STEPS, identity))
    fast = best_seconds(lambda: model.collapse(STEPS, EULER), 5)
    dense = seconds(lambda: euler_steps(model, STEPS, identity))
    print(f"collapse of {STEPS} steps at rank {RANK}, dimension 1,024: {1e3 * fast:.1f} ms, dense {1e3 * dense:.0f} ms")
    return {"collapse_d1024": dense / fast}


def large_collapse(steps: int = 2, count: int = 256) -> dict[str, float]:
    """The same in 12,288 dimensions, with few steps and columns on the dense side."""
    model = diffusion(64, 3, FlowConfig(kind="identity"))
    dim = model.operator.dim
    columns = torch.randn(dim, count, generator=torch.Generator().manual_seed(0))
    check(
        f"collapse, dimension {dim:,}",
        model.collapse(steps, EULER).apply(columns.T).T,
        euler_steps(model, steps, columns),
    )
    fast = best_seconds(lambda: model.collapse(STEPS, EULER), 5)
    # Leaving out nearly all columns separates the cost that does not depend on them, that of forming the matrices.
    block, column = (seconds(lambda c=c: euler_steps(model, steps, c)) for c in (columns, columns[:, :1]))
    dense = STEPS / steps * (column + (block - column) * (dim - 1) / (count - 1))
    print(
        f"collapse of {STEPS} steps at rank {RANK}, dimension {dim:,}: {1e3 * fast:.1f} ms, dense {dense:,.0f} s, "
        f"extrapolated from {steps} steps on {count} columns ({block:.2f} s) and on one ({column:.2f} s)"
    )
    return {"collapse_d12288": dense / fast}


def apply() -> dict[str, float]:
    """The operator in training, compared with a matrix per latent."""
    torch.manual_seed(0)
    operator = TimeFactors(1024, RANK)
    perturb(operator, 0.02)
    t, z = torch.rand(BATCH), torch.randn(BATCH, operator.dim, requires_grad=True)

    def step(apply: Callable[[Tensor, Tensor], Tensor]) -> None:
        operator.zero_grad()
        z.grad = None
        (apply(t, z) - 1).square().mean().backward()

    def gradients(apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        step(apply)
        return torch.cat([p.grad.flatten() for p in (z, *operator.parameters()) if p.grad is not None])

    sides = {"ours": operator, "dense": partial(per_sample, operator)}
    check("operator applied in training", *(gradients(apply) for apply in sides.values()))
    memory = {name: peak_bytes(lambda apply=apply: step(apply)) for name, apply in sides.items()}
    times = {"ours": best_seconds(lambda: step(operator), 5), "dense": seconds(lambda: step(sides["dense"]))}
    print(
        f"operator of rank {RANK} on {BATCH} latents of dimension {operator.dim:,}, forward and backward: "
        f"{1e3 * times['ours']:.1f} ms and {memory['ours'] / 1e6:.0f} MB, with a matrix for each "
        f"{1e3 * times['dense']:.0f} ms and {memory['dense'] / 1e6:,.0f} MB"
    )
    return {"apply_speed": times["dense"] / times["ours"], "apply_memory": memory["dense"] / memory["ours"]}


def couplings(dim: int, width: int, repeats: int, prefix: str) -> dict[str, float]:
    """A stack of eight couplings compared with other libraries': one training step and one inverse pass."""
    torch.manual_seed(0)
    stacks = {"ours": our_stack(dim, width), **{name: build(dim, width) for name, build in PEERS.items()}}
    x = torch.randn(BATCH, dim)
    for name, stack in stacks.items():
        error = stack.round_trip(x)
        if not error < 1e-3:
            raise SystemExit(f"{name}: decoding does not undo encoding: {error:.1e}")
    times = median_seconds({name: partial(stack.train, x) for name, stack in stacks.items()}, repeats)
    print(
        f"eight affine couplings, dimension {dim}, width {width}, batch {BATCH}: gradients of the likelihood, inverse"
    )
    for name, stack in stacks.items():
        print(f"  {name:9} {1e3 * times[name]:7.2f} ms, {stack.parameters:,} parameters")
    return {f"{prefix}_vs_{name}": times[name] / times["ours"] for name in PEERS}


def recompute(depth: int = 32) -> dict[str, float]:
    """A convolutional flow's training step with recomputed activations, compared with stored ones."""
    channels, width, images = 12, 64, 32
    conditioner = partial(ConvNet, width=width, activation="relu", kernel=3)

    torch.manual_seed(0)
    maps: list[Invertible] = []
    for _ in range(depth):
        maps += [ActNorm(channels), AffineCoupling(channels, conditioner), LUMixing(channels)]
    chain = Chain(maps)
    perturb(chain, 0.01)
    x = torch.randn(images, channels, 16, 16)

    def step(memory: Literal["store", "recompute"]) -> None:
        chain.memory = memory
        chain.zero_grad()
        z, log_det = chain(x)
        (0.5 * z.square().flatten(1).sum(1) - log_det).mean().backward()

    def gradients(memory: Literal["store", "recompute"]) -> Tensor:
        step(memory)
        return torch.cat([p.grad.flatten() for p in chain.parameters() if p.grad is not None])

    sides: tuple[Literal["recompute"], Literal["store"]] = ("recompute", "store")
    check(f"flow of {depth} blocks", *(gradients(memory) for memory in sides))
    peak = {memory: peak_bytes(partial(step, memory)) for memory in sides}
    times = median_seconds({memory: partial(step, memory) for memory in sides}, 2)
    print(
        f"training step of {depth} blocks on {images} images of {channels}×16×16: "
        + ", ".join(f"{memory} {peak[memory] / 1e6:,.0f} MB and {times[memory]:.2f} s" for memory in sides)
    )
    return {
        "recompute_memory": peak["store"] / peak["recompute"],
        "recompute_speed": times["store"] / times["recompute"],
    }


def sampling() -> dict[str, float]:
    """Sampling in one application, compared with sampling in steps."""
    model = diffusion(32, 1, FlowConfig(depth=4))
    generate = model.generator(model.collapse(STEPS, EULER))
    noise = model.noise(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        check("images of one application and of 100 steps", generate(noise), model.sample_stepping(noise, STEPS, EULER))
        one = best_seconds(lambda: generate(noise), 5)
        many = best_seconds(lambda: model.sample_stepping(noise, STEPS, EULER), 3)
    print(f"64 images: one application {1e3 * one:.1f} ms, {STEPS} steps {1e3 * many:.1f} ms")
    return {"collapsed_vs_100_steps": many / one}


def main() -> None:
    torch.set_num_threads(1)
    sections: list[Callable[[], dict[str, float]]] = [
        collapse,
        large_collapse,
        apply,
        partial(couplings, 784, 512, 15, "coupling"),
        partial(couplings, 8, 32, 100, "coupling_small"),
        recompute,
        sampling,
    ]
    figures: dict[str, float] = {}
    for section in sections:
        figures |= section()
    print(json.dumps({name: float(f"{value:.3g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
