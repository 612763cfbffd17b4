"""Saving and loading models as safetensors and JSON: a file from elsewhere cannot run code."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model

from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.checks import model_problems
from linearizer_core.experiment.configuration import TrialConfig, from_mapping, to_mapping
from linearizer_core.experiment.families import family_of
from linearizer_core.files import whole, write_whole
from linearizer_core.models.base import Model

FORMAT = 3
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
DIGEST = "weights_sha256"


class CheckpointError(LinsweepError, ValueError):
    """A checkpoint that cannot be read."""


def save(folder: Path | str, model: Model, config: TrialConfig) -> None:
    """Write ``model.safetensors`` and ``config.json``, which has the digest of the weights, into ``folder``.

    Raises ``OSError`` naming the file that cannot be written; the folder is no checkpoint then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The configuration is what makes the folder a checkpoint: it goes first and comes back last.
    (folder / CONFIG).unlink(missing_ok=True)
    with whole(folder / WEIGHTS) as temporary:
        try:
            save_model(model, str(temporary))  # a network that g_x and g_y share is written once
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from None
        digest = _digest(temporary)
    dtype = str(model.dtype).removeprefix("torch.")
    record = {"format": FORMAT, "event": list(model.event), "dtype": dtype, DIGEST: digest}
    write_whole(folder / CONFIG, json.dumps({**record, "config": to_mapping(config)}, indent=2) + "\n")


def load(folder: Path | str, device: torch.device | str = "cpu") -> tuple[Model, TrialConfig]:
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
        channels, height, width = (int(side) for side in record["event"])
        if min(channels, height, width) < 1:
            raise ValueError(f"event {record['event']} is not the shape of an image")
        for name, message in model_problems(config, (channels, height, width)).items():
            raise ValueError(f"{name}: {message}")
        dtype = {"float32": torch.float32, "float64": torch.float64}[record["dtype"]]
        model = family_of(config).build(config, (channels, height, width)).to(dtype)
    except CheckpointError:
        raise
    except (OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint's configuration: {error}") from error
    try:
        _check_digest(record, folder / WEIGHTS)
        _check_dtypes(model, folder / WEIGHTS)
        load_model(model, folder / WEIGHTS)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not the weights of the model in {CONFIG}: {error}") from error
    return model.to(device).eval(), config


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(record: Mapping[str, Any], path: Path) -> None:
    """Raise ``ValueError`` for weights that are not those that were saved; checkpoints before had no digest."""
    if DIGEST in record and record[DIGEST] != _digest(path):
        raise ValueError("its SHA-256 is another than it was saved with")


def _check_dtypes(model: Model, path: Path) -> None:
    """Raise ``ValueError`` for weights that would be converted silently."""
    expected = model.state_dict()
    with safe_open(path, "pt") as file:
        names = file.keys()
        for name in names:
            dtype = file.get_tensor(name).dtype
            if name in expected and dtype != expected[name].dtype:
                raise ValueError(f"{name} is {dtype}, the model's is {expected[name].dtype}")
