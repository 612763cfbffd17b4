"""P4 mixing of channels: round trip, log-determinant by autograd's Jacobian, merging while it is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.flows.base import Chain
from linearizer_core.flows.p4_mixing import P4Mixing
from linearizer_core.operators.rank_one import P4
from linearizer_core.operators.rank_one_orthogonal import OrthogonalP4

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
Event = tuple[int, ...]
EVENTS: list[Event] = [(1,), (5,), (3, 2, 4), (4, 1, 1)]


def batch(event: Event, seed: int = 1) -> Tensor:
    return torch.randn(3, *event, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(channels: int, orthogonal: bool, seed: int = 0) -> P4Mixing:
    """One after two merges, with a perturbation under way: nothing is at its starting point."""
    torch.manual_seed(seed)
    mixing = P4Mixing(channels, orthogonal).double()
    for _ in range(2):
        _perturb(mixing)
        assert mixing.p4.merge(generator=torch.Generator().manual_seed(seed))
    _perturb(mixing)
    return mixing


@torch.no_grad()
def _perturb(mixing: P4Mixing) -> None:
    mixing.p4.u.add_(0.2 * torch.randn(len(mixing.p4.u), dtype=torch.float64))


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("event", EVENTS)
def test_contract(event: Event, orthogonal: bool) -> None:
    mixing, x = build(event[0], orthogonal), batch(event)
    y, log_det = mixing(x)
    matrix = mixing.p4.operator().to_dense()
    close(y, torch.einsum("dc,bc...->bd...", matrix, x))
    back, inverse_log_det = mixing.inverse(y)
    close(back, x)
    close(mixing(mixing.inverse(x)[0])[0], x)
    assert log_det.shape == inverse_log_det.shape == (3,)
    for function, at, found in (
        (lambda v: mixing(v[None])[0][0], x, log_det),
        (lambda v: mixing.inverse(v[None])[0][0], y, inverse_log_det),
    ):
        for point, value in zip(at, found, strict=True):
            jacobian = torch.autograd.functional.jacobian(function, point).reshape(point.numel(), point.numel())
            close(torch.linalg.slogdet(jacobian).logabsdet, value)
    if orthogonal:
        close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    elif event[0] > 1:
        assert log_det.abs().min() > 1e-3


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 3))
def test_round_trip_of_any_size(channels: int, height: int, width: int, orthogonal: bool, seed: int) -> None:
    mixing, x = build(channels, orthogonal, seed), batch((channels, height, width))
    y, log_det = mixing(x)
    back, inverse_log_det = mixing.inverse(y)
    close(back, x)
    close(log_det, -inverse_log_det)
    matrix = mixing.p4.operator().to_dense()
    close(log_det, (height * width * torch.linalg.slogdet(matrix).logabsdet).expand(3))


def test_which_p4_it_holds() -> None:
    assert isinstance(P4Mixing(4).p4, P4)
    assert isinstance(P4Mixing(4, orthogonal=True).p4, OrthogonalP4)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_it_starts_as_an_exact_rotation_that_mixes(orthogonal: bool) -> None:
    mixing, x = P4Mixing(16, orthogonal).double(), batch((16, 2, 2))
    y, log_det = mixing(x)
    assert not log_det.any()
    close(y.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(mixing.inverse(y)[0], x, rtol=0, atol=1e-14)
    assert (mixing.p4.matrix != 0).double().mean() > 0.3


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("event", [(4,), (4, 2, 3)])
def test_merging_changes_no_value(event: Event, orthogonal: bool) -> None:
    mixing, x = build(event[0], orthogonal), batch(event)
    y, log_det = (value.detach().clone() for value in mixing(x))
    assert mixing.p4.merge()
    close(mixing(x)[0], y)
    close(mixing(x)[1], log_det)
    close(mixing.inverse(y)[0], x)


def _loss(chain: Chain, x: Tensor, inverse: bool) -> Tensor:
    y, log_det = chain.inverse(x) if inverse else chain(x)
    return y.pow(3).sum() + log_det.square().sum()


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_gradients(memory: Literal["store", "recompute"], inverse: bool, orthogonal: bool) -> None:
    first, x = build(4, orthogonal), batch((4, 2, 3)).requires_grad_()
    chain = Chain([first, build(4, orthogonal, seed=1)], memory)
    _loss(chain, x, inverse).backward()
    for tensor in (x, first.p4.u, first.p4.v):
        assert tensor.grad is not None
        differences = _differences(tensor, partial(_loss, chain, x, inverse))
        close(tensor.grad, differences, rtol=1e-5, atol=1e-5)
        assert differences.norm() > 1


@torch.no_grad()
def _differences(tensor: Tensor, loss: Callable[[], Tensor]) -> Tensor:
    """Central differences of a loss in every entry of a tensor that it depends on."""
    step = 1e-6
    gradient = torch.zeros_like(tensor)
    for index in range(tensor.numel()):
        values = []
        for move in (step, -2 * step):
            tensor.view(-1)[index] += move
            values.append(loss())
        tensor.view(-1)[index] += step
        gradient.view(-1)[index] = (values[0] - values[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("orthogonal", [False, True])
def test_saving(orthogonal: bool) -> None:
    mixing, x = build(4, orthogonal), batch((4, 2, 2))
    again = P4Mixing(4, orthogonal).double()
    assert not torch.equal(again(x)[0], mixing(x)[0])
    again.load_state_dict(mixing.state_dict())
    assert torch.equal(again(x)[0], mixing(x)[0])
    assert torch.equal(again.inverse(x)[0], mixing.inverse(x)[0])


def test_label_and_start_change_nothing() -> None:
    mixing, x = build(4, False), batch((4, 2, 2))
    assert torch.equal(mixing(x, torch.ones(3))[0], mixing(x)[0])
    assert torch.equal(mixing.inverse(x, torch.ones(3))[0], mixing.inverse(x)[0])
    assert torch.equal(mixing.initialise(x), mixing(x)[0])
