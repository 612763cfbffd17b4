"""The idempotent family: one application projects any image onto a learned set of images (arXiv 2510.08570, 4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    BATCH,
    GAUSSIAN_IMAGES,
    GRID_IMAGES,
    Evaluation,
    Quality,
    as_sampled,
    capped_psnr,
    in_batches,
    sampling_noise,
    score_keys,
    scores,
    sureness_keys,
    timed,
)
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.linear import GRID_ROWS, WAY, linearity, linearity_keys, lipschitz
from linearizer_core.experiment.networks import build_flow
from linearizer_core.experiment.workers import Workers, present
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.linearity import idempotency
from linearizer_core.metrics.perceptual import distance
from linearizer_core.metrics.similarity import ssim
from linearizer_core.metrics.spectrum import effective_rank
from linearizer_core.models.base import Event
from linearizer_core.models.idempotent import IdempotentLinearizer, Sums, isometry, telling_axes
from linearizer_core.operators.projections import SpectrumProjection

DEVIATIONS = torch.linspace(-2, 2, 8).tolist()
"""Distances from the mean, in standard deviations, along a row that follows one latent axis."""


class Idempotent(Family):
    """A projector on images, f(f(x)) = f(x), sampled from a Gaussian fitted in its image, and from pixel noise."""

    operators = ("projection", "learned_projection", "nested_projection")
    terms = ("reconstruction", "sparsity", "isometry", "likelihood")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> IdempotentLinearizer:
        """The model for images ``event``; raises ``ValueError`` for an operator of another family."""
        weights = config.train.loss
        price = weights.sparsity / weights.reconstruction if weights.reconstruction else 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            return IdempotentLinearizer(
                build_flow(config.model.flow, event), core("idempotent", config.model, event), event, price
            )

    def initialise(
        self, model: IdempotentLinearizer, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        model.initialise(images)

    def losses(
        self, model: IdempotentLinearizer, images: Tensor, config: TrialConfig, draws: Draws
    ) -> dict[str, Tensor]:
        """The loss terms for a batch ``(batch, *event)``.

        They are d(x, f(x)), Σλ / dim if the rank is learned, ``isometry``, and the negative log-likelihood per
        dimension of the latents under N(0, I), up to a constant.
        """
        weights = config.train.loss
        z, log_det = model.g(images)
        terms: dict[str, Tensor] = {}
        if weights.reconstruction:
            made = model.g.inverse(model.projection(z))[0]
            terms["reconstruction"] = distance(config.train.distance)(made, images)
        if weights.sparsity and isinstance(model.projection, SpectrumProjection):
            terms["sparsity"] = model.projection.spectrum().mean()
        if weights.isometry:
            terms["isometry"] = isometry(z, model.g(torch.zeros_like(images[:1]))[0], images)
        if weights.likelihood:
            terms["likelihood"] = 0.5 * z.square().mean() - log_det.mean() / z.shape[1]
        return terms

    def settle(self, model: IdempotentLinearizer, data: ImageData) -> None:
        """Fit the Gaussian from which samples are drawn to at most 20,000 training images."""
        workers = present()
        batches = (data.train.batch(index) for index in own_parts(data, workers))
        model.settle(batches, partial(summed, workers))

    @torch.no_grad()
    def sample(
        self, model: IdempotentLinearizer, count: int, config: TrialConfig, generator: torch.Generator
    ) -> Tensor:
        """Images ``(count, *event)`` from the Gaussian fitted in f's image, by one application of P."""
        drawn = model.latent_noise(count, generator)
        return in_batches(lambda noise: model.images(noise, config.evaluate.temperature), drawn)

    @torch.no_grad()
    def interim(
        self, model: IdempotentLinearizer, config: TrialConfig, data: ImageData, quality: Quality
    ) -> dict[str, float]:
        """The metrics of ``interim_keys``, after settling the model."""
        self.settle(model, data)
        samples = self.sample(model, config.evaluate.samples, config, sampling_noise(config))
        images = data.validation[: config.evaluate.held_out].to(model.device)
        found = scores(quality, samples, "collapsed", ["quality"])
        found |= as_sampled(found, config.evaluate, "collapsed")
        found["quality/psnr_collapsed"] = capped_psnr(in_batches(model.projector(), images), images)
        return found

    @torch.no_grad()
    def evaluate(
        self, model: IdempotentLinearizer, config: TrialConfig, data: ImageData, quality: Quality
    ) -> Evaluation:
        evaluate, f = config.evaluate, model.projector()

        def draw() -> Tensor:
            return self.sample(model, evaluate.samples, config, sampling_noise(config))

        samples, milliseconds = timed(model.device, draw)
        noise = model.noise(evaluate.samples, sampling_noise(config))
        projected = in_batches(f, noise)
        summary = scores(quality, samples, "collapsed") | scores(quality, projected, "noise")
        summary |= as_sampled(summary, evaluate, "collapsed") | quality.sureness(samples)
        summary |= {"cost/sample_ms_collapsed": milliseconds, "cost/params": float(fitted_values(model))}
        images = data.validation[: evaluate.held_out].to(model.device)
        summary |= fidelity(f, images, "quality")
        summary |= fidelity(f, data.test[: evaluate.held_out].to(model.device), "test")
        summary["linearity/idempotency"] = idempotency(lambda x: in_batches(f, x), images)
        summary["linearity/idempotency_noise"] = idempotency(lambda x: in_batches(f, x), noise[: evaluate.held_out])
        summary |= linearity(f, images, images) | lipschitz({"g": (model.g, images)})
        rank = f.operator.rank()
        summary |= {"spectrum/rank": float(rank), "spectrum/active_fraction": rank / math.prod(model.event)}
        # The factor's columns are as long as the latents' standard deviations along its axes.
        summary["spectrum/used_rank"] = effective_rank(model.latent_factor.norm(dim=0))
        grids = {"collapsed": samples[:GRID_IMAGES].cpu(), "noise": projected[:GRID_IMAGES].cpu()}
        return Evaluation(summary, grids=grids | pictures(f, images))

    def interim_keys(self, config: TrialConfig) -> list[str]:
        keys = [f"quality/{name}_{how}" for how in ("collapsed", "sampled") for name in config.evaluate.quality]
        return [*keys, "quality/psnr_collapsed"]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        keys = [key for how in ("collapsed", "sampled", "noise") for key in score_keys(config.evaluate, how)]
        keys += sureness_keys(config.evaluate)
        keys += [f"{split}/{name}_collapsed" for split in ("quality", "test") for name in ("psnr", "ssim")]
        keys += ["cost/sample_ms_collapsed", "cost/params", *linearity_keys()]
        keys += [
            f"linearity/{name}" for name in ("idempotency", "idempotency_noise", "lipschitz_g", "lipschitz_g_inverse")
        ]
        return [*keys, "spectrum/rank", "spectrum/active_fraction", "spectrum/used_rank"]


