"""The idempotent family with nested ranks: the leading coordinates of one g give a projector at every rank."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    GAUSSIAN_IMAGES,
    GRID_IMAGES,
    SAMPLE_SEED,
    Curve,
    Evaluation,
    PixelGaussian,
    Quality,
    as_sampled,
    capped_psnr,
    in_batches,
    references,
    sampling_noise,
    score_keys,
    scores,
    sureness_keys,
    timed,
)
from linearizer_core.experiment.families.affine import MEASURED_IMAGES, PASSES, cost_of, ranks_of
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.idempotent import Idempotent, fidelity, own_parts, pictures, summed
from linearizer_core.experiment.families.linear import linearity, linearity_keys, lipschitz
from linearizer_core.experiment.groups import groups
from linearizer_core.experiment.networks import build_flow
from linearizer_core.experiment.workers import present
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.metrics.linearity import idempotency
from linearizer_core.metrics.pullback import pullback_metric
from linearizer_core.metrics.spectrum import effective_rank
from linearizer_core.models.base import Event
from linearizer_core.models.nested import NestedIdempotent


class NestedIdempotentFamily(Family):
    """Projectors of every rank over one g, trained with ranks that are drawn at random, each error beside PCA's."""

    operators = Idempotent.operators
    terms = ("reconstruction", "likelihood", "shell")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> NestedIdempotent:
        several = config.model.operators
        count = {"one": 1, "label": max(classes, 1), "cluster": several.count}[several.by]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            g = build_flow(config.model.flow, event)
        model = NestedIdempotent(g, core("idempotent", config.model, event), event, count)
        model.by = several.by
        return model

    def initialise(
        self, model: NestedIdempotent, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        model.initialise(images)

    def losses(self, model: NestedIdempotent, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The terms for a batch ``(batch, *event)``.

        ``reconstruction`` is log(1 + q), with q the error ‖x - f_r(x)‖² over what PCA of rank r leaves on average and r
        drawn for each image, log-uniform in 1 … dim - 1: all ranks count alike, and no image more than others.
        ``likelihood`` is that of latents under N(0, I) a dimension, up to its constant. ``shell`` is
        log²(‖P_r g(x0)‖² / r) of pixel noise x0: latents of images have about r there, and those of noise should too.
        """
        weights, dim = config.train.loss, model.dim
        z, log_det = model.g(images)
        ranks = (dim ** draws.uniform(images[:, 0, 0, 0])).long().clamp(1, dim - 1)
        terms: dict[str, Tensor] = {}
        if weights.reconstruction:
            error = (model.nested(z, ranks) - images).flatten(1).square().mean(1)
            terms["reconstruction"] = (error / model.floor[ranks]).log1p().mean()
        if weights.likelihood:
            terms["likelihood"] = 0.5 * z.square().mean() - log_det.mean() / dim
        if weights.shell:
            noise = model.g(draws.normal(images))[0].square()
            kept = torch.arange(dim, device=noise.device) < ranks[:, None]
            terms["shell"] = ((noise * kept).sum(1) / ranks).clamp_min(1e-12).log().square().mean()
        return terms

    def settle(self, model: NestedIdempotent, data: ImageData) -> None:
        """Fit the Gaussians from which samples are drawn to at most 20,000 training images."""
        workers, which = present(), groups(model.by, model.count, data)
        parts = own_parts(data, workers)
        batches = ((data.train.batch(index), which[index.to(which.device)]) for index in parts)
        model.settle(batches, partial(summed, workers))

    @torch.no_grad()
    def sample(self, model: NestedIdempotent, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Images ``(count, *event)`` in the image of f_r, at the rank chosen on validation."""
        return _samples(model, count, config, generator, model.rank)

    @torch.no_grad()
    def interim(
        self, model: NestedIdempotent, config: TrialConfig, data: ImageData, quality: Quality
    ) -> dict[str, float]:
        """The metrics of ``interim_keys`` at the configured rank, after settling the model."""
        self.settle(model, data)
        rank = config.model.operator.rank
        samples = _samples(model, config.evaluate.samples, config, sampling_noise(config), rank)
        images = data.validation[: config.evaluate.held_out].to(model.device)
        found = {f"quality/{name}_rank": value for name, value in quality(samples).items()}
        found["quality/psnr_collapsed"] = capped_psnr(in_batches(model.projector(), images), images)
        return found

    @torch.no_grad()
    def evaluate(self, model: NestedIdempotent, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        evaluate, f, own = config.evaluate, model.projector(), config.model.operator.rank
        ranks = ranks_of(config, data.event)
        held_out = {
            split: images[: evaluate.held_out].to(model.device)
            for split, images in (("quality", data.validation), ("test", data.test))
        }
        images = held_out["quality"]
        curves = _reconstruction(model, data, held_out, ranks)
        by_rank: dict[int, dict[str, dict[str, float]]] = {}
        for rank in sorted({*ranks, own}):
            samples = _samples(model, evaluate.samples, config, sampling_noise(config), rank)
            by_rank[rank] = {split: quality(samples, split) for split in ("quality", "test")}
        for name in quality.metrics:
            curves[f"rank/{name}"] = Curve(ranks, [by_rank[rank]["quality"][name] for rank in ranks])
            curves[f"rank/test_{name}"] = Curve(ranks, [by_rank[rank]["test"][name] for rank in ranks])
        model.choose(min(ranks, key=lambda rank: cost_of(by_rank[rank]["quality"], evaluate)))

        samples, milliseconds = timed(
            model.device, lambda: self.sample(model, evaluate.samples, config, sampling_noise(config))
        )
        noise = model.noise(evaluate.samples, sampling_noise(config))
        projected = in_batches(f, noise)
        summary = scores(quality, samples, "collapsed") | scores(quality, projected, "noise")
        summary |= {f"{split}/{k}_rank": v for split, each in by_rank[own].items() for k, v in each.items()}
        summary |= as_sampled(summary, evaluate, "collapsed") | quality.sureness(samples)
        summary |= {"cost/sample_ms_collapsed": milliseconds, "cost/params": float(fitted_values(model))}
        for split, these in held_out.items():
            summary |= fidelity(f, these, split)
            prefix = "rank/" if split == "quality" else "rank/test_"
            differences = zip(ranks, curves[f"{prefix}psnr"].values, curves[f"{prefix}psnr_pca"].values, strict=True)
            gains = [ours - theirs for rank, ours, theirs in differences if rank < model.dim]
            summary[f"{split}/psnr_gain"] = min(gains) if gains else math.nan
        summary["linearity/idempotency"] = idempotency(lambda x: in_batches(f, x), images)
        summary["linearity/idempotency_noise"] = idempotency(lambda x: in_batches(f, x), noise[: evaluate.held_out])
        summary |= linearity(f, images, images) | lipschitz({"g": (model.g, images)})
        summary |= {"spectrum/rank": float(own), "spectrum/active_fraction": own / model.dim}
        summary |= {"spectrum/used_rank": _used(model, own), "sampling/rank": float(model.rank)}
        summary["operators/count"] = float(model.count)
        grids = {"collapsed": samples[:GRID_IMAGES].cpu(), "noise": projected[:GRID_IMAGES].cpu()}
        return Evaluation(summary, curves, grids | pictures(f, images))

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        """Also score real images in as many principal components: the floor of samples at each rank."""
        return references(data, config.evaluate, quality, ranks_of(config, data.event), config.model.operator.rank)

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return [*(f"quality/{name}_rank" for name in config.evaluate.quality), "quality/psnr_collapsed"]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        keys = [key for how in ("collapsed", "sampled", "noise", "rank") for key in score_keys(config.evaluate, how)]
        keys += sureness_keys(config.evaluate)
        keys += [f"{split}/{name}" for split in ("quality", "test") for name in (
            "psnr_collapsed", "ssim_collapsed", "psnr_gain",
        )]  # fmt: skip
        keys += ["cost/sample_ms_collapsed", "cost/params", *linearity_keys()]
        keys += [
            f"linearity/{name}" for name in ("idempotency", "idempotency_noise", "lipschitz_g", "lipschitz_g_inverse")
        ]
        keys += ["spectrum/rank", "spectrum/active_fraction", "spectrum/used_rank"]
        return [*keys, "sampling/rank", "operators/count"]


def _samples(model: NestedIdempotent, count: int, config: TrialConfig, generator: torch.Generator, rank: int) -> Tensor:
    noise = model.noise(count, generator)
    which, roots, temperature = model.labels(count, generator), model.roots(rank), config.evaluate.temperature
    return in_batches(lambda x0, k: model.images(x0, k, roots, temperature), noise, which)


def _reconstruction(
    model: NestedIdempotent, data: ImageData, held_out: dict[str, Tensor], ranks: list[int]
) -> dict[str, Curve]:
    """PSNR against the rank: for f_r, for as many principal components, and for the leading pull-back directions.

    The last are the eigenvectors of E[JᵀJ] of g⁻¹, instead of the coordinates as ordered by training.
    """
    training = data.train.head(GAUSSIAN_IMAGES).cpu()
    pca = PixelGaussian(training, 0.0)
    latents = in_batches(lambda x: model.g(x)[0], training[:MEASURED_IMAGES].to(model.device, model.dtype))
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    metric = pullback_metric(lambda z: model.g.inverse(z)[0], latents, generator, passes=PASSES)
    moving = torch.linalg.eigh(metric)[1].flip(1).to(model.dtype)
    curves: dict[str, Curve] = {}
    for split, images in held_out.items():
        prefix, cpu = "rank/" if split == "quality" else "rank/test_", images.cpu()
        values: dict[str, list[float]] = {"psnr": [], "psnr_pca": [], "psnr_pullback": []}
        encoded = in_batches(lambda x: model.g(x)[0], images)
        for rank in ranks:
            values["psnr"].append(capped_psnr(in_batches(model.projector(rank), images), images))
            values["psnr_pca"].append(capped_psnr(pca.project(cpu, rank), cpu))
            axes = moving[:, :rank]
            turned = in_batches(lambda z, axes=axes: model.g.inverse(z @ axes @ axes.T)[0], encoded)
            values["psnr_pullback"].append(capped_psnr(turned, images))
        curves |= {f"{prefix}{name}": Curve(ranks, column) for name, column in values.items()}
    return curves


def _used(model: NestedIdempotent, rank: int) -> float:
    """The dimensions of f_r's image that training images use: the effective rank of their covariance there."""
    shares = model.proportions.double()[:, None, None]
    means = model.means[:, :rank].double()
    centred = means - (model.proportions.double()[:, None] * means).sum(0)
    within = (shares * model.covariances[:, :rank, :rank].double()).sum(0)
    covariance = within + (model.proportions.double()[:, None] * centred).T @ centred
    return effective_rank(torch.linalg.eigvalsh(covariance).clamp_min(0).sqrt())
