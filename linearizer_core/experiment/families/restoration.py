"""Common parts of restoring images by a Linearizer or a network: pairs, fidelity and reference rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.degrade import DEGRADATIONS
from linearizer_core.experiment.evaluation import (
    GAUSSIAN_IMAGES,
    GRID_IMAGES,
    SAMPLE_SEED,
    Evaluation,
    capped_psnr,
)
from linearizer_core.metrics.similarity import ssim
from linearizer_core.models.inverse import Measurement

PENALTIES = (1e-3, 1e-1, 1e1, 1e2, 1e3, 1e4)
"""Penalties of ridge regression; the best one on the validation split is used."""


def measurement(config: TrialConfig) -> Measurement:
    """The measurement that a configuration makes of images."""
    return Measurement(DEGRADATIONS[config.data.degraded].measured, config.data.noise)


def pairs(config: TrialConfig, data: ImageData) -> dict[str, tuple[Tensor, Tensor]]:
    """Held-out images and their measurements, by split, with the same noise for every model."""
    measure, generator = measurement(config), torch.Generator().manual_seed(SAMPLE_SEED)
    splits = {"quality": data.validation, "test": data.test}
    held_out = {name: images[: config.evaluate.held_out] for name, images in splits.items()}
    return {name: (images, measure.drawn(images, generator)) for name, images in held_out.items()}


def shown(images: Tensor) -> Tensor:
    """The images as a file would hold them, but NaN where they are not finite, which clamping would hide."""
    return images.masked_fill(~images.isfinite(), math.nan).clamp(-1, 1)


def fidelity(split: str, how: str, made: Tensor, images: Tensor) -> dict[str, float]:
    """``<split>/psnr_<how>`` and ``ssim`` between restored images and their originals, ``(batch, *event)``."""
    made = shown(made)
    return {
        f"{split}/psnr_{how}": capped_psnr(made, images),
        f"{split}/ssim_{how}": float(ssim(made, images).mean()),
    }


def fidelity_keys(*ways: str) -> list[str]:
    """The keys of ``fidelity`` for both splits."""
    return [f"{split}/{name}_{how}" for how in ways for split in ("quality", "test") for name in ("psnr", "ssim")]


def restoration_references(config: TrialConfig, data: ImageData) -> dict[str, Evaluation]:
    """The rows to improve on: the degraded images, with missing parts filled in, and ridge regression."""
    filled = DEGRADATIONS[config.data.degraded].filled
    held_out = pairs(config, data)
    rows = {"degraded images": lambda y: filled(y, data.event), "ridge regression": _ridge(config, data, held_out)}
    found = {}
    for label, restore in rows.items():
        summary: dict[str, float] = {}
        for split, (images, measured) in held_out.items():
            summary |= fidelity(split, "collapsed", restore(measured), images)
        shown_first = shown(restore(held_out["quality"][1][:GRID_IMAGES]))
        found[label] = Evaluation(summary, grids={"samples": shown_first})
    return found


def _ridge(
    config: TrialConfig, data: ImageData, held_out: dict[str, tuple[Tensor, Tensor]]
) -> Callable[[Tensor], Tensor]:
    """scikit-learn's ridge regression from measurements to images, fitted to training images."""
    from sklearn.linear_model import Ridge  # takes longer to import than everything else that a trial needs

    images = data.train.head(GAUSSIAN_IMAGES).cpu()
    measured = measurement(config).drawn(images, torch.Generator().manual_seed(SAMPLE_SEED + 1))
    validation, theirs = held_out["quality"]

    def restore(model: Ridge, y: Tensor) -> Tensor:
        predicted = torch.from_numpy(model.predict(y.flatten(1).double().numpy()))
        return predicted.float().view(len(y), *data.event)

    fitted = [
        Ridge(alpha=alpha).fit(measured.flatten(1).double().numpy(), images.flatten(1).double().numpy())
        for alpha in PENALTIES
    ]
    best = max(fitted, key=lambda model: capped_psnr(shown(restore(model, theirs)), validation))
    return lambda y: restore(best, y)
