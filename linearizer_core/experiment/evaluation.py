"""Measurements of generated images, and the references that put their numbers into perspective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from linearizer_core.experiment.classifier import cached_classifier
from linearizer_core.experiment.configuration import EvaluateConfig, TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.sample_metrics import BUILT_IN, Measure, Of
from linearizer_core.experiment.workers import present
from linearizer_core.metrics.features import Classifier
from linearizer_core.metrics.imagenet import ImagenetFeatures
from linearizer_core.metrics.inception import InceptionFeatures
from linearizer_core.metrics.neighbours import neighbour_radii
from linearizer_core.metrics.quality import (
    bits_per_dimension,
    dequantise,
    frechet_distance,
    psnr,
)
from linearizer_core.metrics.uncertainty import FEWEST, bootstrap_deviation, extrapolated
from linearizer_core.words import counted

SAMPLE_SEED = 99
"""Fixes the noise of evaluation, so that every trial and every step count gets the same."""

GRID_IMAGES = 64
BATCH = 1024
COUNTED = 64
"""Number of images in the batch whose operations are counted."""

LARGEST_PSNR = 200.0
"""PSNR in dB given to equal images, for which it is unbounded."""

FRECHET: dict[str, Of] = {"classifier_fd": "classifier", "imagenet_fd": "imagenet"}
"""Distances whose own error is reported, and their features. With Inception's 2,048 features one takes seconds, and
this takes dozens."""


def sampling_noise(config: TrialConfig) -> torch.Generator:
    """The generator of the noise for a trial's samples: the same for every trial, unless ``seeds.sampling`` is set."""
    return torch.Generator().manual_seed(SAMPLE_SEED + config.seeds.sampling)


@dataclass(frozen=True)
class Curve:
    """A metric as a function of the number of solver steps, or of the rank used for sampling."""

    steps: list[int]
    values: list[float]

    def area(self) -> float:
        """The mean of the values over log steps, by the trapezoid rule; with a single step, its value."""
        if len(self.steps) == 1:
            return self.values[0]
        logs = [math.log(step) for step in self.steps]
        pieces = [(self.values[i] + self.values[i + 1]) / 2 * (logs[i + 1] - logs[i]) for i in range(len(logs) - 1)]
        return sum(pieces) / (logs[-1] - logs[0])


@dataclass(frozen=True)
class Evaluation:
    """Final metrics by key, curves by metric key, and images to look at, ``(count, channels, height, width)``.

    ``spectra`` are singular values by operator, in descending order.
    """

    summary: dict[str, float]
    curves: dict[str, Curve] = field(default_factory=dict)
    grids: dict[str, Tensor] = field(default_factory=dict)
    spectra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Held:
    """A held-out split with the features its metrics compare, computed on first use."""

    images: Tensor
    classifier: Classifier | None
    imagenet: ImagenetFeatures | None = None
    inception: InceptionFeatures | None = None

    @cached_property
    def features(self) -> Tensor:
        assert self.classifier is not None
        return in_batches(self.classifier.features, self.images)

    @cached_property
    def imagenet_features(self) -> Tensor:
        assert self.imagenet is not None
        return in_batches(self.imagenet.features, self.images)

    @cached_property
    def inception_features(self) -> Tensor:
        assert self.inception is not None
        return in_batches(self.inception.features, self.images)

    @cached_property
    def radii(self) -> Tensor:
        """Radii of the neighbourhoods in ``features``; for 10,000 images they dominate the time of a score."""
        return neighbour_radii(self.features)

    def of(self, what: Of) -> Tensor:
        """The images or features that a metric compares."""
        if what == "images":
            return self.images
        if what == "imagenet":
            return self.imagenet_features
        return self.features if what == "classifier" else self.inception_features


