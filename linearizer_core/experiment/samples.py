"""Images made by a trained model."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.precision import whole_float32
from linearizer_core.models.base import Model


@torch.no_grad()
def sample(model: Model, config: TrialConfig, count: int, seed: int) -> Tensor:
    """Images ``(count, channels, height, width)`` in [-1, 1], float32, on the CPU.

    The same seed gives the same images; GPUs compute in full float32 too. Raises ``InputValueError`` for a count
    below 1.
    """
    if count < 1:
        raise InputValueError(f"count must be at least 1, got {count}")
    generator = torch.Generator().manual_seed(seed)
    with whole_float32():
        images = family_of(config).sample(model, count, config, generator)
    return images.clamp(-1, 1).float().cpu()
