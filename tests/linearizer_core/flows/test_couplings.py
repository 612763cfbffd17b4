"""Affine and additive couplings with given weights against zuko's coupling transforms with the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform
from zuko.transforms import (
    AdditiveTransform,
    ComposedTransform,
    CouplingTransform,
    DependentTransform,
    MonotonicAffineTransform,
)

from linearizer_core.flows import AdditiveCoupling, AffineCoupling, Coupling
from linearizer_core.flows.conditioners import MLP

SLOPE = 1e-3
conditioner = partial(MLP, width=16, activation="silu")


def affine(theta: Tensor) -> Transform:
    """Zuko's x·exp(a / (1 + |a / log slope|)) + b at the a that gives the scale 2 tanh(s / 2)."""
    s, shift = theta.chunk(2, 1)
    log_scale = 2 * torch.tanh(s / 2)
    a = log_scale / (1 - log_scale.abs() / abs(math.log(SLOPE)))
    return DependentTransform(MonotonicAffineTransform(shift, a, slope=SLOPE), 1)


def additive(theta: Tensor) -> Transform:
    return DependentTransform(AdditiveTransform(theta), 1)


def peer(coupling: Coupling, channels: int, transform: Callable[[Tensor], Transform]) -> Transform:
    """Two of zuko's couplings on complementary masks, with this coupling's networks."""
    mask = torch.arange(channels) < coupling.split
    return ComposedTransform(
        CouplingTransform(lambda a: transform(coupling.first(a)), mask),
        CouplingTransform(lambda b: transform(coupling.second(b)), ~mask),
    )


@pytest.mark.parametrize("channels", [2, 5, 12])
@pytest.mark.parametrize(("kind", "transform"), [(AffineCoupling, affine), (AdditiveCoupling, additive)])
def test_the_same_weights_give_what_zuko_gives(
    kind: Callable[[int, Callable[[int, int], nn.Module]], Coupling],
    transform: Callable[[Tensor], Transform],
    channels: int,
    randomise: Callable[..., nn.Module],
) -> None:
    torch.manual_seed(channels)
    coupling = kind(channels, conditioner).double()
    randomise(coupling, channels)
    theirs = peer(coupling, channels, transform)
    x = 2 * torch.randn(9, channels, dtype=torch.float64)
    y, log_det = coupling(x)
    expected, expected_log_det = theirs.call_and_ladj(x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_det, expected_log_det, rtol=1e-12, atol=1e-12)
    assert float((y - x).detach().abs().max()) > 0.1
    back, back_log_det = coupling.inverse(y)
    torch.testing.assert_close(back, theirs.inv(expected), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(back_log_det, -expected_log_det, rtol=1e-10, atol=1e-10)
