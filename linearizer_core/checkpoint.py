"""Saving and loading models as safetensors and JSON: a file from elsewhere cannot run code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from linearizer_core.config import TrialConfig, from_mapping, to_mapping
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.models import build_diffusion

FORMAT = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read."""


def save(folder: Path | str, model: LinearDiffusion, config: TrialConfig) -> None:
    """Write ``model.safetensors`` and ``config.json`` into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The configuration is what makes the folder a checkpoint: it goes first and comes back last.
    (folder / CONFIG).unlink(missing_ok=True)
    save_model(model, str(folder / WEIGHTS))  # a network that g_x and g_y share is written once
    record = {"format": FORMAT, "event": list(model.event), "config": to_mapping(config)}
    (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n")


def load(folder: Path | str, device: torch.device | str = "cpu") -> tuple[LinearDiffusion, TrialConfig]:
    """The model and configuration that ``save`` wrote.

    Raises ``CheckpointError`` naming the file and what is wrong with it.
    """
    folder = Path(folder)
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text())
        if record["format"] != FORMAT:
            raise CheckpointError(f"{path}: format {record['format']}, this version reads format {FORMAT}")
        config = from_mapping(TrialConfig, record["config"])
        model = build_diffusion(config.model, config.evaluate, tuple(record["event"]), config.seed)
    except CheckpointError:
        raise
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint's configuration: {error}") from error
    try:
        load_model(model, folder / WEIGHTS)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not the weights of the model in {CONFIG}: {error}") from error
    return model.to(device).eval(), config
