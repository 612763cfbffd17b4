"""Differentiable distances between images, for losses: by pixels, by edges and structure, and by a trained network."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from linearizer_core.errors import InputValueError
from linearizer_core.metrics import imagenet
from linearizer_core.metrics.inception import checkpoints, read_weights
from linearizer_core.metrics.similarity import ssim

ALEXNET = "alexnet-owt-7be5be79.pth"
SMALLEST_SIDE = 4
"""Smallest side of an image in which edges and structure are still compared."""

Distance = Callable[[Tensor, Tensor], Tensor]


def mse(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared difference, a scalar."""
    return (a - b).square().mean()


def gradient_ssim(a: Tensor, b: Tensor) -> Tensor:
    """``mse`` plus the mean over scales of the differences in edges and structure, a scalar.

    At each scale of images ``(batch, channels, height, width)`` in [-1, 1], halved by averaging while both sides are
    at least 4: the mean absolute difference of neighbouring pixels' differences, across and down, plus 1 - ``ssim``.
    All terms have weight 1. It needs no weights, and unlike ``mse`` it does not favour blur.

    Raises ``ValueError`` for images with a side below 4.

    >>> import torch, linearizer_core as lc
    >>> images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    >>> bool(lc.metrics.gradient_ssim(images, images) < lc.metrics.gradient_ssim(images, -images))
    True
    """
    if a.shape != b.shape or a.ndim != 4 or not len(a):
        message = f"images must have the same shape (batch, channels, height, width), got {tuple(a.shape)}"
        raise InputValueError(f"{message} and {tuple(b.shape)}")
    if min(a.shape[-2:]) < SMALLEST_SIDE:
        raise InputValueError(f"images must have sides of at least {SMALLEST_SIDE} pixels, got {tuple(a.shape[-2:])}")
    total = mse(a, b)
    scales = []
    while min(a.shape[-2:]) >= SMALLEST_SIDE:
        edges = sum((a.diff(dim=axis) - b.diff(dim=axis)).abs().mean() for axis in (-1, -2))
        scales.append(edges + 1 - ssim(a, b).mean())
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return total + torch.stack(scales).mean()


class Lpips:
    """The learned perceptual distance of Zhang et al. (2018) in AlexNet's features, averaged over the batch.

    Images in [-1, 1] have one or three channels and can be on any device. Grey ones are repeated for all three
    channels, and sides are enlarged to at least 64 pixels, which AlexNet needs. Raises ``ValueError`` with the message
    of ``missing`` if something is missing, and for a damaged weights file.
    """

    SIDE = 64

    def __init__(self) -> None:
        reason = missing("lpips")
        if reason is not None:
            raise InputValueError(reason)
        backbone = read_weights(checkpoints() / ALEXNET)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns about how the package calls it
            # A random backbone, whose weights are then loaded: the package itself would download them.
            model = import_module("lpips").LPIPS(net="alex", pnet_rand=True, verbose=False)
        # The package keeps the layers' numbers but groups them in slices: slice2.3.weight is features.3.weight.
        names = {name: f"features.{name.partition('.')[2]}" for name in model.net.state_dict()}
        model.net.load_state_dict({name: backbone[source] for name, source in names.items()})
        self._model = model.eval().requires_grad_(False)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self._model.to(a.device)(_enlarged(a, self.SIDE), _enlarged(b, self.SIDE)).mean()


class EarlyLayers:
    """The distance of images in the early layers of a network trained on ImageNet, averaged over the batch.

    Of the first four widths of ``ImagenetFeatures``' network: at each place the squared difference of the features of
    unit length, averaged over places and layers. This is LPIPS without its learned weights, which Zhang et al. (2018)
    find nearly as near to what people see. Images in [-1, 1] of one or three channels; grey ones are repeated for all
    three, and sides are enlarged to at least 64 pixels. Raises ``ValueError`` with what ``missing`` says.
    """

    SIDE = 64
    LAYERS = (0, 1, 3, 5)
    """The stem, and the last blocks of 16, 24 and 40 channels: at 1/2, 1/2, 1/4 and 1/8 of the sides."""

    def __init__(self) -> None:
        self._network = imagenet.trained_network()[: self.LAYERS[-1] + 1]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        network = self._network.to(a.device)
        x, y = (_enlarged(images, self.SIDE) for images in (a, b))
        # What the network takes are grey levels less 127, over 128.
        x, y = (((each + 1) * 127.5 - imagenet.MEAN) / imagenet.SCALE for each in (x, y))
        found = []
        for place, layer in enumerate(network):
            x, y = layer(x), layer(y)
            if place in self.LAYERS:
                found.append((_unit(x) - _unit(y)).square().sum(1).mean())
        return torch.stack(found).mean()


def _unit(features: Tensor) -> Tensor:
    """Features ``(batch, channels, height, width)`` of length 1 at each place; those of none stay."""
    return features * (features.square().sum(1, keepdim=True) + 1e-10).rsqrt()


def _enlarged(images: Tensor, side: int) -> Tensor:
    """Images as a network takes them, float32 ``(batch, 3, height, width)`` with ``side`` pixels a side or more."""
    images = images.float().expand(-1, 3, -1, -1)
    height, width = images.shape[-2:]
    scale = side / min(height, width)
    if scale <= 1:
        return images
    return interpolate(images, (round(height * scale), round(width * scale)), mode="bilinear", align_corners=False)


DISTANCES: dict[str, Callable[[], Distance]] = {
    "mse": lambda: mse,
    "gradient_ssim": lambda: gradient_ssim,
    "imagenet": EarlyLayers,
    "lpips": Lpips,
}


@lru_cache
def distance(name: str) -> Distance:
    """The named distance d(a, b) of two batches of images in [-1, 1], a scalar; cached, as some have weights.

    Raises ``ValueError`` for an unknown name and, with the message of ``missing``, for an unavailable distance.
    """
    _check(name)
    return DISTANCES[name]()


def missing(name: str) -> str | None:
    """What must be installed or stored before ``distance(name)`` can be used; ``None`` if nothing is missing.

    Raises ``ValueError`` for an unknown name.
    """
    _check(name)
    if name == "imagenet":
        return imagenet.missing()
    if name != "lpips":
        return None
    wanted = []
    if find_spec("lpips") is None:
        wanted.append("the package lpips (pip install lpips)")
    if not (checkpoints() / ALEXNET).is_file():
        wanted.append(f"{ALEXNET}, torchvision's weights AlexNet_Weights.IMAGENET1K_V1, in {checkpoints()}")
    return f"LPIPS needs {' and '.join(wanted)}; nothing is downloaded" if wanted else None


def _check(name: str) -> None:
    if name not in DISTANCES:
        raise InputValueError(f"unknown distance {name!r}; use one of {', '.join(DISTANCES)}")
