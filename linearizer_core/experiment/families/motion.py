"""Common parts of predicting moving images: frames, loss terms, errors against the number of steps, reference rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    GAUSSIAN_IMAGES,
    GRID_IMAGES,
    Curve,
    Evaluation,
    capped_psnr,
    in_batches,
)
from linearizer_core.metrics.harmonics import harmonics
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.metrics.perceptual import distance
from linearizer_core.models.dynamics import Moving, real_power
from linearizer_core.models.motion import Motion
from linearizer_core.operators import dynamic_modes
from linearizer_core.operators.base import LinearOperator

STARTING_FRAMES = 32_768
"""About the number of frames to which data-dependent parts, and linear predictors, are fitted."""
FOLLOWED = 512
"""Largest number of test images whose latents are followed over a whole period."""
DYNAMICS_KEYS = [f"dynamics/{name}" for name in (
    "degrees", "angle_error", "angle_error_mean", "angle_error_max", "modulus_error",
)]  # fmt: skip
HALF = 0.5
"""The time of the frame in between, at which no model is trained."""

Predict = Callable[[Tensor, float], Tensor]
"""Frames a number of steps after given ones; a negative number goes back."""


def motion_of(config: TrialConfig) -> Motion:
    """The motion that a configuration names."""
    data = config.data
    return Motion(data.motion, data.period, data.padding, data.contrast)


def successive(motion: Motion, images: Tensor) -> tuple[Tensor, Tensor]:
    """Frames of images ``(count, *event)`` and those one step later, at times spread evenly over the period."""
    each = min(motion.period, max(1, STARTING_FRAMES // len(images)))
    spread = torch.arange(each, device=images.device) * motion.period // each
    times = (torch.arange(len(images), device=images.device)[:, None] + spread) % motion.period
    repeated, flat = images.repeat_interleave(each, 0), times.flatten().to(images.dtype)
    return motion.frames(repeated, flat), motion.frames(repeated, flat + 1)


def prediction_losses(
    model: Moving, images: Tensor, config: TrialConfig, draws: Draws, *, reconstruct: bool = False
) -> dict[str, Tensor]:
    """The loss terms for a batch ``(batch, *event)`` of images, each at a random time and predicted n steps ahead.

    They are d(x_{t+n}, fⁿ(x_t)), d(x_t, f⁻ⁿ(x_{t+n})), ‖g(x_{t+n}) - Aⁿ g(x_t)‖² / ‖g(x_{t+n})‖², without whose
    denominator smaller latents would do, and with ``reconstruct`` d(x_t, decode(encode(x_t))). The number of steps n is
    drawn from 1 … ``train.horizon`` for each image.
    """
    motion, weights, measure = motion_of(config), config.train.loss, distance(config.train.distance)
    rows = images.flatten(1)[:, 0]
    start = (motion.period * draws.uniform(rows)).floor()
    count = 1 + (config.train.horizon * draws.uniform(rows)).floor()
    end = (motion.period * draws.uniform(rows)).floor() if config.data.shuffled else start + count
    first, last = motion.frames(images, start), motion.frames(images, end)
    z, w = model.encode(torch.cat([first, last])).chunk(2)
    ahead, back = z, w
    forward, backward = model.operator(), model.transition.inverse() if weights.backward else None
    for step in range(config.train.horizon):
        more = (count > step)[:, None]
        ahead = torch.where(more, forward.apply(ahead), ahead)
        if backward is not None:
            back = torch.where(more, backward.apply(back), back)
    terms: dict[str, Tensor] = {}
    if weights.latent:
        terms["latent"] = ((ahead - w).square().sum(1) / w.square().sum(1)).mean()
    wanted = {"prediction": (ahead, last), "backward": (back, first)}
    if reconstruct:
        wanted["reconstruction"] = (z, first)
    wanted = {name: pair for name, pair in wanted.items() if getattr(weights, name)}
    if wanted:
        made = model.decode(torch.cat([latents for latents, _ in wanted.values()])).chunk(len(wanted))
        for (name, (_, target)), each in zip(wanted.items(), made, strict=True):
            terms[name] = measure(each, target)
    return terms


def held_out(config: TrialConfig, data: ImageData) -> dict[str, Tensor]:
    """The held-out images used for measurements, by split; no image of one split moves in another."""
    count = config.evaluate.held_out
    return {"quality": data.validation[:count], "test": data.test[:count]}


def errors(predict: Predict, config: TrialConfig, images: Tensor) -> list[float]:
    """PSNR of the frames predicted from time 0, at each of ``evaluate.steps``."""
    motion = motion_of(config)
    start = motion.at(images, 0)
    return [capped_psnr(predict(start, steps), motion.at(images, steps)) for steps in config.evaluate.steps]


def predicted(predict: Predict, config: TrialConfig, data: ImageData, device: torch.device) -> Evaluation:
    """What ``prediction_keys`` name, curves against the number of steps, and pictures."""
    motion, horizon = motion_of(config), config.train.horizon
    summary: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    grids: dict[str, Tensor] = {}
    for split, images in held_out(config, data).items():
        images = images.to(device)
        found = errors(predict, config, images)
        summary |= {f"{split}/psnr_k{steps}": each for steps, each in zip(config.evaluate.steps, found, strict=True)}
        curve = Curve(list(config.evaluate.steps), found)
        curves[f"nfe/{'test_' * (split == 'test')}psnr"] = curve
        summary[f"{split}/psnr_auc"] = curve.area()
        start, end = motion.at(images, 0), motion.at(images, horizon)
        summary[f"{split}/psnr_back"] = capped_psnr(predict(end, -horizon), start)
        summary[f"{split}/psnr_between"] = _between(predict, motion, images)
        summary["dynamics/closure"] = relative_error(predict(start, motion.period), start)
        if split == "quality":
            grids["prediction"] = _pictures(predict, motion, images)
    return Evaluation(summary, curves, grids)


def prediction_keys(config: TrialConfig) -> list[str]:
    """The keys of ``predicted``."""
    ends = [*(f"k{steps}" for steps in config.evaluate.steps), "auc", "back", "between"]
    return [*(f"{split}/psnr_{end}" for split in ("quality", "test") for end in ends), "dynamics/closure"]


def turning(
    operator: LinearOperator, encode: Callable[[Tensor], Tensor], config: TrialConfig, images: Tensor
) -> dict[str, float]:
    """The operator's eigenvalues beside the known angle, by the latents of images over a whole period."""
    motion = motion_of(config)
    images = images[:FOLLOWED]
    series = torch.stack([in_batches(encode, motion.at(images, step)) for step in range(motion.period)], 1)
    found = harmonics(operator.to_dense(), series).summary()
    return {f"dynamics/{name}": value for name, value in found.items()}


