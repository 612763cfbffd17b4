"""Short constructors of invertible networks from plain arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from torch import nn

from linearizer_core.errors import InputValueError
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

Transform = Literal["affine", "additive", "spline", "mixture"]
Mixing = Literal["lu", "householder", "p4", "p4_orthogonal", "permutation"]
Network = Literal["mlp", "conv", "unet"]
Memory = Literal["store", "recompute"]
Conditioner = Callable[[int, int], nn.Module]
Builder = Callable[..., nn.Module]
"""Builds a custom network from inputs and outputs, and ``width``, ``activation`` and ``labelled``."""
Choice = TypeVar("Choice")


def identity(event: Sequence[int]) -> Chain:
    """g(x) = x, flattened from ``(batch, *event)`` to ``(batch, dim)``: its Linearizers are linear maps.

    Raises ``ValueError`` for an ``event`` that is not a shape.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.identity((1, 4, 4))
    >>> g(torch.ones(2, 1, 4, 4))[0].shape
    torch.Size([2, 16])
    """
    return Chain([Flatten(_shape(event)), Identity()])


def linear(event: Sequence[int], *, frame: Literal["pixels", "principal"] = "pixels") -> Chain:
    """An affine map, ``(batch, *event)`` to ``(batch, dim)``: the baseline for couplings.

    In the frame ``"pixels"`` it is one learned scale per pixel and an invertible matrix; in the frame ``"principal"``,
    fitted by ``initialise``, one learned scale per principal coordinate. Raises ``ValueError`` for an ``event`` that is
    not a shape and for another frame.

    >>> import torch, linearizer_core as lc
    >>> x = torch.randn(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> latents = lc.flows.linear((1, 2, 2), frame="principal").initialise(3 * x + 1)
    >>> [round(value, 3) for value in latents.std(0).tolist()]
    [1.0, 1.0, 1.0, 1.0]
    """
    event = _shape(event)
    dim = math.prod(event)
    made: dict[str, Callable[[], list[Invertible]]] = {
        "pixels": lambda: [ActNorm(dim), LUMixing(dim)],
        "principal": lambda: [PrincipalAxes(dim), ActNorm(dim)],
    }
    return Chain([Flatten(event), *_one_of("frame", frame, made)()])


def coupling(
    event: Sequence[int],
    *,
    depth: int = 4,
    width: int = 128,
    transform: Transform = "affine",
    mixing: Mixing = "lu",
    network: Network | Builder = "mlp",
    on: Literal["vectors", "images"] = "vectors",
    activation: str = "gelu",
    bins: int = 8,
    components: int = 4,
    kernel: int = 3,
    attention: bool = False,
    levels: int = 1,
    memory: Memory = "store",
    labelled: bool = False,
) -> Chain:
    """A normalizing flow of ``depth`` blocks of actnorm, coupling and mixing, ``(batch, *event)`` to ``(batch, dim)``.

    ``transform`` is the couplings' τ: ``"affine"`` (Dinh et al., Real NVP, 2017), ``"additive"`` (Dinh et al., NICE,
    2015), ``"spline"`` with ``bins`` bins (Durkan et al., 2019) or a ``"mixture"`` of ``components`` logistics (Ho et
    al., Flow++, 2019). ``mixing`` is the linear map between couplings. ``network`` computes τ's parameters with
    ``width`` hidden units or channels and the named ``activation``: with ``"mlp"`` the blocks act on the flat vector;
    with ``"conv"`` (of size ``kernel``) and ``"unet"`` (optionally with ``attention``) they act on squeezed images
    ``(channels, height, width)``, ``depth`` blocks at each of ``levels`` scales. A custom network is a ``Builder``, and
    ``on`` says what it acts on. ``memory`` is that of ``Chain``. A ``labelled`` network needs a label ``(batch,)`` in
    every call.

    Raises ``ValueError`` for an ``event`` that is not a shape, an unknown name, a depth, width or number of levels
    below 1, and images that cannot be squeezed ``levels`` times.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=2, width=16, transform="spline")
    >>> x = torch.randn(8, 1, 4, 4)
    >>> z, log_det = g(x)
    >>> z.shape, log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8, 16]), torch.Size([8]), True)
    """
    event = _shape(event)
    _at_least_one(depth=depth, width=width, levels=levels)
    blocks = _Blocks(
        depth, width, transform, mixing, network, activation, bins, components, kernel, attention, labelled
    )
    if network == "mlp" if isinstance(network, str) else on == "vectors":
        return Chain([Flatten(event), *blocks(math.prod(event))], memory)
    if len(event) != 3:
        named = network if isinstance(network, str) else "convolutional"
        raise InputValueError(f"a {named} flow takes images (channels, height, width), got the event {event}")
    channels, height, across = event
    if height % 2**levels or across % 2**levels:
        raise InputValueError(
            f"a convolutional flow squeezes 2×2 blocks {levels} times, so image sides must be multiples of "
            f"{2**levels}, got {height}×{across}"
        )
    scales, shapes, entering = [], [], channels
    for level in range(1, levels + 1):
        squeezed = 4 * entering
        scales.append(Chain([Squeeze(), *blocks(squeezed)], memory))
        shapes.append((squeezed, height // 2**level, across // 2**level))
        entering = squeezed // 2
    return Chain([MultiScale(scales, (channels, height, across), shapes)])


def principal(
    event: Sequence[int],
    *,
    coordinates: int = 128,
    depth: int = 4,
    width: int = 128,
    transform: Transform = "affine",
    mixing: Mixing = "lu",
    network: Literal["mlp"] | Builder = "mlp",
    activation: str = "gelu",
    bins: int = 8,
    components: int = 4,
    memory: Memory = "store",
    labelled: bool = False,
) -> Chain:
    """The blocks of ``coupling`` on the data's leading principal coordinates, ``(batch, *event)`` to ``(batch, dim)``.

    ``initialise`` finds the principal axes and scales each coordinate to unit variance. Couplings act on at most
    ``coordinates`` of them; the others are only scaled. The other arguments are those of ``coupling``.

    Raises ``ValueError`` like ``coupling``, and for fewer than two coordinates.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.principal((1, 4, 4), coordinates=4, depth=1, width=8)
    >>> latents = g.initialise(torch.randn(100, 1, 4, 4))
    >>> latents.shape
    torch.Size([100, 16])
    """
    event = _shape(event)
    _at_least_one(depth=depth, width=width)
    blocks = _Blocks(depth, width, transform, mixing, network, activation, bins, components, 1, False, labelled)
    dim = math.prod(event)
    count = min(coordinates, dim)
    inner = Chain(blocks(count), memory)
    return Chain([Flatten(event), PrincipalAxes(dim), ActNorm(dim), Leading(inner, count)])


@dataclass(frozen=True)
class _Blocks:
    """``depth`` blocks of actnorm, coupling and mixing on a given number of channels."""

    depth: int
    width: int
    transform: str
    mixing: str
    network: str | Builder
    activation: str
    bins: int
    components: int
    kernel: int
    attention: bool
    labelled: bool

    def __call__(self, channels: int) -> list[Invertible]:
        maps: list[Invertible] = []
        for _ in range(self.depth):
            maps += [ActNorm(channels), self._coupling(channels), self._mixing(channels)]
        return maps

    def _coupling(self, channels: int) -> Coupling:
        kinds: dict[str, Callable[[int, Conditioner], Coupling]] = {
            "affine": AffineCoupling,
            "additive": AdditiveCoupling,
            "spline": partial(SplineCoupling, bins=self.bins),
            "mixture": partial(MixtureCoupling, components=self.components),
        }
        return _one_of("transform", self.transform, kinds)(channels, self._conditioner())

    def _conditioner(self) -> Conditioner:
        kinds: dict[str, Callable[..., nn.Module]] = {
            "mlp": MLP,
            "conv": partial(ConvNet, kernel=self.kernel),
            "unet": partial(UNet, attention=self.attention),
        }
        kind = self.network if callable(self.network) else _one_of("network", self.network, kinds)
        return partial(kind, width=self.width, activation=self.activation, labelled=self.labelled)

    def _mixing(self, channels: int) -> Invertible:
        kinds: dict[str, Callable[[int], Invertible]] = {
            "lu": LUMixing,
            "householder": HouseholderMixing,
            "p4": P4Mixing,
            "p4_orthogonal": partial(P4Mixing, orthogonal=True),
            "permutation": Permutation,
        }
        return _one_of("mixing", self.mixing, kinds)(channels)


def _one_of(name: str, value: str, kinds: Mapping[str, Choice]) -> Choice:
    if value not in kinds:
        raise InputValueError(f"{name} must be one of {', '.join(kinds)}, got {value!r}")
    return kinds[value]


def _shape(event: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(event)
    if not shape or min(shape) < 1:
        raise InputValueError(f"event must be the shape of one input, such as (1, 8, 8), got {shape}")
    return shape


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputValueError(f"{name} must be at least 1, got {number}")
