"""Networks that compute a coupling's scale and shift; they need not be invertible and hold no randomness."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


def activation(name: str) -> nn.Module:
    """The named activation; raises ``ValueError`` for a name that is not in ``ACTIVATIONS``."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def mlp(inputs: int, outputs: int, width: int, name: str) -> nn.Sequential:
    """A perceptron with two hidden layers, ``(batch, inputs)`` to ``(batch, outputs)``, zero at the start."""
    last = nn.Linear(width, outputs)
    zero(last)
    return nn.Sequential(nn.Linear(inputs, width), activation(name), nn.Linear(width, width), activation(name), last)


def conv(inputs: int, outputs: int, width: int, name: str, kernel: int) -> nn.Sequential:
    """Convolutions, ``(batch, inputs, h, w)`` to ``(batch, outputs, h, w)``, zero at the start."""
    last = nn.Conv2d(width, outputs, kernel, padding=kernel // 2)
    zero(last)
    return nn.Sequential(
        nn.Conv2d(inputs, width, kernel, padding=kernel // 2),
        activation(name),
        nn.Conv2d(width, width, 1),
        activation(name),
        last,
    )


def zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Zero a last layer, so that a coupling starts as the identity (Glow, 2018, section 3.3)."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def parameters(module: torch.nn.Module) -> int:
    """The number of learned values."""
    return sum(p.numel() for p in module.parameters())
