"""Flow matching: sampling against solutions in closed form, the loss of the best velocity, and the baseline's size."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.families.diffusion import build_diffusion
from linearizer_core.experiment.families.flow_matching import FlowMatchingBaseline
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.flows.conditioners import Conditioner, parameters
from linearizer_core.flows.unet import UNet
from linearizer_core.grids import GRIDS
from linearizer_core.models.flow_matching import FlowMatching
from linearizer_core.models.velocity_networks import ResidualMLP, velocity_network
from linearizer_core.solvers import EULER, HEUN, RK4

SMALL = ModelConfig(flow=FlowConfig(depth=1, width=8), operator=OperatorConfig(rank=8))


class Velocity(Conditioner):
    """A velocity in closed form, v(t, x) of flat vectors ``(batch, dim)`` at times ``(batch, 1)``."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(labelled=False)
        self.function = function

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return self.function(label[:, None], x.flatten(1))


def known(function: Callable[[Tensor, Tensor], Tensor], event: tuple[int, int, int] = (1, 2, 3)) -> FlowMatching:
    return FlowMatching(Velocity(function), event)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_linear_field_is_solved_by_its_exponential() -> None:
    matrix, x0 = 0.8 * normal(6, 6), normal(5, 1, 2, 3, seed=1)
    model = known(lambda t, x: x @ matrix.T)
    expected = x0.flatten(1) @ torch.from_numpy(expm(matrix.numpy())).T
    for grid in GRIDS:
        if grid != "geometric":  # which has no times up to 1
            found = model.sample_stepping(x0, 60, RK4, GRIDS[grid])
            assert found.shape == x0.shape
            torch.testing.assert_close(found.flatten(1), expected, rtol=1e-5, atol=1e-5)


def test_euler_steps_of_a_linear_field_are_powers() -> None:
    matrix, x0 = 0.8 * normal(6, 6), normal(5, 1, 2, 3, seed=1)
    found = known(lambda t, x: x @ matrix.T).sample_stepping(x0, 4, EULER)
    step = torch.eye(6, dtype=torch.float64) + matrix / 4
    torch.testing.assert_close(found.flatten(1), x0.flatten(1) @ torch.linalg.matrix_power(step, 4).T)


@pytest.mark.parametrize(("solver", "order"), [(EULER, 1), (HEUN, 2), (RK4, 4)])
def test_errors_fall_with_the_solvers_order(solver: Any, order: int) -> None:
    """ẋ = (1 + t) x has x(1) = exp(3/2) x(0)."""
    model, x0 = known(lambda t, x: (1 + t) * x), normal(3, 1, 2, 3)
    exact = math.exp(1.5) * x0
    errors = [float((model.sample_stepping(x0, steps, solver) - exact).abs().max()) for steps in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("variance", [0.25, 1.0, 4.0])
def test_the_best_velocity_of_a_gaussian_has_the_least_loss(variance: float) -> None:
    """From N(0, 1) to N(0, λ) v = (tλ - (1-t)) / s² x, s² = (1-t)² + t²λ; what is left is ∫ λ/s² dt = √λ π/2."""

    def best(t: Tensor, x: Tensor) -> Tensor:
        return (t * variance - (1 - t)) / ((1 - t) ** 2 + t**2 * variance) * x

    config = TrialConfig(family="flow_matching")
    images = math.sqrt(variance) * normal(40_000, 1, 1, 2)

    def loss(function: Callable[[Tensor, Tensor], Tensor]) -> float:
        model = known(function, (1, 1, 2))
        terms = FlowMatchingBaseline().losses(model, images, config, Draws(torch.Generator().manual_seed(1)))
        assert list(terms) == ["flow"]
        return float(terms["flow"])

    assert loss(best) == pytest.approx(math.sqrt(variance) * math.pi / 2, rel=0.02)
    assert loss(lambda t, x: 0 * x) == pytest.approx(1 + variance, rel=0.02)
    x0 = normal(4, 1, 1, 2, seed=2)
    samples = known(best, (1, 1, 2)).sample_stepping(x0, 100, RK4)
    torch.testing.assert_close(samples, math.sqrt(variance) * x0, rtol=1e-6, atol=1e-6)


def test_training_times_are_the_configured_ones() -> None:
    seen: list[Tensor] = []

    def record(t: Tensor, x: Tensor) -> Tensor:
        seen.append(t[:, 0])
        return x

    for kind in ("uniform", "logit_normal"):
        config = TrialConfig(train=TrainConfig(time=kind))  # type: ignore[arg-type]
        FlowMatchingBaseline().losses(
            known(record), normal(20_000, 1, 2, 3), config, Draws(torch.Generator().manual_seed(0))
        )
    uniform, middle = (float(t.var()) for t in seen)
    assert uniform == pytest.approx(1 / 12, rel=0.03)
    assert middle == pytest.approx(0.0434, rel=0.04)  # of the logistic of a standard normal


ALIKE: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "default": ({}, (1, 8, 8)),
    "default of 32 by 32": ({}, (1, 32, 32)),
    "shallow": ({"depth": 1, "width": 16, "activation": "swiglu"}, (1, 8, 8)),
    "conv": ({"conditioner": "conv", "depth": 3, "width": 32, "levels": 2}, (1, 8, 8)),
    "unet": ({"conditioner": "unet", "depth": 2, "width": 12, "attention": True}, (3, 16, 16)),
}


