"""Parameters in one tensor: they keep their values, their gradients, and their room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from linearizer_core import checkpoint
from linearizer_core.experiment.flat import ALIGNED, FlatParameters


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2))


def test_parameters_keep_their_values_and_become_views(network: nn.Sequential) -> None:
    before = [parameter.detach().clone() for parameter in network.parameters()]
    flat = FlatParameters(list(network.parameters()))
    for parameter, value, start in zip(network.parameters(), before, flat.starts, strict=False):
        assert torch.equal(parameter, value)
        assert torch.equal(flat.values[start : start + value.numel()].view_as(value), value)
    with torch.no_grad():
        flat.values.mul_(2)
    for parameter, value in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, 2 * value)


def test_parameters_start_where_kernels_can_read_many_values_at_once(network: nn.Sequential) -> None:
    flat = FlatParameters(list(network.parameters()))
    assert all(parameter.storage_offset() % ALIGNED == 0 for parameter in network.parameters())
    assert float(flat.values.detach().double().square().sum()) == pytest.approx(
        sum(float(parameter.detach().double().square().sum()) for parameter in network.parameters())
    )


def test_gradients_are_those_of_backward(network: nn.Sequential) -> None:
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(network(x).square().sum(), list(network.parameters()))
    flat = FlatParameters(list(network.parameters()))
    flat.gradient.fill_(9.0)  # of the step before
    flat.take(torch.autograd.grad(network(x).square().sum(), flat.parameters))
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)


def test_a_parameter_without_a_gradient_has_one_of_zero(network: nn.Sequential) -> None:
    flat = FlatParameters(list(network.parameters()))
    flat.take([torch.ones_like(parameter) for parameter in flat.parameters])
    flat.take([None] * len(flat.parameters))
    assert all(not parameter.grad.any() for parameter in network.parameters() if parameter.grad is not None)


def test_a_part_is_moved_with_its_own_gradient(network: nn.Sequential) -> None:
    """The second of two parts: what the first holds stays as it is."""
    flat = FlatParameters(list(network.parameters()))
    flat.take([torch.ones_like(parameter) for parameter in flat.parameters])
    before = [parameter.detach().clone() for parameter in network.parameters()]
    torch.optim.SGD([flat.part(2, 4)], lr=0.5).step()
    for i, (parameter, value) in enumerate(zip(network.parameters(), before, strict=True)):
        assert torch.equal(parameter, value if i < 2 else value - 0.5)


def test_what_cannot_be_in_one_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="have one dtype and one device, got none"):
        FlatParameters([])
    mixed = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    with pytest.raises(ValueError, match=r"got torch\.float32 on cpu, torch\.float64 on cpu"):
        FlatParameters(mixed)


def test_a_model_of_flat_parameters_is_saved_as_any_other(network: nn.Sequential, tmp_path: Path) -> None:
    whole = {name: value.clone() for name, value in network.state_dict().items()}
    FlatParameters(list(network.parameters()))
    checkpoint.save(tmp_path, network, {})
    assert (tmp_path / checkpoint.WEIGHTS).stat().st_size < 4 * sum(value.numel() for value in whole.values()) + 1000
    built = checkpoint.load(tmp_path, lambda: nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)))
    assert all(torch.equal(value, whole[name]) for name, value in built.state_dict().items())