def motion_references(config: TrialConfig, data: ImageData) -> dict[str, Evaluation]:
    """The rows to compare with: the last frame, linear prediction of pixels, and the frame moved by the known angle."""
    motion = motion_of(config)
    before, after = successive(motion, data.train.head(GAUSSIAN_IMAGES).cpu())
    mean = torch.cat([before, after]).mean(0).flatten()
    first, then = before.flatten(1) - mean, after.flatten(1) - mean
    # The inverse of the first would magnify what pixels have no variance for.
    modes, back = dynamic_modes(first, then), dynamic_modes(then, first)

    def linear(frames: Tensor, steps: float) -> Tensor:
        moved = real_power(modes if steps >= 0 else back, abs(steps)).apply(frames.flatten(1) - mean)
        return (moved + mean).view(frames.shape)

    here = torch.device("cpu")
    rows = {
        "last frame copied": predicted(lambda frames, _: frames, config, data, here),
        "linear DMD of pixels": predicted(linear, config, data, here),
        "frame moved by the known angle": predicted(motion.again, config, data, here),
    }
    turns = turning(modes, lambda frames: frames.flatten(1) - mean, config, held_out(config, data)["test"])
    rows["linear DMD of pixels"].summary.update(turns)
    both = {
        f"{split}/psnr_between": capped_psnr((motion.at(images, 0) + motion.at(images, 1)) / 2, motion.at(images, HALF))
        for split, images in held_out(config, data).items()
    }
    rows["mean of the frames on both sides"] = Evaluation(both)
    for label, row in rows.items():
        if "prediction" in row.grids:
            rows[label] = Evaluation(row.summary, row.curves, {"samples": row.grids["prediction"][:GRID_IMAGES]})
    return rows


def _between(predict: Predict, motion: Motion, images: Tensor) -> float:
    """PSNR of the frame half a step after time 0; NaN if the operator has no root."""
    try:
        return capped_psnr(predict(motion.at(images, 0), HALF), motion.at(images, HALF))
    except InputValueError:
        return math.nan


def _pictures(predict: Predict, motion: Motion, images: Tensor) -> Tensor:
    """Rows of eight frames over a period, each above the frames predicted from its first one."""
    times = [round(motion.period * i / 8) for i in range(8)]
    rows = images[: GRID_IMAGES // 16]
    start = motion.at(rows, 0)
    truth = torch.stack([motion.at(rows, time) for time in times], 1)
    made = torch.stack([predict(start, time) for time in times], 1)
    return torch.stack([truth, made], 1).flatten(0, 2).cpu()
