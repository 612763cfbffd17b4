"""The diffusion family: noise to images by flow matching in the induced space (arXiv 2510.08570, section 4.1)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import EvaluateConfig, ModelConfig, TrainConfig, TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    BITS_KEYS,
    COUNTED,
    GRID_IMAGES,
    Curve,
    Evaluation,
    Quality,
    as_sampled,
    bits_per_dim,
    capped_psnr,
    in_batches,
    megaflops,
    sampling_noise,
    score_keys,
    scores,
    step_counts,
    step_keys,
    sureness_keys,
    timed,
)
from linearizer_core.experiment.families.base import DIFFUSION_OPERATORS, Family
from linearizer_core.experiment.families.linear import (
    GRID_ROWS,
    SPECTRUM_KEYS,
    WAY,
    linearity,
    linearity_keys,
    lipschitz,
    spectrum,
)
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import Invertible, Labelled
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.grids import GRIDS
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.gaussianity import gaussianity
from linearizer_core.metrics.linearity import idempotency
from linearizer_core.metrics.perceptual import distance
from linearizer_core.models.base import Event
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.operators import AffineOperator, LinearOperator
from linearizer_core.solvers import SOLVERS
from linearizer_core.space import InducedSpace


class Diffusion(Family):
    """A Linearizer from noise to images, whose sampler collapses to one operator."""

    operators = DIFFUSION_OPERATORS
    terms = ("flow", "noise", "data", "endpoint", "likelihood", "whitening")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> LinearDiffusion:
        return build_diffusion(config.model, config.evaluate, event, config.init_seed)

    @torch.no_grad()
    def initialise(
        self, model: LinearDiffusion, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        latents = model.g_x.initialise(images)
        model.g_y.initialise(noise)
        model.operator.initialise(latents)

    def losses(self, model: LinearDiffusion, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        return diffusion_losses(model, images, config.train, draws)

    def meets(self, config: TrialConfig) -> bool:
        return config.train.loss.whitening > 0

    @torch.no_grad()
    def sample(self, model: LinearDiffusion, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        generate = _collapsed(model, config.evaluate)
        return in_batches(generate, model.noise(count, generator))

    @torch.no_grad()
    def interim(
        self, model: LinearDiffusion, config: TrialConfig, data: ImageData, quality: Quality
    ) -> dict[str, float]:
        generator = sampling_noise(config)
        samples = self.sample(model, config.evaluate.samples, config, generator)
        measured = scores(quality, samples, "collapsed", ["quality"])
        return measured | as_sampled(measured, config.evaluate, "collapsed")

    @torch.no_grad()
    def evaluate(self, model: LinearDiffusion, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        evaluate = config.evaluate
        solver, grid = SOLVERS[evaluate.solver], GRIDS[evaluate.grid]
        noise = model.noise(evaluate.samples, sampling_noise(config))

        def step(steps: int) -> Tensor:
            return in_batches(lambda x0: model.sample_stepping(x0, steps, solver, grid, evaluate.temperature), noise)

        stepping = step_counts(step, evaluate, quality, model.device)
        generate = _collapsed(model, evaluate)
        samples, milliseconds = timed(model.device, lambda: in_batches(generate, noise))
        summary = stepping.summary | scores(quality, samples, "collapsed")
        summary |= as_sampled(summary, evaluate, "collapsed") | quality.sureness(samples)
        summary |= {"cost/sample_ms_collapsed": milliseconds, "cost/params": float(fitted_values(model))}
        summary["cost/sample_mflop_collapsed"] = megaflops(generate, noise[:COUNTED])
        curves = stepping.curves | {
            "nfe/collapse_psnr": _collapse_gap(model, config, noise, stepping.images, samples),
            "nfe/finest_psnr": Curve(
                list(evaluate.steps), [capped_psnr(stepping.images[k], samples) for k in evaluate.steps]
            ),
        }
        summary["linearity/collapse_psnr"] = curves["nfe/collapse_psnr"].values[-1]
        measured = generate if evaluate.tempered else _collapsed(model, replace(evaluate, temperature=1.0))
        inverted, inversion_grids = _inversion(model, measured, data.validation, evaluate)
        held_out = data.validation[: evaluate.held_out].to(model.device)
        summary |= inverted | linearity(measured, noise[: evaluate.held_out], held_out)
        summary |= lipschitz({"g_x": (model.g_x, held_out), "g_y": (model.g_y, noise)})
        singular = measured.operator.singular_values()
        along = _along(model)
        summary |= spectrum(measured.operator)
        if not evaluate.tempered:
            # Where A is 0, the operator is a multiple of the identity, whose singular values say nothing about A.
            acting = spectrum(_acting(model, measured, 1.0))
            summary |= {key: acting[key] for key in SPECTRUM_KEYS if key != "spectrum/condition"}
        summary["spectrum/operator_rank"] = float(max(operator.rank() for operator in along.values()))
        if measured.operator.rank() < measured.operator.shape[0]:
            summary |= dict.fromkeys(BITS_KEYS, math.nan)  # there is no density
        else:
            summary |= bits_per_dim(
                lambda x: model.log_likelihood(x.to(model.device), measured.operator).double().cpu(),
                data,
                evaluate.held_out,
            )
        grids = stepping.grids() | {"collapsed": samples[:GRID_IMAGES].cpu()} | inversion_grids
        grids |= _pictures(model, generate, held_out)
        spectra = {"collapsed": singular.cpu()} | {name: each.singular_values().cpu() for name, each in along.items()}
        return Evaluation(summary, curves, grids, spectra)

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return [f"quality/{name}_{how}" for how in ("collapsed", "sampled") for name in config.evaluate.quality]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        keys = [*score_keys(config.evaluate, "collapsed"), *score_keys(config.evaluate, "sampled")]
        keys += step_keys(config.evaluate) + sureness_keys(config.evaluate)
        keys += ["cost/sample_ms_collapsed", "cost/sample_mflop_collapsed", "cost/params", "linearity/collapse_psnr"]
        keys += INVERSION_KEYS + linearity_keys() + LIPSCHITZ_KEYS
        return keys + SPECTRUM_KEYS + ["spectrum/operator_rank"] + BITS_KEYS


INVERSION_KEYS = [f"linearity/{name}" for name in (
    "inversion_psnr", "inversion_images", "projection_idempotency",
    "noise_norm_ratio", "noise_mean", "noise_deviation", "noise_kurtosis", "noise_ks",
    "noise_active_norm_ratio", "noise_active_kurtosis", "noise_active_ks",
)]  # fmt: skip
LIPSCHITZ_KEYS = [f"linearity/lipschitz_{name}" for name in ("g_x", "g_x_inverse", "g_y", "g_y_inverse")]


def build_diffusion(
    model: ModelConfig, evaluate: EvaluateConfig, event: tuple[int, int, int], seed: int
) -> LinearDiffusion:
    """A diffusion model for images ``event`` = ``(channels, height, width)`` with weights fixed by ``seed``."""
    if model.operator.kind == "time_diagonal":
        # Whatever couplings mix into coordinates that A then annihilates is lost, so they act on those that it keeps.
        coordinates = min(model.flow.coordinates, max(2, model.operator.rank))
        model = replace(model, flow=replace(model.flow, coordinates=coordinates))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        g_x, g_y = _networks(model, event)
        operator = core("diffusion", model, event)
    return LinearDiffusion(g_x, g_y, operator, event, evaluate.end)


def _networks(model: ModelConfig, event: tuple[int, int, int]) -> tuple[Invertible, Invertible]:
    """g_x and g_y; a shared network is told by its label which of the two it is, as in the paper's models."""
    if model.noise_flow == "shared":
        network = build_flow(model.flow, event, labelled=True)
        return Labelled(network, 1.0), Labelled(network, 0.0)
    noise = replace(model.flow, kind="identity") if model.noise_flow == "identity" else model.flow
    return build_flow(model.flow, event), build_flow(noise, event)


