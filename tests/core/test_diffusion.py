"""Collapse equals stepping, and stepping solves the flow: with negative controls and in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from linearizer_core.config import EvaluateConfig, FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.flows import Chain, Flatten, Identity
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.models import build_diffusion
from linearizer_core.operators import (
    DenseOperator,
    LinearOperator,
    ScaledIdentityPlusLowRank,
    TimeDense,
    TimeLowRank,
    TimeOperator,
)
from linearizer_core.solvers import EULER, RK4, SOLVERS, Solver

Build = Callable[..., LinearDiffusion]
KINDS = ["time_lowrank", "time_dense"]
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_model(operator: TimeOperator, end: float = 0.99) -> LinearDiffusion:
    """A diffusion model in float64 whose g is the identity: sampling is the linear flow itself."""
    event = (1, 1, operator.dim)
    flows = [Chain([Flatten(event), Identity()]) for _ in range(2)]
    return LinearDiffusion(flows[0], flows[1], operator, event, end).double()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@solvers
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditioner", ["mlp", "conv"])
def test_collapse_is_stepping(
    diffusion: Build,
    conditioner: str,
    kind: str,
    solver: Solver,
    steps: int,
    dtype: torch.dtype,
    bound: float,
) -> None:
    model = diffusion(kind, conditioner=conditioner, dtype=dtype)
    x0 = model.noise(8, seeded())
    stepped = model.sample_stepping(x0, steps, solver)
    collapsed = model.generator(model.collapse(steps, solver))(x0)
    assert stepped.shape == x0.shape
    assert relative_error(collapsed.detach(), stepped) < bound


@pytest.mark.parametrize("conditioner", ["mlp", "conv"])
def test_the_models_collapsed_above_are_not_trivial(
    diffusion: Build, conditioner: str, curvature: Callable[..., float]
) -> None:
    model = diffusion(conditioner=conditioner)
    u, v = model.noise(8, seeded(1)), model.noise(8, seeded(2))
    assert curvature(model.g_x, u, v) > 0.02
    assert curvature(model.g_y, u, v) > 0.02
    assert isinstance(model.operator, TimeLowRank)
    cores = model.operator.core(torch.tensor([0.2, 0.7], dtype=torch.float64)).detach()
    assert float((cores[0] - cores[0].diag().diag()).abs().max()) > 0.1
    assert float((cores[0] - cores[1]).abs().max()) > 0.1
    assert relative_error(model.sample_stepping(u, 1, EULER), model.sample_stepping(u, 30, EULER)) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_rk4_without_nesting_is_another_map(diffusion: Build, kind: str) -> None:
    """The public code's k1 = K(t), k2 = k3 = K(t + dt/2), k4 = K(t + dt), none applied to its inner stage."""
    model, steps = diffusion(kind), 10
    h, x0 = model.end / steps, model.noise(8, seeded())
    matrix = torch.eye(16, dtype=torch.float64)
    for i in range(steps):
        t = i * h
        first, middle, last = (h * v.to_dense().detach() for v in model.velocity_operators([t, t + h / 2, t + h]))
        matrix = matrix + (first + 4 * middle + last) @ matrix / 6
    unnested = model.generator(DenseOperator(matrix))(x0).detach()
    stepped = model.sample_stepping(x0, steps, RK4)
    assert relative_error(unnested, stepped) > 1e-2
    assert relative_error(model.generator(model.collapse(steps, RK4))(x0).detach(), stepped) < 1e-10


