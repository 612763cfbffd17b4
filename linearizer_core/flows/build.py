"""From a configuration to an invertible network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.flows.actnorm import ActNorm
from linearizer_core.flows.base import Chain, Identity, Invertible
from linearizer_core.flows.conditioners import MLP, ConvNet
from linearizer_core.flows.couplings import AdditiveCoupling, AffineCoupling, Coupling
from linearizer_core.flows.mixing import HouseholderMixing, LUMixing, Permutation
from linearizer_core.flows.mixture import MixtureCoupling
from linearizer_core.flows.multiscale import MultiScale
from linearizer_core.flows.p4_mixing import P4Mixing
from linearizer_core.flows.principal_axes import Leading, PrincipalAxes
from linearizer_core.flows.spline import SplineCoupling
from linearizer_core.flows.squeeze import Flatten, Squeeze
from linearizer_core.flows.unet import UNet

Event = tuple[int, int, int]
Conditioner = Callable[[int, int], nn.Module]


def build_flow(config: FlowConfig, event: Event, labelled: bool = False) -> Chain:
    """An invertible map from images ``(batch, channels, height, width)`` to latents ``(batch, dim)``.

    ``depth`` blocks of actnorm, coupling and mixing; with the ``mlp`` conditioner they act on the flat vector, with the
    others on the squeezed image, ``depth`` of them at each of ``levels`` scales. ``kind: identity`` only flattens,
    ``kind: linear`` is affine. A ``labelled`` network wants a label with every call.

    Raises ``ValueError`` for images that cannot be squeezed ``levels`` times.
    """
    channels, height, width = event
    if config.kind == "identity":
        return Chain([Flatten(event), Identity()])
    if config.kind == "linear":
        return _linear(config, event)
    if config.conditioner == "mlp":
        return _flat(config, event, labelled)
    if height % 2**config.levels or width % 2**config.levels:
        raise ValueError(
            f"a convolutional flow squeezes 2×2 blocks {config.levels} times: image sides must be multiples of "
            f"{2**config.levels}, got {height}×{width}"
        )
    levels, shapes, entering = [], [], channels
    for level in range(1, config.levels + 1):
        squeezed = 4 * entering
        levels.append(Chain([Squeeze(), *_blocks(config, squeezed, labelled)], config.memory))
        shapes.append((squeezed, height // 2**level, width // 2**level))
        entering = squeezed // 2
    return Chain([MultiScale(levels, event, shapes)])


def _linear(config: FlowConfig, event: Event) -> Chain:
    """An affine map: principal coordinates, or mixed pixels, each with a learned scale."""
    dim = event[0] * event[1] * event[2]
    if config.frame == "principal":
        return Chain([Flatten(event), PrincipalAxes(dim), ActNorm(dim)])
    return Chain([Flatten(event), ActNorm(dim), LUMixing(dim)])


def _flat(config: FlowConfig, event: Event, labelled: bool) -> Chain:
    """Blocks on the flat vector, or on the leading ones of its principal coordinates, each of unit variance."""
    dim = event[0] * event[1] * event[2]
    if config.frame == "pixels":
        return Chain([Flatten(event), *_blocks(config, dim, labelled)], config.memory)
    count = min(config.coordinates, dim)
    blocks = Chain(_blocks(config, count, labelled), config.memory)
    return Chain([Flatten(event), PrincipalAxes(dim), ActNorm(dim), Leading(blocks, count)])


def _blocks(config: FlowConfig, channels: int, labelled: bool) -> list[Invertible]:
    maps: list[Invertible] = []
    for _ in range(config.depth):
        maps += [ActNorm(channels), _coupling(config, channels, labelled), _mixing(config, channels)]
    return maps


def _coupling(config: FlowConfig, channels: int, labelled: bool) -> Coupling:
    conditioner = _conditioner(config, labelled)
    kinds: dict[str, Callable[[int, Conditioner], Coupling]] = {
        "affine": AffineCoupling,
        "additive": AdditiveCoupling,
        "spline": partial(SplineCoupling, bins=config.bins),
        "mixture": partial(MixtureCoupling, components=config.components),
    }
    return kinds[config.coupling](channels, conditioner)


def _conditioner(config: FlowConfig, labelled: bool) -> Conditioner:
    kinds: dict[str, Callable[..., nn.Module]] = {
        "mlp": MLP,
        "conv": partial(ConvNet, kernel=config.kernel),
        "unet": partial(UNet, attention=config.attention),
    }
    kind = kinds[config.conditioner]
    return partial(kind, width=config.width, activation=config.activation, labelled=labelled)


def _mixing(config: FlowConfig, channels: int) -> Invertible:
    kinds: dict[str, Callable[[int], Invertible]] = {
        "lu": LUMixing,
        "householder": HouseholderMixing,
        "p4": P4Mixing,
        "p4_orthogonal": partial(P4Mixing, orthogonal=True),
        "permutation": Permutation,
    }
    return kinds[config.mixing](channels)
