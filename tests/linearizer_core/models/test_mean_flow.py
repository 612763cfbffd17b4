"""MeanFlow: average velocities of Gaussians in closed form, the identity they obey, and the one step that they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linearizer_core.experiment.configuration import LossConfig, ModelConfig, TrainConfig, TrialConfig
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.families.mean_flow import INSTANTANEOUS, MeanFlowBaseline
from linearizer_core.flows.conditioners import Conditioner, in_precision
from linearizer_core.models.flow_matching import FlowMatching
from linearizer_core.models.mean_flow import MeanFlow
from linearizer_core.models.velocity_networks import velocity_network
from linearizer_core.solvers import RK4

EVENT = (1, 1, 2)


class Average(Conditioner):
    """An average velocity in closed form, u(t, r, x) of flat vectors at times ``(batch, 1)``."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__(labelled=False)
        self.function = function

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        t, length = label[:, :1], label[:, 1:]
        return self.function(t, t + length, x.flatten(1))


def gaussian(deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    """a of u(x, t, r) = a x on the way from N(0, 1) to N(0, s²): x_t is s_t x_0 with s_t² = (1-t)² + t² s².

    So (r - t) a = s_r / s_t - 1, in which r - t can be cancelled.
    """

    def factor(t: Tensor, r: Tensor) -> Tensor:
        at, to = (((1 - time) ** 2 + (time * deviation) ** 2).sqrt() for time in (t, r))
        return (r + t - 2 + deviation**2 * (r + t)) / (at * (to + at))

    return factor


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def config(time: str = "logit_normal") -> TrialConfig:
    return TrialConfig(family="mean_flow", train=TrainConfig(time=time, loss=LossConfig(flow=1.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_steps_of_the_exact_average_velocity_are_the_flow_map(deviation: float, steps: int) -> None:
    """Any number of them, one as well, against the map x ↦ s x and the velocity integrated by Runge and Kutta."""
    exact, x0 = gaussian(deviation), normal(5, *EVENT)
    model = MeanFlow(Average(lambda t, r, x: exact(t, r) * x), EVENT)
    torch.testing.assert_close(model.sample_stepping(x0, steps), deviation * x0)

    class Velocity(Conditioner):
        def network(self, x: Tensor, label: Tensor | None) -> Tensor:
            assert label is not None
            return exact(label, label).view(-1, 1, 1, 1) * x

    integrated = FlowMatching(Velocity(labelled=False), EVENT).sample_stepping(x0, 200, RK4)
    torch.testing.assert_close(integrated, model.sample_stepping(x0, steps), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("deviation", [0.3, 2.5])
def test_the_exact_average_velocity_obeys_the_identity(deviation: float) -> None:
    """u = v + (r - t) du/dt for the marginal v = E[x1 - x0 | x_t], which is u at r = t."""
    exact = gaussian(deviation)
    model = MeanFlow(Average(lambda t, r, x: exact(t, r) * x), EVENT)
    t, r, x = torch.tensor([0.0, 0.2, 0.5]).double(), torch.tensor([1.0, 0.9, 0.5]).double(), normal(3, *EVENT)
    velocity = model.average_velocity(t, t, x)
    u, rate = model.with_rate(t, r, x, velocity)
    torch.testing.assert_close(u, velocity + (r - t).view(-1, 1, 1, 1) * rate)
    torch.testing.assert_close(u, model.average_velocity(t, r, x))


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "swiglu", "polynorm"])
def test_the_rate_is_that_of_finite_differences(
    convolutional: bool, activation: str, randomise: Callable[..., nn.Module]
) -> None:
    network = velocity_network(
        (1, 4, 4), 4000, convolutional=convolutional, depth=2, activation=activation, attention=convolutional,
        told=3, times=2,
    )  # fmt: skip
    model = MeanFlow(randomise(network).double(), (1, 4, 4), 3)  # type: ignore[arg-type]
    x, velocity = normal(6, 1, 4, 4), normal(6, 1, 4, 4, seed=1)
    t, r = torch.linspace(0.1, 0.6, 6).double(), torch.linspace(0.3, 0.9, 6).double()
    which = torch.arange(6) % 3
    u, rate = model.with_rate(t, r, x, velocity, which)
    h = 1e-5
    with torch.no_grad():
        ahead, behind = (model.average_velocity(t + s, r, x + s * velocity, which) for s in (h, -h))
        assert torch.equal(u, model.average_velocity(t, r, x, which))
    torch.testing.assert_close(rate, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-5)


def loss_of(function: Callable[[Tensor, Tensor, Tensor], Tensor], images: Tensor) -> float:
    model = MeanFlow(Average(function), (1, *images.shape[2:]))
    terms = MeanFlowBaseline().losses(model, images, config("uniform"), Draws(torch.Generator().manual_seed(1)))
    assert list(terms) == ["flow"]
    return float(terms["flow"])


def test_at_equal_times_the_loss_is_flow_matchings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With r = t in all rows the mean square of the exact velocity's loss is √λ π/2, as flow matching's is."""
    monkeypatch.setattr("linearizer_core.experiment.families.mean_flow.INSTANTANEOUS", 1.0)
    exact, images = gaussian(2.0), 2.0 * normal(40_000, *EVENT)
    assert loss_of(lambda t, r, x: exact(t, r) * x, images) == pytest.approx(math.pi, rel=0.02)
    assert loss_of(lambda t, r, x: 0 * x, images) == pytest.approx(1 + 4, rel=0.02)


def test_a_quarter_of_the_rows_have_an_interval() -> None:
    seen: list[Tensor] = []

    class Recorded(MeanFlow):
        def with_rate(
            self, t: Tensor, r: Tensor, x: Tensor, velocity: Tensor, which: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            seen.extend([t, r - t])
            return 0 * x, 0 * x

    model = Recorded(Average(lambda t, r, x: x), EVENT)
    MeanFlowBaseline().losses(model, normal(20_000, *EVENT), config("uniform"), Draws(torch.Generator().manual_seed(1)))
    times, length = seen
    assert float((length > 0).double().mean()) == pytest.approx(1 - INSTANTANEOUS, abs=0.01)
    assert float(length.min()) == 0
    assert float(length[length > 0].mean()) == pytest.approx(1 / 3, abs=0.02)  # of two uniform times
    assert float(times[length == 0].mean()) == pytest.approx(1 / 2, abs=0.01)  # and not of the smaller of two


class LinearNetwork(Conditioner):
    """u = (w · φ(t, r)) x with three features, of which the first is the answer for one Gaussian."""

    def __init__(self, deviation: float) -> None:
        super().__init__(labelled=False)
        self.exact = gaussian(deviation)
        self.weights = nn.Parameter(torch.zeros(3))

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        t, length = label[:, :1], label[:, 1:]
        features = torch.cat([self.exact(t, t + length), torch.ones_like(t), length], 1)
        return (features @ self.weights).view(-1, *[1] * (x.ndim - 1)) * x


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_training_finds_the_average_velocity_of_a_gaussian(deviation: float) -> None:
    """Entries are N(0, s²): u becomes the closed form, and one step gives samples of deviation s.

    Without the term of du/dt, or with it the other way, u is 0.4 and more from it.
    """
    generator = torch.Generator().manual_seed(0)
    model = MeanFlow(LinearNetwork(deviation), (1, 4, 4))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    family, settings, draws = MeanFlowBaseline(), config("uniform"), Draws(generator)
    for _ in range(300):
        images = deviation * torch.randn(64, 1, 4, 4, generator=generator)
        optimiser.zero_grad()
        family.losses(model, images, settings, draws)["flow"].backward()
        optimiser.step()
        schedule.step()
    exact, one = gaussian(deviation), torch.ones(1, 1, 1, 1)
    for t, r in ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0), (0.3, 0.3)):
        at, to = torch.tensor([t]), torch.tensor([r])
        found = float(model.average_velocity(at, to, one).detach())
        assert found == pytest.approx(float(exact(at, to)), abs=0.1), (t, r)
    samples = model.sample_stepping(torch.randn(512, 1, 4, 4, generator=generator), 1)
    assert float(samples.std()) == pytest.approx(deviation, abs=0.1)


def test_the_loss_in_bfloat16_is_that_in_float32_but_for_rounding(randomise: Callable[..., nn.Module]) -> None:
    options = {"convolutional": False, "depth": 2, "activation": "gelu", "attention": False, "times": 2}
    network = randomise(velocity_network((1, 4, 4), 4000, **options))  # type: ignore[arg-type]
    model = MeanFlow(network, (1, 4, 4))  # type: ignore[arg-type]
    images, found = normal(64, 1, 4, 4).float(), []
    for dtype in (torch.bfloat16, None):
        with in_precision([model.network], dtype):
            terms = MeanFlowBaseline().losses(model, images, config(), Draws(torch.Generator().manual_seed(0)))
        found.append(float(terms["flow"].detach()))
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.02)


def test_the_gradient_is_that_of_the_adaptive_loss_and_the_value_the_mean_square() -> None:
    """By hand for one row: the gradient of ‖Δ‖² / (sg ‖Δ‖² + c)."""

    class Shift(Conditioner):
        def __init__(self) -> None:
            super().__init__(labelled=False)
            self.shift = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def network(self, x: Tensor, label: Tensor | None) -> Tensor:
            return 0 * x + self.shift  # whose rate is zero: the target is x1 - x0

    model, images = MeanFlow(Shift(), EVENT), normal(1, *EVENT)
    loss = MeanFlowBaseline().losses(model, images, config(), Draws(torch.Generator().manual_seed(2)))["flow"]
    loss.backward()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    error = 0.7 - (images - noise)
    squares = float(error.square().sum())
    assert float(loss.detach()) == pytest.approx(squares / 2)
    shift: Any = model.network.shift
    assert float(shift.grad) == pytest.approx(2 * float(error.sum()) / (squares + 1e-3))


def test_the_model_takes_two_times_and_the_linearizers_size() -> None:
    settings = TrialConfig(family="mean_flow", model=ModelConfig())
    model = MeanFlowBaseline().build(settings, (1, 8, 8))
    assert isinstance(model, MeanFlow)
    assert model.network.labels == 2
