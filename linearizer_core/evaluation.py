"""What is measured of a trained diffusion model, and of the references that its numbers are read against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from linearizer_core.config import EvaluateConfig
from linearizer_core.data import ImageData
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.flows.conditioners import parameters
from linearizer_core.grids import GRIDS
from linearizer_core.metrics.features import Classifier
from linearizer_core.metrics.linearity import additivity, homogeneity, roundtrip
from linearizer_core.metrics.quality import frechet_distance, psnr, sliced_wasserstein
from linearizer_core.metrics.spectrum import effective_rank, energy_rank
from linearizer_core.solvers import SOLVERS

SAMPLE_SEED = 99
"""Fixes the noise that samples are made from, so that every trial and every step count is given the same."""

GRID_IMAGES = 64


@dataclass(frozen=True)
class Curve:
    """A metric against the number of solver steps."""

    steps: list[int]
    values: list[float]

    def area(self) -> float:
        """The mean of the values over log steps, by the trapezoid rule; the one value where there is one step."""
        if len(self.steps) == 1:
            return self.values[0]
        logs = [math.log(step) for step in self.steps]
        pieces = [(self.values[i] + self.values[i + 1]) / 2 * (logs[i + 1] - logs[i]) for i in range(len(logs) - 1)]
        return sum(pieces) / (logs[-1] - logs[0])


@dataclass(frozen=True)
class Evaluation:
    """End scalars by metric key, curves by metric key, and images to look at, ``(64, channels, height, width)``."""

    summary: dict[str, float]
    curves: dict[str, Curve] = field(default_factory=dict)
    grids: dict[str, Tensor] = field(default_factory=dict)


class Quality:
    """The configured sample quality metrics against the held-out splits of a data set.

    Samples are clamped to [-1, 1] first: what is scored is the image that a file would hold.
    """

    def __init__(self, metrics: tuple[str, ...], data: ImageData, classifier: Classifier, device: torch.device) -> None:
        self._device = device
        self._classifier = classifier.to(device)
        self._splits = {"quality": data.validation.to(device), "test": data.test.to(device)}
        self._features = {name: self._classifier.features(images) for name, images in self._splits.items()}
        known: Mapping[str, Callable[[Tensor, str], float]] = {
            "swd": self._sliced_wasserstein,
            "classifier_fd": self._classifier_frechet,
        }
        self._metrics = {name: known[name] for name in metrics}

    def _sliced_wasserstein(self, samples: Tensor, split: str) -> float:
        return sliced_wasserstein(samples, self._splits[split])

    def _classifier_frechet(self, samples: Tensor, split: str) -> float:
        return frechet_distance(self._classifier.features(samples), self._features[split])

    def __call__(self, samples: Tensor, split: str = "quality") -> dict[str, float]:
        """Metric name to value, NaN where a sample is not finite; ``split`` is ``quality`` (validation) or ``test``."""
        if not bool(torch.isfinite(samples).all()):
            return dict.fromkeys(self._metrics, math.nan)
        clamped = samples.to(self._device).clamp(-1, 1)
        return {name: metric(clamped, split) for name, metric in self._metrics.items()}


@torch.no_grad()
def evaluate_collapsed(model: LinearDiffusion, config: EvaluateConfig, quality: Quality) -> dict[str, float]:
    """``quality/<metric>_collapsed`` alone: cheap enough to be taken during training."""
    collapsed = model.collapse(config.steps[-1], SOLVERS[config.solver], GRIDS[config.grid])
    samples = model.generator(collapsed)(_noise(model, config))
    return {f"quality/{name}_collapsed": value for name, value in quality(samples).items()}


@torch.no_grad()
def evaluate(model: LinearDiffusion, config: EvaluateConfig, data: ImageData, quality: Quality) -> Evaluation:
    """The evaluation at the end of a trial: step-count curves, collapsed sampler, linearity, spectrum, cost."""
    solver, grid = SOLVERS[config.solver], GRIDS[config.grid]
    finest = config.steps[-1]
    noise = _noise(model, config)
    summary: dict[str, float] = {}
    grids: dict[str, Tensor] = {}
    values: dict[str, list[float]] = {}
    stepped = noise
    for steps in config.steps:
        stepped, milliseconds = _timed(model, partial(model.sample_stepping, noise, steps, solver, grid))
        summary[f"cost/sample_ms_k{steps}"] = milliseconds / len(noise)
        for name, value in quality(stepped).items():
            values.setdefault(name, []).append(value)
            summary[f"quality/{name}_k{steps}"] = value
        if steps in (config.steps[0], finest):
            grids[f"k{steps}"] = stepped[:GRID_IMAGES].cpu()
    curves = {f"nfe/{name}": Curve(list(config.steps), column) for name, column in values.items()}
    for name in values:
        summary[f"quality/{name}_auc"] = curves[f"nfe/{name}"].area()

    collapsed = model.collapse(finest, solver, grid)
    generate = model.generator(collapsed)
    samples, milliseconds = _timed(model, lambda: generate(noise))
    grids["collapsed"] = samples[:GRID_IMAGES].cpu()
    summary["cost/sample_ms_collapsed"] = milliseconds / len(noise)
    summary |= {f"quality/{name}_collapsed": value for name, value in quality(samples).items()}
    summary |= {f"test/{name}_collapsed": value for name, value in quality(samples, "test").items()}

    held_out = data.validation.to(model.device)
    half = len(noise) // 2
    inverse = generate.pinv()
    summary |= {
        "linearity/collapse_psnr": min(psnr(samples, stepped), 200.0),
        "linearity/additivity": additivity(generate, noise[:half], noise[half : 2 * half]),
        "linearity/homogeneity": homogeneity(generate, noise),
        "linearity/roundtrip": roundtrip(model.g_x, held_out),
        "linearity/roundtrip_noise": roundtrip(model.g_y, noise),
        "linearity/inversion_psnr": min(psnr(generate(inverse(held_out)), held_out), 200.0),
        "cost/params": float(parameters(model)),
    }
    singular = collapsed.singular_values()
    summary |= {
        "spectrum/effective_rank": effective_rank(singular),
        "spectrum/energy_rank": float(energy_rank(singular)),
        "spectrum/largest": float(singular[0]),
        "spectrum/condition": collapsed.condition(),
    }
    return Evaluation(summary, curves, grids)


def _noise(model: LinearDiffusion, config: EvaluateConfig) -> Tensor:
    return model.noise(config.samples, torch.Generator().manual_seed(SAMPLE_SEED))


def _timed(model: LinearDiffusion, sample: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """A sampler's result and its wall time in milliseconds."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    start = time.perf_counter()
    result = sample()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return result, 1000 * (time.perf_counter() - start)


