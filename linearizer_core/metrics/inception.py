"""Features of the Inception network of FID and KID, if its package and weights are on this machine."""

from __future__ import annotations

import hashlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError

FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""Names under which torch-fidelity and pytorch-fid publish the same file."""

FEATURES = 2048


def checkpoints() -> Path:
    """The folder in which torch hub keeps downloaded weights; the environment variable TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file whose name ends, like torch hub's, with the first digits of its SHA-256.

    Raises ``ValueError`` if the digits differ, and the error of ``torch.load`` if the file holds more than tensors.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise InputValueError(f"{path} is damaged: its SHA-256 starts with {digest[:8]}; fetch it again")
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def missing() -> str | None:
    """What must be installed or stored before ``InceptionFeatures`` can be used; ``None`` if nothing is missing."""
    wanted = []
    if find_spec("torch_fidelity") is None:
        wanted.append("the package torch-fidelity (pip install torch-fidelity)")
    if _stored() is None:
        wanted.append(f"{FILES[0]}, a file of torch-fidelity's release v0.2.0, in {checkpoints()}")
    return f"Inception's features need {' and '.join(wanted)}; nothing is downloaded" if wanted else None


def _stored() -> Path | None:
    return next((path for path in (checkpoints() / name for name in FILES) if path.is_file()), None)


class InceptionFeatures:
    """The pooled features in which FID (Heusel et al., 2017) and KID (Bińkowski et al., 2018) are defined.

    This is the TensorFlow network of 2015 as converted by torch-fidelity, with its own way of resizing:
    ``frechet_distance`` of these features is FID, ``kernel_distance`` KID. Raises ``ValueError`` with the message of
    ``missing`` if something is missing, and for a damaged weights file.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        reason, path = missing(), _stored()
        if reason is not None or path is None:
            raise InputValueError(reason)
        # torch-fidelity unpickles whatever the file holds, so first make sure that it holds nothing but tensors.
        read_weights(path)
        extractor = import_module("torch_fidelity").FeatureExtractorInceptionV3
        model = extractor("inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=str(path))
        self._device = torch.device(device)
        self._model = model.to(self._device)

    @torch.no_grad()
    def features(self, images: Tensor, batch: int = 64) -> Tensor:
        """Features ``(count, 2048)`` of images ``(count, channels, height, width)`` in [-1, 1], in batches.

        Images are rounded to the levels of an 8-bit file. Grey images, with one channel, are repeated for all three.
        """
        parts = []
        for part in images.split(batch):
            levels = ((part.to(self._device).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            parts.append(self._model(levels.expand(-1, 3, -1, -1))[0])
        return torch.cat(parts)
