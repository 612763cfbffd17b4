"""The diffusion family with affine operators over one g: one for all images, one per label or one per cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import EvaluateConfig, TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.images import Images
from linearizer_core.experiment.draws import Draws, dequantised
from linearizer_core.experiment.evaluation import (
    BATCH,
    BITS_KEYS,
    COUNTED,
    GRID_IMAGES,
    SAMPLE_SEED,
    Curve,
    Evaluation,
    Quality,
    as_sampled,
    bits_per_dim,
    capped_psnr,
    in_batches,
    megaflops,
    references,
    sampling_noise,
    score_keys,
    scores,
    step_counts,
    step_keys,
    sureness_keys,
    timed,
)
from linearizer_core.experiment.families.affine_controls import OF_ANY, OF_SEVERAL, controls
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
from linearizer_core.experiment.groups import groups
from linearizer_core.experiment.networks import build_flow
from linearizer_core.experiment.sample_metrics import better
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.grids import GRIDS
from linearizer_core.metrics.gaussianity import gaussianity
from linearizer_core.metrics.linearity import idempotency
from linearizer_core.models.affine_diffusion import AffineDiffusion, AffineOperators
from linearizer_core.models.base import Event
from linearizer_core.operators.gaussians import AffineGaussians
from linearizer_core.solvers import SOLVERS

MEASURED_IMAGES, PASSES = 2048, 6
"""Number of training images, and of vector-Jacobian products per image, over which the pull-back metric is averaged."""
FARTHEST = 2.5
"""Largest distance from the mean, in standard deviations, at which directions are pictured."""
EDITED = 1024
"""Maximum number of held-out images that are edited."""


class AffineDiffusionFamily(Family):
    """Affine operators over one g, trained by exact likelihood and sampled by one application."""

    operators = DIFFUSION_OPERATORS
    terms = ("likelihood",)

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> AffineDiffusion:
        core, several = config.model.operator, config.model.operators
        count = {"one": 1, "label": max(classes, 1), "cluster": several.count}[several.by]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            g = build_flow(config.model.flow, event)
            gaussians = AffineGaussians(math.prod(event), count, core.rank, spread=core.spread, shared=core.shared)
        model = AffineDiffusion(g, gaussians, event)
        model.classes = classes
        return model

    def groups(self, config: TrialConfig, data: ImageData) -> Tensor:
        return groups(config.model.operators.by, config.model.operators.count, data)

    @torch.no_grad()
    def initialise(
        self, model: AffineDiffusion, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        assert groups is not None
        self.take_groups(model, groups)
        model.gaussians.initialise(model.g.initialise(images), groups[: len(images)])

    @torch.no_grad()
    def regroup(
        self, model: AffineDiffusion, config: TrialConfig, images: Images, groups: Tensor, epoch: int
    ) -> Tensor | None:
        """Every few epochs, move each image to the cluster k of largest p(k | x): hard expectation maximisation."""
        several = config.model.operators
        if several.by != "cluster" or not several.refine or not epoch or epoch % several.refine:
            return None
        parts = torch.arange(len(images), device=model.device).split(BATCH)
        return torch.cat([in_batches(_likeliest(model), images.batch(part).to(model.dtype)) for part in parts])

    def take_groups(self, model: AffineDiffusion, groups: Tensor) -> None:
        """Set the proportions of the mixture."""
        counts = torch.bincount(groups, minlength=model.gaussians.count)
        model.gaussians.proportions.copy_(counts / len(groups))

    def losses(self, model: AffineDiffusion, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """-log p(x | k) per dimension in nats, with each image's own k, averaged over the batch."""
        assert draws.groups is not None
        return {"likelihood": -model.log_likelihood(images, draws.groups).mean() / model.gaussians.dim}

    @torch.no_grad()
    def settle(self, model: AffineDiffusion, data: ImageData) -> None:
        """Compute the pull-back metric at the latents of training images, which orders the directions."""
        images = data.train.head(MEASURED_IMAGES).to(model.device, model.dtype)
        latents = in_batches(lambda x: model.g(x)[0], images)
        model.measure(latents, torch.Generator().manual_seed(SAMPLE_SEED), PASSES)

    @torch.no_grad()
    def sample(self, model: AffineDiffusion, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        operators = model.operators(model.rank, config.evaluate.order)
        noise = model.noise(count, generator)
        return _Sampler(model, noise, model.labels(count, generator), config).draw(operators, model.temperature)

    @torch.no_grad()
    def interim(
        self, model: AffineDiffusion, config: TrialConfig, data: ImageData, quality: Quality
    ) -> dict[str, float]:
        self.settle(model, data)
        sampler = _sampler(model, config)
        chosen = _choose(sampler, quality, model.operators_at(ranks_of(config, data.event), config.evaluate.order))
        measured = {f"quality/{name}_collapsed": value for name, value in chosen.values.items()}
        return measured | as_sampled(measured, config.evaluate, "collapsed")

    @torch.no_grad()
    def evaluate(self, model: AffineDiffusion, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        evaluate, dim = config.evaluate, model.gaussians.dim
        sampler = _sampler(model, config)
        by_rank = model.operators_at(sorted({*ranks_of(config, data.event), dim}), evaluate.order)
        chosen = _choose(sampler, quality, {rank: by_rank[rank] for rank in ranks_of(config, data.event)})
        model.choose(chosen.rank, chosen.temperature)
        operators = by_rank[chosen.rank]
        solver, grid = SOLVERS[evaluate.solver], GRIDS[evaluate.grid]

        def step(steps: int) -> Tensor:
            return sampler.each(
                lambda x0, which: model.sample_stepping(x0, which, operators, steps, solver, grid, chosen.temperature)
            )

        stepping = step_counts(step, evaluate, quality, model.device)
        samples, milliseconds = timed(model.device, lambda: sampler.draw(operators, chosen.temperature))
        summary = stepping.summary | scores(quality, samples, "collapsed")
        summary |= as_sampled(summary, evaluate, "collapsed") | quality.sureness(samples)
        summary |= chosen.at_one(chosen.best_at_one, "t1")
        whole = by_rank[dim]
        summary |= chosen.at_one(dim, "full") or scores(quality, sampler.draw(whole, 1.0), "full")
        summary |= {"cost/sample_ms_collapsed": milliseconds, "cost/params": float(fitted_values(model))}
        # Count only the application: counting does not allow the gradients inside that denoising needs.
        summary["cost/sample_mflop_collapsed"] = megaflops(
            lambda x0: model.sample(x0, sampler.which[:COUNTED], operators, chosen.temperature), sampler.noise[:COUNTED]
        )
        summary |= {"sampling/rank": float(chosen.rank), "sampling/temperature": chosen.temperature}
        summary["operators/count"] = float(model.gaussians.count)

        curves = stepping.curves | chosen.curves
        steps = list(evaluate.steps)
        collapsed = [sampler.draw(model.collapse(operators, k, solver, grid), chosen.temperature) for k in steps]
        gaps = [capped_psnr(one, stepping.images[k]) for one, k in zip(collapsed, steps, strict=True)]
        curves["nfe/collapse_psnr"] = Curve(steps, gaps)
        curves["nfe/finest_psnr"] = Curve(steps, [capped_psnr(stepping.images[k], samples) for k in steps])
        summary["linearity/collapse_psnr"] = gaps[-1]

        summary |= self._controls(sampler, quality, operators, chosen, summary)
        held_out = data.validation[: evaluate.held_out].to(model.device)
        noisy = _as_trained(config, held_out)
        inverted, grids = _inversion(model, whole, noisy, _known(config, model, noisy, data.validation_labels))
        generate = model.generator(whole.one(0).linear)
        summary |= inverted | linearity(generate, sampler.noise[: evaluate.held_out], held_out)
        summary |= lipschitz({"g_x": (model.g, held_out)})
        described = [spectrum(whole.one(k).linear) for k in range(model.gaussians.count)]
        summary |= {key: sum(each[key] for each in described) / len(described) for key in SPECTRUM_KEYS}
        summary |= bits_per_dim(
            lambda x: model.log_likelihood(x.to(model.device)).double().cpu(), data, evaluate.held_out
        )
        if config.model.operators.by == "label":
            summary |= _labels(model, config, data, quality, samples, sampler.which, whole)
        grids |= stepping.grids() | {"collapsed": samples[:GRID_IMAGES].cpu()}
        grids |= _pictures(model, operators)
        spectra = {f"k{k}": whole.scales[k].cpu() for k in range(min(model.gaussians.count, GRID_ROWS * 4))}
        return Evaluation(summary, curves, grids, spectra)

    def _controls(
        self,
        sampler: _Sampler,
        quality: Quality,
        operators: AffineOperators,
        chosen: _Chosen,
        summary: dict[str, float],
    ) -> dict[str, float]:
        """The scores of every control on both splits, and by what factor each is worse than the operators on test."""
        metric = leading_metric(sampler.config.evaluate)
        own = summary[f"test/{metric}_collapsed"]
        found: dict[str, float] = {}
        for name, spoilt in controls(sampler.model, operators).items():
            images = sampler.draw(spoilt, chosen.temperature)
            found |= scores(quality, images, name)
            theirs = found[f"test/{metric}_{name}"]
            worse, less = (own, theirs) if better(sampler.config.evaluate, metric) == "max" else (theirs, own)
            found[f"controls/{name}"] = worse / less if less else math.inf
        return found

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        """Also score real images in as many principal components as the operators have ranks: each rank's floor."""
        rank = min(max(config.model.operator.rank, 1), math.prod(data.event))
        return references(data, config.evaluate, quality, ranks_of(config, data.event), rank)

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return [f"quality/{name}_{how}" for how in ("collapsed", "sampled") for name in config.evaluate.quality]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        evaluate, by = config.evaluate, config.model.operators.by
        keys = step_keys(evaluate)
        spoilt = OF_ANY if by == "one" else (*OF_ANY, *OF_SEVERAL)
        for how in ("collapsed", "sampled", "t1", "full", *spoilt):
            keys += score_keys(evaluate, how)
        keys += [f"controls/{name}" for name in spoilt] + sureness_keys(evaluate)
        keys += ["cost/sample_ms_collapsed", "cost/sample_mflop_collapsed", "cost/params", "linearity/collapse_psnr"]
        keys += ["sampling/rank", "sampling/temperature", "operators/count"]
        keys += INVERSION_KEYS + linearity_keys() + LIPSCHITZ_KEYS + SPECTRUM_KEYS + BITS_KEYS
        return keys + (LABEL_KEYS if by == "label" else [])


INVERSION_KEYS = [f"linearity/{name}" for name in (
    "inversion_psnr", "inversion_images", "projection_idempotency",
    "noise_norm_ratio", "noise_mean", "noise_deviation", "noise_kurtosis", "noise_ks", "noise_direction_ks",
)]  # fmt: skip
LIPSCHITZ_KEYS = ["linearity/lipschitz_g_x", "linearity/lipschitz_g_x_inverse"]
LABEL_KEYS = [
    "quality/posterior_accuracy", "test/posterior_accuracy", "quality/judged_accuracy", "quality/edit_accuracy",
    "linearity/edit_back",
]  # fmt: skip


def ranks_of(config: TrialConfig, event: Event) -> list[int]:
    """The ranks of the curve: the configured ones, otherwise powers of two and the full rank."""
    dim = math.prod(event)
    if config.evaluate.ranks:
        return list(config.evaluate.ranks)
    return sorted({2**power for power in range(dim.bit_length()) if 2**power < dim} | {dim})


def leading_metric(evaluate: EvaluateConfig) -> str:
    """The metric by which rank and temperature are chosen: a distance between features, if one is measured."""
    for name in ("inception_fid", "imagenet_fd", "classifier_fd", "inception_kid", "imagenet_kid", "classifier_kid"):
        if name in evaluate.quality:
            return name
    return evaluate.quality[0]


def cost_of(values: Mapping[str, float], evaluate: EvaluateConfig) -> float:
    """The value of the leading metric, negated if higher is better, so that lower is better; ∞ if it is NaN."""
    metric = leading_metric(evaluate)
    value = -values[metric] if better(evaluate, metric) == "max" else values[metric]
    return math.inf if math.isnan(value) else value


@dataclass(frozen=True)
class _Sampler:
    """Samples with the same noise and labels, for any operators."""

    model: AffineDiffusion
    noise: Tensor
    which: Tensor
    config: TrialConfig

    def each(self, sample: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Images from all noise, in batches, with the post-processing that the configuration asks for."""
        images = in_batches(sample, self.noise, self.which)
        if not self.config.evaluate.denoise:
            return images
        return in_batches(partial(self.model.denoise, deviation=self.config.train.dequantise), images)

    def draw(self, operators: AffineOperators, temperature: float) -> Tensor:
        """Images by one application."""
        return self.each(lambda x0, which: self.model.sample(x0, which, operators, temperature))


def _sampler(model: AffineDiffusion, config: TrialConfig) -> _Sampler:
    generator = sampling_noise(config)
    noise = model.noise(config.evaluate.samples, generator)
    return _Sampler(model, noise, model.labels(config.evaluate.samples, generator), config)


@dataclass(frozen=True)
class _Chosen:
    """The best rank and temperature on the validation split, their values there, and the rank curves.

    ``best_at_one`` is the best rank at temperature 1; ``scores`` holds the values at temperature 1 on both splits, by
    rank.
    """

    rank: int
    temperature: float
    best_at_one: int
    values: dict[str, float]
    curves: dict[str, Curve]
    scores: dict[int, dict[str, dict[str, float]]]

    def at_one(self, rank: int, how: str) -> dict[str, float]:
        """``<split>/<metric>_<how>`` of a rank at temperature 1; nothing if it was not tried."""
        splits = self.scores.get(rank, {})
        return {f"{split}/{name}_{how}": value for split, values in splits.items() for name, value in values.items()}


def _choose(sampler: _Sampler, quality: Quality, by_rank: dict[int, AffineOperators]) -> _Chosen:
    """Choose the best rank at temperature 1, then its best temperature, then the best neighbouring rank at that.

    The validation split decides; the curves of the test split are recorded too, but nothing is chosen by them.
    """
    evaluate = sampler.config.evaluate
    found: dict[tuple[int, float], dict[str, float]] = {}
    at_one: dict[int, dict[str, dict[str, float]]] = {}
    ranks = sorted(by_rank)

    def cost(rank: int, temperature: float) -> float:
        if (rank, temperature) not in found:
            images = sampler.draw(by_rank[rank], temperature)
            found[rank, temperature] = quality(images)
            if temperature == 1.0:
                at_one[rank] = {"quality": found[rank, temperature], "test": quality(images, "test")}
        return cost_of(found[rank, temperature], evaluate)

    best_at_one = min(ranks, key=lambda rank: cost(rank, 1.0))
    temperatures = sorted({1.0, *evaluate.temperatures})
    temperature = min(temperatures, key=lambda each: cost(best_at_one, each))
    place = ranks.index(best_at_one)
    rank = min(ranks[max(0, place - 1) : place + 2], key=lambda each: cost(each, temperature))
    curves = {}
    for name in evaluate.quality:
        curves[f"rank/{name}"] = Curve(ranks, [at_one[each]["quality"][name] for each in ranks])
        curves[f"rank/test_{name}"] = Curve(ranks, [at_one[each]["test"][name] for each in ranks])
    return _Chosen(rank, temperature, best_at_one, found[rank, temperature], curves, at_one)


def _as_trained(config: TrialConfig, images: Tensor) -> Tensor:
    """Held-out images with the noise of training images, since the model's density is that of noisy images."""
    draws = Draws(torch.Generator().manual_seed(SAMPLE_SEED))
    return dequantised(images.cpu(), config.train.dequantise, images.dtype, draws).to(images.device)


def _known(config: TrialConfig, model: AffineDiffusion, images: Tensor, labels: Tensor) -> Tensor:
    """The operator of each held-out image: that of its label, or the most likely one."""
    if config.model.operators.by == "label":
        return labels[: len(images)].to(model.device)
    return in_batches(_likeliest(model), images)


def _likeliest(model: AffineDiffusion) -> Callable[[Tensor], Tensor]:
    """x ↦ the k of the largest p(k | x)."""
    return lambda x: model.posterior(x).argmax(1)


def _inversion(
    model: AffineDiffusion, operators: AffineOperators, images: Tensor, which: Tensor
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Invert held-out images and back at full rank: how exact it is, and how Gaussian the noise is."""
    # Row by row, so that batches keep rows and labels together.
    noise = in_batches(lambda x, k: operators.pinv(model.g(x)[0], k), images, which)
    again = in_batches(lambda z, k: model.g.inverse(operators.apply(z, k))[0], noise, which)

    def project(x: Tensor) -> Tensor:
        return in_batches(
            lambda part, k: model.g.inverse(operators.apply(operators.pinv(model.g(part)[0], k), k))[0], x, which
        )

    # Along each operator's own directions, where the noise of all its images is comparable with N(0, 1).
    along = in_batches(operators.coordinates, noise, which)
    gaussian = gaussianity(along)
    each = [gaussianity(column[:, None]).ks for column in along.T]
    measured = {
        "inversion_psnr": capped_psnr(again, images),
        "inversion_images": float(len(images)),
        "projection_idempotency": idempotency(project, images),
        "noise_norm_ratio": gaussian.norm_ratio,
        "noise_mean": gaussian.mean,
        "noise_deviation": gaussian.deviation,
        "noise_kurtosis": gaussian.kurtosis,
        "noise_ks": gaussian.ks,
        "noise_direction_ks": sum(each) / len(each),
    }
    pairs = torch.stack([images[: GRID_IMAGES // 2], again[: GRID_IMAGES // 2]], 1).flatten(0, 1)
    return {f"linearity/{name}": value for name, value in measured.items()}, {"reconstruction": pairs.cpu()}


def _labels(
    model: AffineDiffusion,
    config: TrialConfig,
    data: ImageData,
    quality: Quality,
    samples: Tensor,
    which: Tensor,
    operators: AffineOperators,
) -> dict[str, float]:
    """Measures that need labels: p(k | x) as a classifier, and whether samples and edits are judged correctly.

    The data set's classifier judges samples and edits; NaN if no metric needed one.
    """
    found = {}
    for split, images, labels in (
        ("quality", data.validation, data.validation_labels), ("test", data.test, data.test_labels),
    ):  # fmt: skip
        likeliest = in_batches(_likeliest(model), _as_trained(config, images).to(model.device))
        found[f"{split}/posterior_accuracy"] = float((likeliest.cpu() == labels).double().mean())
    images = data.validation[:EDITED].to(model.device)
    source = data.validation_labels[:EDITED].to(model.device)
    target = (source + 1) % model.gaussians.count
    edit = partial(model.edit, operators=operators)
    edited = in_batches(edit, images, source, target)
    back = in_batches(edit, edited, target, source)
    found["linearity/edit_back"] = float((back - images).abs().max())
    judge = quality.classifier
    for name, shown, expected in (("judged_accuracy", samples, which), ("edit_accuracy", edited, target)):
        found[f"quality/{name}"] = judge.accuracy(shown.clamp(-1, 1), expected) if judge is not None else math.nan
    return found


def _pictures(model: AffineDiffusion, operators: AffineOperators) -> dict[str, Tensor]:
    """Means, directions as mean ± k σ, interpolations between pairs, and guidance away from the first operator."""
    count = min(GRID_ROWS, len(operators.offsets))
    rows = torch.arange(count, device=model.device)
    decode: Callable[[Tensor], Tensor] = lambda z: model.g.inverse(z)[0].cpu()  # noqa: E731
    pictures = {"means": decode(operators.offsets[:GRID_IMAGES])}
    leading = min(GRID_ROWS, operators.rank)
    scales, frame = operators.scales[0], operators.frames[0]
    steps = [FARTHEST * (2 * way - 1) for way in WAY]
    drawn = [operators.offsets[0] + step * scales[i] * frame[:, i] for i in range(leading) for step in steps]
    pictures["directions"] = decode(torch.stack(drawn))
    if count > 1:
        x0 = model.noise(count, torch.Generator().manual_seed(SAMPLE_SEED)).flatten(1)
        ways = []
        for i in rows.tolist():
            first, second = i, (i + 1) % len(operators.offsets)
            ways += [model.blend(operators, first, second, 1.5 * way).apply(x0[i : i + 1]) for way in WAY]
        pictures["interpolation"] = decode(torch.cat(ways))
    return pictures
