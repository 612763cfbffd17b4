"""Collapse equals stepping, and stepping solves the flow: with negative controls and in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from linearizer_core.experiment.configuration import EvaluateConfig, FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.experiment.families.diffusion import build_diffusion
from linearizer_core.flows import Chain, Flatten, Identity
from linearizer_core.grids import GRIDS, Grid, uniform
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.operators import (
    DenseOperator,
    LinearOperator,
    OrthogonalProjection,
    ScaledIdentityPlusLowRank,
    TimeDense,
    TimeDiagonal,
    TimeFactors,
    TimeLowRank,
    TimeOperator,
)
from linearizer_core.solvers import DOPRI5, EULER, HEUN, RK4, SOLVERS, Solver
from linearizer_core.space import InducedSpace

Build = Callable[..., LinearDiffusion]
KINDS = ["time_lowrank", "time_diagonal", "time_factors", "time_dense"]
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_model(operator: TimeOperator, end: float = 0.99) -> LinearDiffusion:
    """A diffusion model in float64 whose g is the identity: sampling is the linear flow itself."""
    event = (1, 1, operator.dim)
    flows = [Chain([Flatten(event), Identity()]) for _ in range(2)]
    return LinearDiffusion(flows[0], flows[1], operator, event, end).double()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("steps", [1, 7])
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
    if solver is DOPRI5 and dtype is torch.float32:
        bound *= 10  # its weights alternate in sign up to 11.6, which costs a digit when steps are long
    assert relative_error(collapsed.detach(), stepped) < bound


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@solvers
@pytest.mark.parametrize("kind", KINDS)
def test_collapse_is_stepping_on_every_grid(diffusion: Build, kind: str, solver: Solver, grid: Grid) -> None:
    model = diffusion(kind)
    x0 = model.noise(8, seeded())
    stepped = model.sample_stepping(x0, 9, solver, grid)
    assert relative_error(model.generator(model.collapse(9, solver, grid))(x0).detach(), stepped) < 1e-10
    if grid is not uniform:
        assert relative_error(model.sample_stepping(x0, 9, solver), stepped) > 1e-5


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("steps", [1, 7])
def test_grids_run_from_zero_to_the_end(grid: Grid, steps: int) -> None:
    times = grid(steps, 0.9)
    assert len(times) == steps + 1
    assert times[0] == 0
    assert times[-1] == pytest.approx(0.9, abs=1e-15)
    assert all(b > a for a, b in pairwise(times))


def test_grids_by_hand() -> None:
    assert GRIDS["uniform"](4, 0.8) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert GRIDS["quadratic"](4, 0.8) == pytest.approx([0, 0.35, 0.6, 0.75, 0.8])
    assert GRIDS["geometric"](2, 0.99) == pytest.approx([0, 0.9, 0.99])


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
        stages = model.velocity_operators([[t, t + h / 2, t + h]])[0]
        first, middle, last = (h * v.to_dense().detach() for v in stages)
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


def factors_model(dim: int, rank: int) -> LinearDiffusion:
    torch.manual_seed(0)
    model = linear_model(TimeFactors(dim, rank))
    with torch.no_grad():
        for parameter in model.operator.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, dtype=parameter.dtype))
    return model


@solvers
def test_factors_that_change_with_time_collapse_to_at_most_rank_times_stages(solver: Solver) -> None:
    dim, rank, steps = 400, 3, 10
    model, stages = factors_model(dim, rank), len(solver.c)
    with torch.no_grad(), LargestTensor() as recorder:
        collapsed = model.collapse(steps, solver)
    assert isinstance(collapsed, ScaledIdentityPlusLowRank)
    assert collapsed.core.shape == (rank * stages * steps, rank * stages * steps)
    assert recorder.largest < dim * dim
    assert collapsed.alpha == pytest.approx(1 - model.end, rel=1e-10)


def test_more_columns_than_dimensions_collapse_to_a_matrix() -> None:
    model = factors_model(12, 3)
    collapsed = model.collapse(10, EULER)
    assert isinstance(collapsed, DenseOperator)
    x0 = model.noise(5, seeded())
    assert relative_error(model.generator(collapsed)(x0), model.sample_stepping(x0, 10, EULER)) < 1e-10


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
@pytest.mark.parametrize("operator", [lambda: TimeLowRank(5, 5), lambda: TimeFactors(5, 5), lambda: TimeDense(5)])
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
    operators = model.operator.at(torch.tensor([times], dtype=torch.float64))[0]
    for t, endpoint, operator in zip(times, operators, model.velocity_operators([times])[0], strict=True):
        expected = (z @ endpoint.to_dense().T - z) / (1 - t)
        torch.testing.assert_close(model.velocity(t, z), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(operator.apply(z), expected, rtol=1e-10, atol=1e-10)


def test_one_euler_step_by_hand(diffusion: Build) -> None:
    """M = I + end (A(0) - I)."""
    model = diffusion("time_dense")
    endpoint = model.operator.at(torch.zeros(1, 1, dtype=torch.float64))[0][0].to_dense()
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
    flow = FlowConfig(frame="pixels", mixing="lu", depth=1, width=8)
    config = ModelConfig(flow=flow, noise_flow="same", operator=OperatorConfig(kind="time_lowrank", rank=2))

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
    kinds = {
        "time_lowrank": TimeLowRank,
        "time_diagonal": TimeDiagonal,
        "time_factors": TimeFactors,
        "time_dense": TimeDense,
    }
    assert isinstance(model.operator, kinds[kind])


def test_reported_conditioning_of_an_inversion(diffusion: Build) -> None:
    model = diffusion(end=0.5)
    b = model.collapse(4, EULER)
    images = model.generator(b)(model.noise(3, seeded())).detach()
    inversion = model.invert(images, b)
    values = torch.linalg.svdvals(b.to_dense())
    assert inversion.condition == pytest.approx(float(values[0] / values[-1]), rel=1e-8)
    assert (inversion.rank, inversion.dim) == (16, 16)
    assert relative_error(inversion.noise, model.noise(3, seeded())) < 1e-9
    assert relative_error(model.reconstruct(images, b), images) < 1e-9


def test_what_a_singular_operator_annihilates_is_lost_in_reconstruction(diffusion: Build) -> None:
    model = diffusion()
    frame, _ = torch.linalg.qr(torch.randn(16, 3, generator=seeded(), dtype=torch.float64))
    projection = OrthogonalProjection.of(frame)
    images = model.noise(4, seeded(1))
    inversion = model.invert(images, projection)
    assert (inversion.rank, inversion.dim) == (3, 16)
    assert inversion.condition > 1e12
    expected = model.g_x.inverse(model.g_x(images)[0] @ (frame @ frame.T))[0].detach()
    assert relative_error(model.reconstruct(images, projection), expected) < 1e-9
    assert relative_error(model.reconstruct(images, projection), images) > 0.1


def test_interpolation_by_way_of_noise(diffusion: Build) -> None:
    model = diffusion(end=0.5)
    b = model.collapse(4, EULER)
    x0, other = model.noise(3, seeded()), model.noise(3, seeded(1))
    first, second = model.generator(b)(x0).detach(), model.generator(b)(other).detach()
    assert relative_error(model.interpolate(first, second, 0.0, b), first) < 1e-8
    assert relative_error(model.interpolate(first, second, 1.0, b), second) < 1e-8
    middle = InducedSpace(model.g_y).slerp(x0, other, 0.4)
    assert relative_error(model.interpolate(first, second, 0.4, b), model.generator(b)(middle).detach()) < 1e-8
    straight = InducedSpace(model.g_x).lerp(first, second, 0.4).detach()
    assert relative_error(model.interpolate(first, second, 0.4, b), straight) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditioner", ["mlp", "conv"])
def test_log_likelihood_is_the_change_of_variables(diffusion: Build, kind: str, conditioner: str) -> None:
    """log N(x0) - log|det ∂x/∂x0| with the Jacobian of the whole generator by autograd."""
    model = diffusion(kind, conditioner=conditioner, end=0.7)
    b = model.collapse(5, HEUN)
    generate = model.generator(b)
    x0 = model.noise(3, seeded())
    found = model.log_likelihood(generate(x0).detach(), b).detach()
    for row, value in zip(x0, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: generate(v[None])[0], row).reshape(16, 16)
        normal = torch.distributions.Normal(0, 1).log_prob(row).sum()
        torch.testing.assert_close(value, normal - torch.linalg.slogdet(jacobian).logabsdet, rtol=0, atol=1e-8)


def test_log_likelihood_of_a_gaussian_in_closed_form() -> None:
    """With g the identity, x = B x0 is N(0, BBᵀ)."""
    model = linear_model(TimeLowRank(5, 5))
    latents, _ = gaussian_latents(VARIANCES)
    model.operator.initialise(latents)
    b = model.collapse(20, RK4)
    x = torch.randn(6, 5, generator=seeded(), dtype=torch.float64)
    covariance = b.to_dense() @ b.to_dense().T
    expected = torch.distributions.MultivariateNormal(torch.zeros(5).double(), covariance).log_prob(x)
    torch.testing.assert_close(model.log_likelihood(x.view(6, 1, 1, 5), b).detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_likelihood_integrates_to_one_in_two_dimensions(
    kind: str, diffusion: Build, curvature: Callable[..., float]
) -> None:
    """By the midpoint rule on a square that holds all but a negligible part of the mass."""
    model = diffusion(kind, rank=1, event=(1, 1, 2), end=0.6)
    b = model.collapse(6, RK4)
    u, v = model.noise(8, seeded(1)), model.noise(8, seeded(2))
    assert curvature(model.g_x, u, v) > 0.02
    side, half = 400, 16.0
    ticks = (torch.arange(side, dtype=torch.float64) + 0.5) * (2 * half / side) - half
    x = torch.cartesian_prod(ticks, ticks).view(-1, 1, 1, 2)
    with torch.no_grad():
        mass = model.log_likelihood(x, b).exp().sum() * (2 * half / side) ** 2
    assert float(mass) == pytest.approx(1, abs=2e-3)


def test_a_singular_operator_has_no_likelihood(diffusion: Build) -> None:
    model = diffusion()
    frame, _ = torch.linalg.qr(torch.randn(16, 3, generator=seeded(), dtype=torch.float64))
    with pytest.raises(ValueError, match=r"the operator is singular \(rank 3 of 16\)"):
        model.log_likelihood(model.noise(2, seeded()), OrthogonalProjection.of(frame))


def test_sampling_takes_a_step(diffusion: Build) -> None:
    model = diffusion()
    for sample in (lambda: model.collapse(0, EULER), lambda: model.sample_stepping(model.noise(1, seeded()), 0, EULER)):
        with pytest.raises(ValueError, match="sampling takes at least one step, got 0"):
            sample()