def references(data: ImageData, config: EvaluateConfig, quality: Quality) -> dict[str, Evaluation]:
    """The rows that place every other number: real images, the Gaussian fitted to the training pixels, and noise.

    The Gaussian has the training pixels' mean and covariance, all that a generator with an affine g could match.
    """
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    pixels = data.train.flatten(1).double()
    covariance = torch.cov(pixels.T)
    values, vectors = torch.linalg.eigh(covariance)
    white = torch.randn(config.samples, pixels.shape[1], generator=generator, dtype=torch.float64)
    gaussian = (pixels.mean(0) + (white * values.clamp_min(0).sqrt()) @ vectors.T).float().view(-1, *data.event)
    noise = torch.randn(config.samples, *data.event, generator=generator)
    sets = {
        "real against real": data.train,
        "Gaussian fitted to the training pixels": gaussian,
        "noise": noise,
    }
    return {
        label: Evaluation(
            {f"quality/{name}_collapsed": value for name, value in quality(images).items()}
            | {f"test/{name}_collapsed": value for name, value in quality(images, "test").items()},
            grids={"samples": images[:GRID_IMAGES]},
        )
        for label, images in sets.items()
    }


def interim_keys(config: EvaluateConfig) -> list[str]:
    """The metric keys that ``evaluate_collapsed`` gives during training."""
    return [f"quality/{name}_collapsed" for name in config.quality]


def summary_keys(config: EvaluateConfig) -> list[str]:
    """The metric keys of the end scalars that ``evaluate`` gives."""
    keys = interim_keys(config)
    for name in config.quality:
        keys += [f"quality/{name}_k{steps}" for steps in config.steps]
        keys += [f"quality/{name}_auc", f"test/{name}_collapsed"]
    keys += [f"cost/sample_ms_k{steps}" for steps in config.steps]
    keys += ["cost/sample_ms_collapsed", "cost/params"]
    names = ("collapse_psnr", "additivity", "homogeneity", "roundtrip", "roundtrip_noise", "inversion_psnr")
    keys += [f"linearity/{name}" for name in names]
    return keys + [f"spectrum/{name}" for name in ("effective_rank", "energy_rank", "largest", "condition")]
