"""Local Lipschitz constants against known singular values, closed forms and dense Jacobians."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import Chain, Identity
from linearizer_core.metrics.lipschitz import local_lipschitz, storing
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.solvers import EULER

EVENT = (1, 4, 4)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The largest singular value of each row's Jacobian, by autograd and LAPACK."""
    found = []
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: function(v[None])[0], row)
        found.append(torch.linalg.svdvals(jacobian.reshape(-1, row.numel()))[0])
    return torch.stack(found)


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
def test_a_matrix_of_known_singular_values(shape: tuple[int, int]) -> None:
    left, right = torch.linalg.qr(normal(shape[0], 3)).Q, torch.linalg.qr(normal(shape[1], 3, seed=1)).Q
    matrix = left @ torch.diag(torch.tensor([2.5, 1.0, 0.1], dtype=torch.float64)) @ right.T
    found = local_lipschitz(lambda x: x @ matrix.T, normal(4, shape[1], seed=2))
    torch.testing.assert_close(found, torch.full((4,), 2.5, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_cyclic_convolution_has_the_moduli_of_its_kernels_transform() -> None:
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]], dtype=torch.float64) / 16
    kernel[0, 1] = 0.5
    expected = torch.fft.fft2(pad(kernel, (0, 3, 0, 3))).abs().max()
    found = local_lipschitz(
        lambda x: conv2d(pad(x, (1, 1, 1, 1), mode="circular"), kernel[None, None]), normal(2, 1, 6, 6), 100
    )
    torch.testing.assert_close(found, expected.expand(2), rtol=1e-9, atol=0)


def test_an_elementwise_exponential_stretches_by_the_largest() -> None:
    """Each row by its own: rows are different points."""
    x = torch.tensor([[[0.0, 1.0], [-1.0, -2.0]], [[2.0, 0.5], [0.0, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(local_lipschitz(torch.exp, x), x.flatten(1).amax(1).exp(), rtol=1e-12, atol=0)
    torch.testing.assert_close(local_lipschitz(torch.log, x.exp()), (-x.flatten(1).amin(1)).exp(), rtol=1e-12, atol=0)


def test_what_is_constant_or_the_identity() -> None:
    x = normal(3, 4)
    assert local_lipschitz(lambda x: 0 * x.square(), x).tolist() == [0, 0, 0]
    assert local_lipschitz(lambda x: x, x).tolist() == pytest.approx([1, 1, 1], rel=1e-14)
    assert local_lipschitz(lambda x: torch.relu(x)[:, :1], torch.tensor([[3.0, -1.0], [-3.0, 1.0]])).tolist() == [1, 0]


def test_the_estimate_grows_towards_the_value_from_below() -> None:
    """After k steps from v, JᵀJ has acted k times: what is stated is ‖Jᵀu‖ at u = J (JᵀJ)ᵏ⁻¹ v."""
    values = torch.linspace(1.0, 2.0, 6, dtype=torch.float64)
    found = [float(local_lipschitz(lambda x: x * values, normal(1, 6), k, seed=3)) for k in range(1, 30)]
    start = normal(1, 6, seed=3)[0]
    expected = []
    for k in range(1, 30):
        u = values ** (2 * k - 1) * start
        expected.append(float((values * u).norm() / u.norm()))
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(a < b for a, b in pairwise(found))
    assert found[-1] < 2


def test_one_row_does_not_depend_on_the_others() -> None:
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    x = normal(4, 5)
    others = torch.cat([x[:1], 100 * x[1:]])
    assert local_lipschitz(net, x)[0] == local_lipschitz(net, others)[0]


FLOWS = {
    "affine": FlowConfig(coupling="affine"),
    "additive": FlowConfig(coupling="additive"),
    "spline": FlowConfig(coupling="spline"),
    "mixture": FlowConfig(coupling="mixture"),
    "gated, householder": FlowConfig(activation="star", mixing="householder"),
    "polynorm, p4": FlowConfig(activation="polynorm", mixing="p4"),
    "conv, two levels": FlowConfig(conditioner="conv", levels=2, mixing="p4_orthogonal"),
    "conv mixture": FlowConfig(conditioner="conv", coupling="mixture", mixing="permutation"),
    "unet": FlowConfig(conditioner="unet", attention=True),
    "recompute mixture": FlowConfig(memory="recompute", coupling="mixture"),
    "recompute conv": FlowConfig(memory="recompute", conditioner="conv", levels=2),
}


@pytest.mark.parametrize("name", FLOWS)
def test_flows_against_dense_jacobians(name: str, randomise: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    small = replace(FLOWS[name], depth=1, width=8, bins=4, components=2)
    g = randomise(build_flow(small, EVENT).double())
    assert isinstance(g, Chain)
    x = normal(2, *EVENT)
    with storing(g):
        y = g(x)[0].detach()
        ways = ((lambda v: g(v)[0], x), (lambda v: g.inverse(v)[0], y))
        found = [local_lipschitz(way, start) for way, start in ways]
        expected = [dense(way, start) for way, start in ways]
    for lower, value in zip(found, expected, strict=True):
        assert bool((lower <= value * (1 + 1e-12)).all())
        torch.testing.assert_close(lower, value, rtol=2e-3, atol=0)
    assert bool((found[0] * found[1] > 1).all())  # a condition number


def test_a_linearizer_through_its_networks(diffusion: Callable[..., LinearDiffusion]) -> None:
    model = diffusion()
    f = model.generator(model.collapse(5, EULER))
    x = model.noise(2, torch.Generator().manual_seed(1))
    torch.testing.assert_close(local_lipschitz(f, x, 60), dense(f, x), rtol=1e-3, atol=0)


def test_nothing_is_left_behind(diffusion: Callable[..., LinearDiffusion]) -> None:
    """No gradients, no change of the generator that others draw from, nor of the gradient mode."""
    model = diffusion()
    x = normal(2, *EVENT).requires_grad_()
    state = torch.get_rng_state()
    with torch.no_grad():
        inside = local_lipschitz(lambda v: model.g_x(v)[0], x)
        assert not torch.is_grad_enabled()
    assert inside.equal(local_lipschitz(lambda v: model.g_x(v)[0], x))
    assert not inside.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())
    assert state.equal(torch.get_rng_state())


def test_single_precision(randomise: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    g = randomise(build_flow(FlowConfig(depth=1, width=8), EVENT))
    x = normal(2, *EVENT)
    single = local_lipschitz(lambda v: g(v)[0], x.float())
    double = local_lipschitz(lambda v: g.double()(v)[0], x)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


def test_recomputing_flows_are_refused_outside_storing_which_restores_them() -> None:
    recomputing = Chain([Chain([Identity()], "store")], "recompute")
    x = normal(2, 3)
    with storing(recomputing, recomputing):
        assert recomputing.memory == "store"
        assert local_lipschitz(lambda v: recomputing(v)[0], x).tolist() == pytest.approx([1, 1])
    assert recomputing.memory == "recompute"
    assert [m.memory for m in recomputing.modules() if isinstance(m, Chain)] == ["recompute", "store"]
    with pytest.raises(ValueError, match="first derivatives only"):
        local_lipschitz(lambda v: recomputing(v)[0], x)
    with pytest.raises(KeyError), storing(recomputing):
        raise KeyError
    assert recomputing.memory == "recompute"


def test_no_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one iteration, got 0"):
        local_lipschitz(torch.exp, normal(1, 2), 0)


def test_values_that_are_not_finite_are_not_hidden() -> None:
    x = torch.tensor([[1.0, math.nan], [0.0, 0.0]])
    found = local_lipschitz(torch.exp, x)
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(1)
