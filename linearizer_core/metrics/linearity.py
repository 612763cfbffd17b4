"""How linear a trained Linearizer is in float arithmetic, in the spaces in which it is linear by construction."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.linearizer import Linearizer


def relative_error(value: Tensor, expected: Tensor) -> float:
    """‖value - expected‖ / ‖expected‖ over all entries, in float64."""
    value, expected = value.double(), expected.double()
    return float((value - expected).norm() / expected.norm())


@torch.no_grad()
def additivity(f: Linearizer, u: Tensor, v: Tensor) -> float:
    """The relative residual of f(u ⊕ v) = f(u) ⊕ f(v), taken in output pixels."""
    return relative_error(f(f.domain.add(u, v)), f.codomain.add(f(u), f(v)))


@torch.no_grad()
def homogeneity(f: Linearizer, v: Tensor, factor: float = 0.5) -> float:
    """The relative residual of f(a ⊙ v) = a ⊙ f(v), taken in output pixels."""
    return relative_error(f(f.domain.scale(factor, v)), f.codomain.scale(factor, f(v)))


@torch.no_grad()
def roundtrip(g: Invertible, x: Tensor) -> float:
    """The relative error of g⁻¹(g(x)) = x."""
    return relative_error(g.inverse(g(x)[0])[0], x)
