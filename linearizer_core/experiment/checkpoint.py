"""A trial's checkpoint: the weights of its model, and the configuration that the model is built from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from linearizer_core.checkpoint import CONFIG, WEIGHTS, CheckpointError, read, write
from linearizer_core.experiment.checks import model_problems
from linearizer_core.experiment.configuration import TrialConfig, to_mapping
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.plugged import trial_config
from linearizer_core.models.base import Model
from linearizer_core.plugins.loading import of_file

FORMAT = 3

__all__ = ["CONFIG", "FORMAT", "WEIGHTS", "CheckpointError", "load", "save"]


def save(folder: Path | str, model: Model, config: TrialConfig) -> None:
    """Write ``model.safetensors``, and ``config.json`` with the digest of the weights, into ``folder``.

    Raises ``OSError`` naming a file that cannot be written; the folder is then not a checkpoint.
    """
    write(
        folder,
        model,
        {"format": FORMAT, "event": list(model.event), "classes": model.classes},
        {"config": to_mapping(config)},
    )


def load(
    folder: Path | str, device: torch.device | str = "cpu", *, plugins: Iterable[Path | str] = ()
) -> tuple[Model, TrialConfig]:
    """Load the model and configuration that ``save`` wrote.

    Code that the model needs from plugins is taken from the files ``plugins``: a checkpoint cannot run code of its own.
    Raises ``CheckpointError`` naming the file and what is wrong with it, such as a plugin that is missing or was
    changed.
    """
    for path in plugins:
        of_file(Path(path))
    configs: list[TrialConfig] = []

    def build(record: dict[str, Any]) -> Model:
        config = trial_config(record["config"])
        channels, height, width = (int(side) for side in record["event"])
        if min(channels, height, width) < 1:
            raise ValueError(f"event {record['event']} is not the shape of an image")
        for name, message in model_problems(config, (channels, height, width)).items():
            raise ValueError(f"{name}: {message}")
        configs.append(config)
        return family_of(config).build(config, (channels, height, width), int(record.get("classes", 0)))

    model = read(folder, FORMAT, build).to(device).eval()
    return model, configs[0]
