"""Trained models as MLflow's pyfunc flavour loads them: numbers and text are read, and nothing is unpickled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from linearizer_core.errors import InputValueError
from linearizer_core.experiment.checkpoint import load
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.precision import whole_float32
from linearizer_core.models.base import Model


class Sampler:
    """Makes images with a trained model."""

    def __init__(self, model: Model, config: TrialConfig) -> None:
        self.model = model
        self.config = config

    @torch.no_grad()
    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Images ``(count, channels, height, width)`` in [-1, 1] for rows of ``count`` and ``seed``, row after row.

        The same seed gives the same images, of whole float32 on a GPU as well. Raises ``InputValueError`` for a count
        below 1.
        """
        images = []
        for count, seed in zip(model_input["count"], model_input["seed"], strict=True):
            if count < 1:
                raise InputValueError(f"count must be at least 1, got {count}")
            generator = torch.Generator().manual_seed(int(seed))
            with whole_float32():
                images.append(family_of(self.config).sample(self.model, int(count), self.config, generator))
        return torch.cat(images).clamp(-1, 1).float().cpu().numpy()


def _load_pyfunc(path: str) -> Sampler:
    """What MLflow calls with the folder of the checkpoint."""
    return Sampler(*load(path))
