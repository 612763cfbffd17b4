"""Networks θ that compute a coupling's parameters; they need not be invertible and hold no randomness."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.activations import activation, expansion

FREQUENCIES, EMBEDDING = 6, 32
"""Number of a label's sinusoids, and of the features that modulate every hidden layer: small relative to any width."""


class LabelEmbedding(nn.Module):
    """SiLU(W [sin ωt, cos ωt] + b) of labels t in [0, 1], with ω = π·2ᵏ, to ``(batch, EMBEDDING)``.

    A row has one label, ``(batch,)``, or ``labels`` labels, ``(batch, labels)``, whose waves are concatenated.
    """

    frequencies: Tensor

    def __init__(self, labels: int = 1) -> None:
        super().__init__()
        # The lowest frequency spans half a turn, so its cosine tells all labels apart; each next one is an octave up.
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)
        self.linear = nn.Linear(2 * FREQUENCIES * labels, EMBEDDING)

    def forward(self, label: Tensor) -> Tensor:
        angles = (label.to(self.frequencies.dtype)[..., None] * self.frequencies).flatten(1)
        return nn.functional.silu(self.linear(torch.cat([angles.sin(), angles.cos()], 1)))


class Modulation(nn.Module):
    """(1 + γ) ⊙ x + β of whole channels, with γ and β linear in a label's features (Perez et al., FiLM, 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(EMBEDDING, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        gamma, beta = self.linear(embedding).view(len(x), self.linear.out_features, *[1] * (x.ndim - 2)).chunk(2, 1)
        return torch.addcmul(beta, x, 1 + gamma)


def hidden(layer: Callable[[int], nn.Module], width: int, name: str, labelled: bool) -> list[nn.Module]:
    """A hidden layer of ``width`` outputs: a linear part, a modulation if labelled, and the named activation.

    ``layer(channels)`` builds the linear part with the number of channels that the activation takes.
    """
    act, channels = activation(name), expansion(name) * width
    return [layer(channels), Modulation(channels), act] if labelled else [layer(channels), act]


def run(layers: Iterable[nn.Module], x: Tensor, embedding: Tensor | None) -> Tensor:
    """Apply the layers one after another; modulations are also given the label's features."""
    for layer in layers:
        x = layer(x, embedding) if isinstance(layer, Modulation) else layer(x)
    return x


class Conditioner(nn.Module, ABC):
    """A network θ(x, label). If it is ``labelled``, a label ``(batch,)`` modulates its hidden layers.

    Otherwise the label is ignored. Several ``labels`` are ``(batch, labels)``. Raises ``ValueError`` if a labelled
    network is not given its number of labels in every row.
    """

    autocast: torch.dtype | None = None
    """The dtype set by ``in_precision`` for the layers; None means the parameters' own."""

    def __init__(self, labelled: bool, labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        self.embedding = LabelEmbedding(labels) if labelled else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """θ for ``(batch, inputs, …)``: ``(batch, outputs, …)``, in the dtype of x."""
        if self.autocast is None:
            return self.network(x, label)
        with torch.autocast(x.device.type, self.autocast):
            return self.network(x, label).to(x.dtype)

    @abstractmethod
    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        """θ in whatever dtype the layers return."""

    def embed(self, x: Tensor, label: Tensor | None) -> Tensor | None:
        """The label's features ``(batch, EMBEDDING)``, or None for an unlabelled network."""
        if self.embedding is None:
            return None
        shape = (len(x),) if self.labels == 1 else (len(x), self.labels)
        if label is None or label.shape != shape:
            got = None if label is None else tuple(label.shape)
            raise InputValueError(f"a labelled {type(self).__name__} needs a label of shape {shape}, got {got}")
        return self.embedding(label)


@contextmanager
def in_precision(conditioners: Sequence[Conditioner], dtype: torch.dtype | None) -> Iterator[None]:
    """Within the context, the networks' layers compute in ``dtype`` by autocast; None means their parameters' dtype.

    Everything around the networks is unaffected: g and g⁻¹ are inverses to the precision of their inputs, in which
    log-determinants are summed too.
    """
    for conditioner in conditioners:
        conditioner.autocast = dtype
    try:
        yield
    finally:
        for conditioner in conditioners:
            conditioner.autocast = None


class Stack(Conditioner):
    """Hidden layers and a last layer, which starts at zero."""

    def __init__(self, layers: list[nn.Module], last: nn.Linear | nn.Conv2d, labelled: bool) -> None:
        super().__init__(labelled)
        zero(last)
        self.layers = nn.ModuleList([*layers, last])

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        return run(self.layers, x, self.embed(x, label))


class MLP(Stack):
    """A perceptron with two hidden layers, ``(batch, inputs)`` to ``(batch, outputs)``, initially zero."""

    def __init__(self, inputs: int, outputs: int, *, width: int, activation: str, labelled: bool = False) -> None:
        first = hidden(partial(nn.Linear, inputs), width, activation, labelled)
        second = hidden(partial(nn.Linear, width), width, activation, labelled)
        super().__init__([*first, *second], nn.Linear(width, outputs), labelled)


class ConvNet(Stack):
    """k×k, 1×1 and k×k convolutions, ``(batch, inputs, h, w)`` to ``(batch, outputs, h, w)``, initially zero.

    The layers are those of Glow's couplings (Kingma & Dhariwal, 2018, section 5). Raises ``ValueError`` for an even
    kernel, which has no centre.
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int, activation: str, kernel: int, labelled: bool = False
    ) -> None:
        if kernel % 2 == 0:
            raise InputValueError(f"a convolution that preserves the image's size needs an odd kernel, got {kernel}")
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2)
        first = hidden(partial(conv, inputs), width, activation, labelled)
        second = hidden(partial(nn.Conv2d, width, kernel_size=1), width, activation, labelled)
        super().__init__([*first, *second], conv(width, outputs), labelled)


def zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Zero a last layer, so that its coupling starts as the identity (Glow, 2018, section 3.3)."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def parameters(module: nn.Module) -> int:
    """The number of learned values."""
    return sum(p.numel() for p in module.parameters())


def fitted_values(module: nn.Module) -> int:
    """The number of values derived from data: learned parameters, and buffers listed in ``fitted``.

    Modules list such buffers in ``fitted``: principal axes, and matrices that perturbations are merged into. Without
    them a network in the images' own frame would seem smaller than it is.

    >>> import linearizer_core as lc
    >>> g = lc.flows.linear((1, 4, 4), frame="principal")
    >>> parameters(g), fitted_values(g) - parameters(g) == 16 + 16 * 16
    (32, True)
    """
    found = 0
    for each in module.modules():
        names: tuple[str, ...] = getattr(each, "fitted", ())
        found += sum(each.get_buffer(name).numel() for name in names)
    return parameters(module) + found
