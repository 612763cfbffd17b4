"""Trained models as an MLflow pyfunc: nothing is unpickled, and no code runs except that of plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from linearizer_core.experiment.checkpoint import load
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.samples import sample
from linearizer_core.models.base import Model
from linearizer_core.plugins.loading import FOLDER


class Sampler:
    """Samples images from a trained model."""

    def __init__(self, model: Model, config: TrialConfig) -> None:
        self.model = model
        self.config = config

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Images ``(count, channels, height, width)`` in [-1, 1] for rows of ``count`` and ``seed``, row after row.

        The same seed gives the same images; on a GPU too they are computed in full float32. Raises
        ``InputValueError`` for a count below 1.
        """
        rows = zip(model_input["count"], model_input["seed"], strict=True)
        return torch.cat([sample(self.model, self.config, int(count), int(seed)) for count, seed in rows]).numpy()


def _load_pyfunc(path: str) -> Sampler:
    """The function that MLflow calls with the checkpoint's folder."""
    return Sampler(*load(path, plugins=sorted(Path(path, FOLDER).glob("*/*.py"))))