class LargestTensor(TorchFunctionMode):
    """Records the size of the largest tensor that any operation inside returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@solvers
def test_low_rank_collapse_never_forms_a_square_matrix(solver: Solver) -> None:
    dim, rank = 400, 3
    torch.manual_seed(0)
    model = linear_model(TimeLowRank(dim, rank))
    with torch.no_grad(), LargestTensor() as recorder:
        collapsed = model.collapse(20, solver)
        adjoint, inverse = collapsed.adjoint(), collapsed.pinv()
        collapsed.apply(torch.ones(2, dim, dtype=torch.float64))
        inverse.apply(torch.ones(2, dim, dtype=torch.float64))
        collapsed.singular_values()
    assert isinstance(collapsed, ScaledIdentityPlusLowRank)
    assert isinstance(adjoint, ScaledIdentityPlusLowRank)
    assert isinstance(inverse, ScaledIdentityPlusLowRank)
    assert collapsed.core.shape == (rank, rank)
    assert 0 < recorder.largest < dim * dim / 10
    with torch.no_grad(), LargestTensor() as recorder:
        collapsed.to_dense()
    assert recorder.largest == dim * dim  # the recorder does see it where it happens


@pytest.mark.parametrize("steps", [1, 3, 10, 99])
@pytest.mark.parametrize("end", [0.5, 0.99])
@solvers
def test_one_minus_end_is_left_of_what_the_operator_does_not_touch(solver: Solver, end: float, steps: int) -> None:
    """There z' = -z / (1 - t), whose solution is a straight line: exact by any Runge-Kutta method."""
    torch.manual_seed(0)
    operator = TimeLowRank(8, 2)
    model = linear_model(operator, end)
    silent = torch.linalg.qr(torch.cat([operator.u, operator.v], 1).detach(), mode="complete")[0][:, 4:].T
    collapsed = model.collapse(steps, solver)
    assert isinstance(collapsed, ScaledIdentityPlusLowRank)
    assert collapsed.alpha == pytest.approx(1 - end, rel=1e-12)
    torch.testing.assert_close(collapsed.apply(silent).detach(), (1 - end) * silent, rtol=1e-12, atol=1e-12)
    stepped = model.sample_stepping(silent.view(-1, 1, 1, 8), steps, solver).flatten(1)
    torch.testing.assert_close(stepped, (1 - end) * silent, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [2, 10, 100])