def diffusion_losses(model: LinearDiffusion, images: Tensor, train: TrainConfig, draws: Draws) -> dict[str, Tensor]:
    """The loss terms for a batch ``(batch, *event)``; all but ``whitening`` are means over batch and dimensions.

    z_t = (1-t) z0 + t z1 and ẑ1 = A(t) z_t; the likelihood is that of both ends up to a constant.
    """
    weights = train.loss
    measure = distance(train.distance)
    x1, x0 = images, draws.normal(images)
    z1, log_det1 = model.g_x(x1)
    z0, log_det0 = model.g_y(x0)
    t = times(train.time, draws, images)
    terms: dict[str, Tensor] = {}
    # Next to a likelihood the flow term would shrink the latents, since smaller ones are easier to predict.
    apart = train.detach and weights.likelihood > 0
    if weights.flow and apart:
        ends = z0.detach(), z1.detach()
        terms["flow"] = (model.operator(t, torch.lerp(*ends, t[:, None])) - ends[1]).square().mean()
    predicted = z1 if apart and not weights.endpoint else model.operator(t, torch.lerp(z0, z1, t[:, None]))
    if weights.flow and not apart:
        terms["flow"] = (predicted - z1).square().mean()
    if weights.noise:
        decoded = model.g_y.inverse(z0 + train.sigma * draws.normal(z0))[0]
        terms["noise"] = (decoded - x0).square().mean()
    # One inverse pass of g_x for both: the network is small, and most of its cost is per call.
    latents = [z1 + train.sigma * draws.normal(z1)] if weights.data else []
    latents += [predicted] if weights.endpoint else []
    if latents:
        decoded_images = model.g_x.inverse(torch.cat(latents))[0].split(len(images))
        errors = [measure(image, x1) for image in decoded_images]
        names = [name for name, weight in (("data", weights.data), ("endpoint", weights.endpoint)) if weight]
        terms.update(zip(names, errors, strict=True))
    if weights.likelihood:
        squares = z1.square().mean() + z0.square().mean()
        terms["likelihood"] = 0.5 * squares - (log_det1.mean() + log_det0.mean()) / z1.shape[1]
    if weights.whitening:
        whole = whiteness(draws.everyones(z1))
        # This worker has no gradient for the others' rows, and averaging gradients divides by the number of workers.
        count = draws.workers.count
        terms["whitening"] = count * whole - (count - 1) * whole.detach()
    return terms