class Quality:
    """Sample quality metrics, built-in names or ``Measure``s, against a data set's held-out splits.

    Samples are first clamped to [-1, 1], so that the scored images are those that a file would hold. ``classifier`` may
    be None if no metric uses its features.
    """

    def __init__(
        self,
        metrics: Sequence[str | Measure],
        data: ImageData,
        classifier: Classifier | None,
        device: torch.device | str,
    ) -> None:
        self._measures = [Measure(BUILT_IN[each]) if isinstance(each, str) else each for each in metrics]
        self.metrics = tuple(each.name for each in self._measures)
        self.device = torch.device(device)
        self.classifier = classifier.to(self.device) if classifier else None
        imagenet = ImagenetFeatures(self.device) if any(each.of == "imagenet" for each in self._measures) else None
        inception = InceptionFeatures(self.device) if any(each.of == "inception" for each in self._measures) else None
        self._splits = {
            name: _Held(images.to(self.device), self.classifier, imagenet, inception)
            for name, images in (("quality", data.validation), ("test", data.test))
        }

    @classmethod
    def cached(
        cls, metrics: Sequence[str | Measure], data: ImageData, cache: Path, device: torch.device | str
    ) -> Quality:
        """Quality metrics with the data set's classifier from ``cache``, which is trained first if needed."""
        return cls(metrics, data, needed_classifier(metrics, data, cache), device)

    def __call__(self, samples: Tensor, split: str = "quality") -> dict[str, float]:
        """Values by metric, NaN if a sample is not finite; ``split`` is ``quality`` (validation) or ``test``."""
        if not bool(torch.isfinite(samples).all()):
            return dict.fromkeys(self.metrics, math.nan)
        held = self._splits[split]
        clamped = _Held(samples.to(self.device).clamp(-1, 1), held.classifier, held.imagenet, held.inception)
        found: dict[str, float] = {}
        for measure in self._measures:
            if measure.name not in found:
                found |= measure(clamped.of(measure.of), held.of(measure.of), lambda: held.radii)
        return {metric: found[metric] for metric in self.metrics}

    def sureness(self, samples: Tensor) -> dict[str, float]:
        """The uncertainty of each Fréchet distance that is measured, against both splits.

        ``<split>/<metric>_error`` is its standard deviation due to chance in the samples and the held-out images,
        ``<split>/<metric>_infinite`` the distance extrapolated to infinitely many of both. NaN if samples are not
        finite or too few.
        """
        names = [name for name in FRECHET if name in self.metrics]
        if not names:
            return {}
        networks = self._splits["quality"]
        made = _Held(samples.to(self.device).clamp(-1, 1), networks.classifier, networks.imagenet)
        finite, found = bool(torch.isfinite(samples).all()), {}
        for split, held in self._splits.items():
            enough = finite and min(len(samples), len(held.images)) >= FEWEST
            for name in names:
                for end, measure in (("error", bootstrap_deviation), ("infinite", extrapolated)):
                    of = FRECHET[name]
                    value = measure(frechet_distance, made.of(of), held.of(of)) if enough else math.nan
                    found[f"{split}/{name}_{end}"] = value
        return found


def needed_classifier(metrics: Sequence[str | Measure], data: ImageData, cache: Path) -> Classifier | None:
    """The data set's classifier from ``cache``, trained first if necessary; None if no metric needs it."""
    wanted = [Measure(BUILT_IN[each]) if isinstance(each, str) else each for each in metrics]
    return cached_classifier(data, cache) if any(each.of == "classifier" for each in wanted) else None