def own_parts(data: ImageData, workers: Workers) -> Sequence[Tensor]:
    """The indices, in batches, of this worker's share of the training images to which Gaussians are fitted."""
    return torch.arange(min(GAUSSIAN_IMAGES, len(data.train))).split(BATCH)[workers.rank :: workers.count]


def summed(workers: Workers, work: Callable[[], Sums]) -> Sums:
    """The sums over all workers of what ``work`` gives on each."""
    count, total, squares = workers.together(work)
    return workers.total(count), workers.total(total), workers.total(squares)


def fidelity(f: Linearizer, images: Tensor, split: str) -> dict[str, float]:
    """PSNR and SSIM between a split's images ``(batch, *event)`` and their projections by f."""
    made = in_batches(f, images)
    return {
        f"{split}/psnr_collapsed": capped_psnr(made, images),
        f"{split}/ssim_collapsed": float(ssim(made, images).mean()),
    }


def pictures(f: Linearizer, images: Tensor) -> dict[str, Tensor]:
    """Images next to their projections by f, transitions between two images in f's image, and rows along an axis."""
    made = f(images[: GRID_IMAGES // 2])
    pairs = torch.stack([images[: GRID_IMAGES // 2], made], 1).flatten(0, 1)
    count = min(GRID_ROWS, len(images) // 2)
    ways = [f(f.domain.lerp(images[:count], images[count : 2 * count], weight)) for weight in WAY]
    found = {"reconstruction": pairs, "interpolation": torch.stack(ways, 1).flatten(0, 1), "axes": _axes(f, images)}
    return {name: grid.cpu() for name, grid in found.items()}


def _axes(f: Linearizer, images: Tensor) -> Tensor:
    """The mean latent of images in f's image ± 2 standard deviations along the axes that explain the pixels best."""
    latents = in_batches(lambda x: f.operator.apply(f.domain.encode(x)), images)
    mean = latents.mean(0)
    axes = telling_axes(images - images.mean(0), latents - mean, min(GRID_ROWS, len(mean)))
    deviations = ((latents - mean) @ axes).std(0)
    moves = torch.tensor(DEVIATIONS, dtype=latents.dtype, device=latents.device)
    return f.domain.decode((mean + moves[:, None] * (deviations * axes).T[:, None]).flatten(0, 1))