def times(kind: str, draws: Draws, like: Tensor) -> Tensor:
    """Training times in (0, 1), ``(batch,)``: uniform, or the logistic of a standard normal (Esser et al., 2024).

    There is one per row of ``like``, in its dtype.
    """
    rows = like.new_empty(len(like))
    return draws.normal(rows).sigmoid() if kind == "logit_normal" else draws.uniform(rows)


def whiteness(z: Tensor) -> Tensor:
    """An unbiased estimate of (‖mean‖² + ‖C - I‖_F²) / dim for latents ``(batch, dim)`` with second moment C.

    It uses products of different rows only: a batch's own C is far from I even if the latents are white.
    """
    count, dim = z.shape
    products = z @ z.T
    own = products.diagonal()
    pairs = count * (count - 1)
    mean_squared = (products.sum() - own.sum()) / pairs
    moment_squared = (products.square().sum() - own.square().sum()) / pairs
    return (mean_squared + moment_squared - 2 * own.mean() + dim) / dim


def _collapsed(model: LinearDiffusion, evaluate: EvaluateConfig, steps: int | None = None) -> Linearizer:
    """The one-step generator of the finest grid, or of ``steps`` steps, at the configured temperature."""
    operator = model.collapse(steps or evaluate.steps[-1], SOLVERS[evaluate.solver], GRIDS[evaluate.grid])
    return model.generator(operator.scale(evaluate.temperature))