@pytest.mark.parametrize(("flow", "event"), ALIKE.values(), ids=ALIKE)
def test_the_baseline_is_as_large_as_the_linearizer(flow: dict[str, Any], event: tuple[int, int, int]) -> None:
    model = ModelConfig(flow=FlowConfig(**flow))
    config = TrialConfig(family="flow_matching", model=model)
    baseline = FlowMatchingBaseline().build(config, event)
    assert isinstance(baseline, FlowMatching)
    linearizer = build_diffusion(model, config.evaluate, event, config.seed)
    assert parameters(baseline) == pytest.approx(parameters(linearizer), rel=0.05)
    assert isinstance(baseline.network, UNet if "conditioner" in flow else ResidualMLP)
    x = torch.zeros(3, *event)
    assert torch.equal(baseline.velocity(torch.rand(3), x), x)  # zero at the start
    assert baseline.event == event


def test_the_width_is_the_nearest_one() -> None:
    def size(network: Conditioner) -> int:
        return parameters(network)

    def build(target: int) -> ResidualMLP:
        network = velocity_network((1, 4, 4), target, convolutional=False, depth=2, activation="gelu", attention=False)
        assert isinstance(network, ResidualMLP)
        return network

    width = build(10_000).first.out_features
    sizes = {w: size(ResidualMLP(16, width=w, depth=2, activation="gelu")) for w in range(2, 2 * width)}
    assert width == min(sizes, key=lambda w: abs(sizes[w] - 10_000))
    for chosen in (3, 16, 17, 18, 33):  # on both sides of the powers of two between which it is sought
        assert build(sizes[chosen]).first.out_features == chosen
    assert build(1).first.out_features == 2


def test_time_matters_to_the_network(randomise: Callable[..., Any]) -> None:
    for convolutional in (False, True):
        network = velocity_network(
            (1, 8, 8), 20_000, convolutional=convolutional, depth=2, activation="silu", attention=False
        )
        model = FlowMatching(randomise(network).double(), (1, 8, 8))
        x = normal(4, 1, 8, 8)
        early, late = (model.velocity(torch.full((4,), t, dtype=torch.float64), x) for t in (0.1, 0.9))
        assert float(((early - late).norm() / early.norm()).detach()) > 0.01


def test_building_is_fixed_by_its_seed_and_leaves_the_global_generator_alone() -> None:
    config = TrialConfig(family="flow_matching", model=SMALL)
    before = torch.random.get_rng_state()
    first, again = (FlowMatchingBaseline().build(config, (1, 4, 4)).state_dict() for _ in range(2))
    other = FlowMatchingBaseline().build(dataclasses.replace(config, seed=1), (1, 4, 4)).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.first.weight"], other["network.first.weight"])


@pytest.mark.parametrize("conditioner", ["mlp", "unet"])
def test_training_reduces_the_loss_and_is_repeatable(conditioner: str) -> None:
    flow = FlowConfig(conditioner=conditioner, depth=1, width=8)  # type: ignore[arg-type]
    config = TrialConfig(
        family="flow_matching",
        model=ModelConfig(flow=flow, operator=OperatorConfig(rank=8)),
        train=TrainConfig(epochs=3, batch_size=64, lr=1e-2, loss=LossConfig(flow=1.0)),
        evaluate=EvaluateConfig(steps=(1, 2), samples=16),
    )
    data = load(DataConfig(images=256))
    first, again = ([result.metrics for result in fit(Trainer(config, data))] for _ in range(2))
    assert first == again
    assert first[-1]["train/flow"] < 0.9 * first[0]["train/flow"]
    assert first[0]["train/loss"] == pytest.approx(first[0]["train/flow"])


def test_a_network_that_is_told_labels_has_a_velocity_for_each() -> None:
    """From N(0, I) to points b_k the velocity is (b_k - x) / (1 - t); Euler's last step, at any count, lands on b_k."""

    class Told(Conditioner):
        def network(self, x: Tensor, label: Tensor | None) -> Tensor:
            assert label is not None
            assert x.shape[1:] == (1 + 3, 1, 2)
            planes = x[:, 1:] / 3.0  # of the one-hot label
            means = (planes * torch.tensor([-1.0, 0.0, 2.0], dtype=x.dtype).view(3, 1, 1)).sum(1, keepdim=True)
            return (means - x[:, :1]) / (1 - label.view(-1, 1, 1, 1))

    model = FlowMatching(Told(labelled=False), (1, 1, 2), 3)
    which = torch.tensor([0, 1, 2, 2, 0])
    for steps in (1, 5):
        samples = model.sample_stepping(normal(5, 1, 1, 2), steps, EULER, which=which, temperature=1.3)
        expected = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)[which].view(5, 1, 1, 1).expand(5, 1, 1, 2)
        torch.testing.assert_close(samples, expected)


def test_several_times_are_told_apart() -> None:
    with pytest.raises(ValueError, match=r"needs a label of shape \(4, 2\), got \(4,\)"):
        velocity_network((3,), 500, convolutional=False, depth=1, activation="gelu", attention=False, times=2)(
            torch.zeros(4, 3), torch.zeros(4)
        )


def test_weights_from_before_a_temperature_was_chosen_are_sampled_at_one() -> None:
    network = velocity_network((1, 4, 4), 2000, convolutional=False, depth=1, activation="gelu", attention=False)
    model = FlowMatching(network, (1, 4, 4))
    model.choose(0.8)
    before = {name: value for name, value in model.state_dict().items() if name != "chosen"}
    again = FlowMatching(copy.deepcopy(network), (1, 4, 4))
    again.load_state_dict(before)
    assert (model.temperature, again.temperature) == (pytest.approx(0.8), 1.0)