def in_batches(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply a function of rows to many rows, in batches.

    With several workers, each takes its share of the rows, and all get the whole result: all MUST call it with the same
    rows. An error on one worker is raised on all.
    """
    workers, rows = present(), len(inputs[0])
    if _sharers(rows) == 1:
        return _in_batches(function, inputs)
    ends = [rows * rank // workers.count for rank in range(workers.count + 1)]
    mine = [each[ends[workers.rank] : ends[workers.rank + 1]] for each in inputs]
    part = workers.together(lambda: _in_batches(function, mine))
    return workers.joint(part, [stop - start for start, stop in pairwise(ends)])


def _in_batches(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
    parts = zip(*(each.split(BATCH) for each in inputs), strict=True)
    return torch.cat([function(*part) for part in parts])


def _sharers(rows: int) -> int:
    """The number of workers among which ``in_batches`` divides rows; one if there are fewer rows than workers."""
    return present().count if rows >= present().count else 1


def timed(device: torch.device, sample: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """A sampler's result, and the time in milliseconds that one worker needs per image."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = sample()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    rows = len(result)
    return result, 1000 * (time.perf_counter() - start) * _sharers(rows) / rows


def megaflops(sample: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Millions of floating-point operations in a sampler's products and convolutions, per image of the batch ``x``."""
    with FlopCounterMode(display=False) as counter:
        sample(x)
    return counter.get_total_flops() / len(x) / 1e6


def capped_psnr(a: Tensor, b: Tensor) -> float:
    """``psnr``, at most 200 dB."""
    return min(psnr(a, b), LARGEST_PSNR)


@dataclass(frozen=True)
class Stepping:
    """A sampler's results at each step count: final metrics, curves, and the images of each count."""

    summary: dict[str, float]
    curves: dict[str, Curve]
    images: dict[int, Tensor]

    def grids(self) -> dict[str, Tensor]:
        """The images made with the fewest and with the most steps, to look at."""
        return {f"k{steps}": self.images[steps][:GRID_IMAGES].cpu() for steps in (min(self.images), max(self.images))}


def step_counts(
    sample: Callable[[int], Tensor], config: EvaluateConfig, quality: Quality, device: torch.device
) -> Stepping:
    """Quality of ``sample(steps)``, and time per image, at every configured step count."""
    summary: dict[str, float] = {}
    values: dict[str, list[float]] = {}
    images: dict[int, Tensor] = {}
    for steps in config.steps:
        images[steps], summary[f"cost/sample_ms_k{steps}"] = timed(device, partial(sample, steps))
        for name, value in quality(images[steps]).items():
            values.setdefault(name, []).append(value)
            summary[f"quality/{name}_k{steps}"] = value
    curves = {f"nfe/{name}": Curve(list(config.steps), column) for name, column in values.items()}
    summary |= {f"quality/{name}_auc": curves[f"nfe/{name}"].area() for name in values}
    return Stepping(summary, curves, images)


def step_keys(config: EvaluateConfig) -> list[str]:
    """The keys of the final metrics of ``step_counts``."""
    keys = [f"cost/sample_ms_k{steps}" for steps in config.steps]
    for name in config.quality:
        keys += [f"quality/{name}_k{steps}" for steps in config.steps] + [f"quality/{name}_auc"]
    return keys


def scores(
    quality: Quality, samples: Tensor, how: str, splits: Iterable[str] = ("quality", "test")
) -> dict[str, float]:
    """``<split>/<metric>_<how>`` of samples, for each split."""
    return {f"{split}/{name}_{how}": value for split in splits for name, value in quality(samples, split).items()}


def score_keys(config: EvaluateConfig, how: str) -> list[str]:
    """The keys of ``scores`` against both splits."""
    return [f"{split}/{name}_{how}" for split in ("quality", "test") for name in config.quality]


def as_sampled(summary: Mapping[str, float], config: EvaluateConfig, how: str) -> dict[str, float]:
    """``<split>/<metric>_sampled``: the scores of ``how`` under a name that all families share.

    Families sample in one application or in many steps; searches and tables compare them by this name.
    """
    named = zip(score_keys(config, "sampled"), score_keys(config, how), strict=True)
    return {key: summary[other] for key, other in named if other in summary}


def sureness_keys(config: EvaluateConfig) -> list[str]:
    """The keys of ``Quality.sureness``, and of the spread of draws where there are several."""
    names = [name for name in FRECHET if name in config.quality]
    keys = [f"{split}/{name}_{end}" for split in ("quality", "test") for name in names for end in ("error", "infinite")]
    return keys + (score_keys(config, "draws") if config.repeats > 1 else [])


def bits_per_dim(log_likelihood: Callable[[Tensor], Tensor], data: ImageData, limit: int) -> dict[str, float]:
    """``<split>/bits_per_dim``: the mean over held-out images, dequantised, of -log₂ p(x) per dimension.

    ``log_likelihood`` maps images ``(batch, *event)`` to nats ``(batch,)``.
    """
    found = {}
    for split, images in (("quality", data.validation), ("test", data.test)):
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        dequantised = dequantise(images[:limit], data.levels, generator)
        nats = in_batches(log_likelihood, dequantised)
        found[f"{split}/bits_per_dim"] = float(bits_per_dimension(nats, images[0].numel(), data.levels).mean())
    return found


BITS_KEYS = ["quality/bits_per_dim", "test/bits_per_dim"]


class PixelGaussian:
    """The Gaussian with the mean and covariance of images ``(count, *event)``: the best that a linear g can do.

    ``deviation`` is that of noise added to the images, which keeps the covariance regular.
    """

    def __init__(self, images: Tensor, deviation: float) -> None:
        pixels = images.flatten(1).double()
        self.event = images.shape[1:]
        self.mean = pixels.mean(0)
        values, self.axes = torch.linalg.eigh(torch.cov(pixels.T))
        self.variances = values.clamp_min(0)
        self.noise = deviation**2

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Images without the added noise, ``(count, *event)``."""
        white = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        return (self.mean + (white * self.variances.sqrt()) @ self.axes.T).float().view(count, *self.event)

    def project(self, images: Tensor, rank: int) -> Tensor:
        """Images ``(count, *event)`` projected onto the ``rank`` leading principal components, about the mean."""
        leading = self.axes[:, self.axes.shape[1] - rank :]
        centred = images.flatten(1).double().cpu() - self.mean
        return (self.mean + centred @ leading @ leading.T).float().view(images.shape)

    def log_likelihood(self, images: Tensor) -> Tensor:
        """log p in nats, ``(batch,)``, with the added noise."""
        variances = self.variances + self.noise
        white = (images.flatten(1).double().cpu() - self.mean) @ self.axes
        constant = variances.log().sum() + len(variances) * math.log(2 * math.pi)
        return -0.5 * ((white.square() / variances).sum(1) + constant)


def normal_log_likelihood(images: Tensor) -> Tensor:
    """log N(x; 0, I) in nats, ``(batch,)``."""
    flat = images.flatten(1).double()
    return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))


LARGEST_FRAME = 4096
"""Largest dimension for which principal axes, a square matrix, are worth their memory and time."""

GAUSSIAN_IMAGES = 20_000
"""Maximum number of training images to which the Gaussian is fitted: enough for its covariance, and bounded memory."""


def references(
    data: ImageData, config: EvaluateConfig, quality: Quality, ranks: Sequence[int] = (), rank: int = 1
) -> dict[str, Evaluation]:
    """The reference rows for all other numbers: real images, the Gaussian fitted to the training pixels, and noise.

    The Gaussian has the training pixels' mean and covariance, which is all that a generator with an affine g could
    match; it is omitted if its covariance would be too large to decompose. If ``ranks`` are given, real images
    projected onto that many principal components are scored too: as a curve, and at ``rank`` as a row.
    """
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    training = data.train.head(max(config.samples, GAUSSIAN_IMAGES)).cpu()
    cell = 2 / (data.levels - 1)
    rows: dict[str, tuple[Tensor, Callable[[Tensor], Tensor] | None]] = {
        "real against real": (training[: config.samples], None)
    }
    gaussian = None
    if training[0].numel() <= LARGEST_FRAME:
        gaussian = PixelGaussian(training[:GAUSSIAN_IMAGES], cell / math.sqrt(12))  # uniform noise over one cell
        drawn = gaussian.sample(config.samples, generator)
        rows["Gaussian fitted to the training pixels"] = drawn, gaussian.log_likelihood
    noise = torch.randn(config.samples, *data.event, generator=generator)
    rows["noise"] = noise, normal_log_likelihood
    found = {}
    for label, (images, density) in rows.items():
        summary = scores(quality, images, "collapsed")
        summary |= as_sampled(summary, config, "collapsed") | quality.sureness(images)
        if density:
            summary |= bits_per_dim(density, data, config.held_out)
        found[label] = Evaluation(summary, grids={"samples": images[:GRID_IMAGES]})
    if ranks and gaussian:
        label = f"real images in {counted(rank, 'principal component')}"
        found[label] = _by_components(gaussian, training[: config.samples], quality, config, ranks, rank)
    return found


def _by_components(
    gaussian: PixelGaussian,
    images: Tensor,
    quality: Quality,
    config: EvaluateConfig,
    ranks: Sequence[int],
    shown: int,
) -> Evaluation:
    """Real images in their leading principal components: the loss from the lower dimension alone."""
    found = {rank: scores(quality, gaussian.project(images, rank), "collapsed") for rank in sorted({*ranks, shown})}
    curves = {}
    for name in quality.metrics:
        for split, curve in (("quality", f"rank/{name}"), ("test", f"rank/test_{name}")):
            curves[curve] = Curve(list(ranks), [found[rank][f"{split}/{name}_collapsed"] for rank in ranks])
    grid = gaussian.project(images[:GRID_IMAGES], shown)
    return Evaluation(found[shown] | as_sampled(found[shown], config, "collapsed"), curves, {"samples": grid})