def _collapse_gap(
    model: LinearDiffusion, config: TrialConfig, noise: Tensor, stepped: dict[int, Tensor], finest: Tensor
) -> Curve:
    """For each k, the PSNR between k steps and the single operator that they collapse to.

    ``finest`` are the images of the operator that the most steps collapse to.
    """
    values = [
        capped_psnr(finest if k == max(stepped) else in_batches(_collapsed(model, config.evaluate, k), noise), images)
        for k, images in stepped.items()
    ]
    return Curve(list(stepped), values)


def _inversion(
    model: LinearDiffusion, generate: Linearizer, images: Tensor, evaluate: EvaluateConfig
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Invert held-out images to noise and back: how exact it is, and how Gaussian the noise is."""
    images = images[: evaluate.held_out].to(model.device)
    back = generate.pinv()
    noise = in_batches(back, images)
    again = in_batches(generate, noise)
    temperature = evaluate.temperature if evaluate.tempered else 1.0
    gaussian, active = gaussianity(noise), gaussianity(_active(model, generate, noise, temperature))
    measured = {
        "inversion_psnr": capped_psnr(again, images),
        "inversion_images": float(len(images)),
        # generate ∘ generate⁺ is a projector on images: applying it once more must change nothing.
        "projection_idempotency": idempotency(lambda x: in_batches(generate, in_batches(back, x)), images),
        "noise_norm_ratio": gaussian.norm_ratio,
        "noise_mean": gaussian.mean,
        "noise_deviation": gaussian.deviation,
        "noise_kurtosis": gaussian.kurtosis,
        "noise_ks": gaussian.ks,
        "noise_active_norm_ratio": active.norm_ratio,
        "noise_active_kurtosis": active.kurtosis,
        "noise_active_ks": active.ks,
    }
    pairs = torch.stack([images[: GRID_IMAGES // 2], again[: GRID_IMAGES // 2]], 1).flatten(0, 1)
    return {f"linearity/{name}": value for name, value in measured.items()}, {"reconstruction": pairs.cpu()}


def _active(model: LinearDiffusion, generate: Linearizer, noise: Tensor, temperature: float) -> Tensor:
    """Latents of noise along the directions in which A acts, ``(batch, rank)``.

    In the others the generator is 1 - end times the identity, and its inverse divides by that.
    """
    acting = _acting(model, generate, temperature)
    directions = acting.svd(max(1, acting.rank())).v
    return in_batches(lambda x: model.g_y(x)[0] @ directions, noise)


def _acting(model: LinearDiffusion, generate: Linearizer, temperature: float) -> AffineOperator | LinearOperator:
    """B minus the multiple of the identity that it equals where A is 0."""
    return generate.operator.shift(-temperature * (1 - model.end))


def _along(model: LinearDiffusion) -> dict[str, LinearOperator]:
    """A(t) at five times in [0, end], by name."""
    times = torch.linspace(0, model.end, 5, device=model.device, dtype=model.dtype)
    operators = [step[0] for step in model.operator.at(times[:, None])]
    return {f"A(t={time:.3g})": operator for time, operator in zip(times.tolist(), operators, strict=True)}


def _pictures(model: LinearDiffusion, generate: Linearizer, images: Tensor) -> dict[str, Tensor]:
    """Interpolations of pairs of images, one row each, and the leading left singular vectors as images."""
    count = min(GRID_ROWS, len(images) // 2)
    space = InducedSpace(model.g_x)
    ways = [space.lerp(images[:count], images[count : 2 * count], weight) for weight in WAY]
    vectors = generate.svd(min(GRID_IMAGES // 4, generate.operator.shape[0])).left
    return {"interpolation": torch.stack(ways, 1).flatten(0, 1).cpu(), "singular_vectors": vectors.cpu()}
