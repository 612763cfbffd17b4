"""From a configuration to an invertible network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from linearizer_core.config import FlowConfig
from linearizer_core.flows.actnorm import ActNorm
from linearizer_core.flows.base import Chain, Identity, Invertible
from linearizer_core.flows.conditioners import conv, mlp
from linearizer_core.flows.coupling import AffineCoupling
from linearizer_core.flows.mixing import LUMixing
from linearizer_core.flows.squeeze import Flatten, Squeeze


def build_flow(config: FlowConfig, event: tuple[int, int, int]) -> Chain:
    """An invertible map from images ``(batch, channels, height, width)`` to latents ``(batch, dim)``.

    ``depth`` blocks of actnorm, affine coupling and LU mixing; with ``conditioner: conv`` they act on the
    squeezed image, with ``mlp`` on the flat vector. ``kind: identity`` only flattens.

    Raises ``ValueError`` for images that cannot be squeezed.
    """
    channels, height, width = event
    if config.kind == "identity":
        return Chain([Flatten(event), Identity()])
    if config.conditioner == "mlp":
        dim = channels * height * width
        build = partial(mlp, width=config.width, name=config.activation)
        return Chain([Flatten(event), *_blocks(config.depth, dim, build)])
    if height % 2 or width % 2:
        raise ValueError(f"a convolutional flow squeezes 2×2 blocks: image sides must be even, got {height}×{width}")
    squeezed = (4 * channels, height // 2, width // 2)
    build_conv = partial(conv, width=config.width, name=config.activation, kernel=config.kernel)
    return Chain([Squeeze(), *_blocks(config.depth, squeezed[0], build_conv), Flatten(squeezed)])


def _blocks(depth: int, channels: int, conditioner: Callable[[int, int], nn.Module]) -> list[Invertible]:
    maps: list[Invertible] = []
    for _ in range(depth):
        maps += [ActNorm(channels), AffineCoupling(channels, conditioner), LUMixing(channels)]
    return maps