def test_the_papers_grid_leaves_one_part_in_its_count(count: int) -> None:
    """T - 1 Euler steps of 1/T, as the paper samples: α = 1/T."""
    collapsed = linear_model(TimeLowRank(8, 2), 1 - 1 / count).collapse(count - 1, EULER)
    assert isinstance(collapsed, ScaledIdentityPlusLowRank)
    assert collapsed.alpha == pytest.approx(1 / count, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapsed_operator_is_apart_from_the_model(
    diffusion: Build, kind: str, randomise: Callable[..., nn.Module]
) -> None:
    """What was collapsed stays what it was when training goes on, and takes no gradients."""
    model = diffusion(kind)
    collapsed = model.collapse(3, EULER)
    before = collapsed.to_dense().detach().clone()
    randomise(model.operator, 9)
    assert torch.equal(collapsed.to_dense().detach(), before)
    assert not collapsed.apply(torch.ones(1, 16, dtype=torch.float64)).requires_grad


def gaussian_latents(variances: Tensor) -> tuple[Tensor, Tensor]:
    """Latents whose second moment is exactly F diag(variances) Fᵀ, and the frame F."""
    dim = len(variances)
    frame, _ = torch.linalg.qr(torch.randn(dim, dim, generator=seeded(), dtype=torch.float64))
    white, _ = torch.linalg.qr(torch.randn(60, dim, generator=seeded(1), dtype=torch.float64))
    return math.sqrt(60) * white * variances.sqrt() @ frame.T, frame


VARIANCES = torch.tensor([0.02, 0.3, 1.0, 2.5, 6.0], dtype=torch.float64)


@pytest.mark.parametrize(("solver", "steps", "bound"), [(EULER, 1000, 1e-2), (RK4, 400, 1e-6)])
@pytest.mark.parametrize("operator", [lambda: TimeLowRank(5, 5), lambda: TimeDense(5)])
def test_optimal_predictor_transports_gaussians(
    operator: Callable[[], TimeOperator], solver: Solver, steps: int, bound: float
) -> None:
    """Along a principal direction z' = (tλ - (1-t)) / s² z, so z(t) = z(0) s(t) with s² = (1-t)² + t²λ."""
    model = linear_model(operator())
    latents, frame = gaussian_latents(VARIANCES)
    model.operator.initialise(latents)
    collapsed = model.collapse(steps, solver).to_dense().detach()
    growth = ((1 - model.end) ** 2 + model.end**2 * VARIANCES).sqrt()
    exact = frame * growth @ frame.T
    assert float((collapsed - exact).norm() / exact.norm()) < bound
    covariance = frame * VARIANCES @ frame.T
    assert float((collapsed @ collapsed.T - covariance).norm() / covariance.norm()) < 0.03


def test_optimal_predictor_turns_noise_into_the_datas_covariance() -> None:
    model = linear_model(TimeLowRank(5, 5))
    latents, frame = gaussian_latents(VARIANCES)
    model.operator.initialise(latents)
    samples = model.sample_stepping(model.noise(4000, seeded(3)), 30, RK4).flatten(1)
    along = (samples @ frame).var(0)  # its relative standard error is √(2 / 4,000) = 2 %
    torch.testing.assert_close(along, VARIANCES, rtol=0.08, atol=3e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_velocity(diffusion: Build, kind: str) -> None:
    model, times = diffusion(kind), [0.0, 0.3, 0.8]
    z = torch.randn(6, 16, generator=seeded(), dtype=torch.float64)
    operators = model.operator.at(torch.tensor(times, dtype=torch.float64))
    for t, endpoint, operator in zip(times, operators, model.velocity_operators(times), strict=True):
        expected = (z @ endpoint.to_dense().T - z) / (1 - t)
        torch.testing.assert_close(model.velocity(t, z), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(operator.apply(z), expected, rtol=1e-10, atol=1e-10)


def test_one_euler_step_by_hand(diffusion: Build) -> None:
    """M = I + end (A(0) - I)."""
    model = diffusion("time_dense")
    endpoint = model.operator.at(torch.zeros(1, dtype=torch.float64))[0].to_dense()
    expected = (1 - model.end) * torch.eye(16, dtype=torch.float64) + model.end * endpoint
    torch.testing.assert_close(model.collapse(1, EULER).to_dense(), expected)


def test_inversion_recovers_noise_and_image(diffusion: Build) -> None:
    model = diffusion(end=0.5)
    generate = model.generator(model.collapse(8, EULER))
    x0 = model.noise(8, seeded())
    assert isinstance(generate.operator, LinearOperator)
    assert generate.operator.rank() == 16
    image = generate(x0)
    recovered = generate.pinv()(image)
    assert relative_error(recovered.detach(), x0) < 1e-9
    assert relative_error(generate(recovered).detach(), image.detach()) < 1e-9


def test_the_generator_goes_from_noise_space_to_image_space(diffusion: Build) -> None:
    model = diffusion()
    generate = model.generator(model.collapse(2, EULER))
    assert generate.g_x is model.g_y
    assert generate.g_y is model.g_x


def test_noise_is_fixed_by_its_seed(diffusion: Build) -> None:
    model = diffusion(event=(2, 4, 6))
    first = model.noise(5000, seeded(7))
    assert torch.equal(first, model.noise(5000, seeded(7)))
    assert not torch.equal(first, model.noise(5000, seeded(8)))
    assert first.shape == (5000, 2, 4, 6)
    assert first.dtype == model.dtype == torch.float64
    assert abs(float(first.mean())) < 0.01
    assert float(first.var()) == pytest.approx(1, abs=0.02)


def test_building_is_fixed_by_its_seed_and_leaves_the_global_generator_alone() -> None:
    config = ModelConfig(flow=FlowConfig(depth=1, width=8), operator=OperatorConfig(rank=2))

    def build(seed: int) -> LinearDiffusion:
        return build_diffusion(config, EvaluateConfig(end=0.8), (1, 4, 4), seed)

    before = torch.random.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(before, torch.random.get_rng_state())
    tensors = first.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in again.state_dict().items())
    assert not torch.equal(tensors["operator.u"], other.state_dict()["operator.u"])
    assert first.end == 0.8
    assert first.event == (1, 4, 4)


def test_noise_may_be_its_own_latent() -> None:
    config = ModelConfig(flow=FlowConfig(depth=1, width=8), operator=OperatorConfig(rank=2), noise_flow="identity")
    model = build_diffusion(config, EvaluateConfig(), (1, 4, 4), seed=1)
    x = model.noise(4, seeded())
    assert torch.equal(model.g_y(x)[0], x.flatten(1))
    assert any(True for _ in model.g_x.parameters())
    assert not any(True for _ in model.g_y.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_built_networks_are_apart(diffusion: Build, kind: str, randomise: Callable[..., nn.Module]) -> None:
    model = diffusion(kind, randomised=False)
    x = model.noise(4, seeded())
    before = model.g_x(x)[0]
    randomise(model.g_y)
    assert torch.equal(before, model.g_x(x)[0])
    assert isinstance(model.operator, TimeLowRank if kind == "time_lowrank" else TimeDense)
