"""The endpoint predictors A(t) against the least-squares predictor of Gaussian latents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from linearizer_core.operators import (
    DenseOperator,
    LinearOperator,
    LowRankOperator,
    TimeDense,
    TimeDiagonal,
    TimeFactors,
    TimeLowRank,
    TimeOperator,
)
from linearizer_core.operators.time_dependent import principal, sinusoidal, wiener

DIM, RANK = 6, 3
TIMES = torch.tensor([0.0, 0.1, 0.5, 0.83, 1.0], dtype=torch.float64)
KINDS: dict[str, Callable[[], TimeOperator]] = {
    "low rank": lambda: TimeLowRank(DIM, RANK),
    "full rank": lambda: TimeLowRank(DIM, DIM),
    "dense": lambda: TimeDense(DIM),
    "diagonal": lambda: TimeDiagonal(DIM, RANK),
    "factors": lambda: TimeFactors(DIM, RANK),
    "full rank factors": lambda: TimeFactors(DIM, DIM),
}


def build(kind: str) -> TimeOperator:
    torch.manual_seed(0)
    return KINDS[kind]().double()


def each(operator: TimeOperator, times: Tensor = TIMES) -> list[LinearOperator]:
    """The operators at the given times, each a step of its own."""
    return [step[0] for step in operator.at(times[:, None])]


@pytest.fixture
def latents() -> Tensor:
    """Correlated latents with well separated variances, not centred."""
    generator = torch.Generator().manual_seed(1)
    frame, _ = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64))
    scales = torch.tensor([3.0, 2.0, 1.2, 0.7, 0.3, 0.1], dtype=torch.float64)
    drawn: Tensor = torch.randn(500, DIM, generator=generator, dtype=torch.float64) * scales @ frame.T + 0.2
    return drawn


def least_squares(latents: Tensor, t: float) -> np.ndarray:
    """tΛ ((1-t)²I + t²Λ)⁻¹ with Λ the second moment, by a dense inverse."""
    moment = (latents.T @ latents / len(latents)).numpy()
    covariance = (1 - t) ** 2 * np.eye(DIM) + t**2 * moment
    return t * moment @ np.linalg.inv(covariance)


@pytest.mark.parametrize("kind", ["full rank", "dense", "full rank factors"])
def test_initialised_operator_is_the_least_squares_predictor(kind: str, latents: Tensor) -> None:
    operator = build(kind)
    operator.initialise(latents)
    for t, a in zip(TIMES.tolist(), each(operator), strict=True):
        np.testing.assert_allclose(a.to_dense().detach().numpy(), least_squares(latents, t), atol=1e-10)


def test_least_squares_predictor_minimises_the_error_over_samples(latents: Tensor) -> None:
    t, generator = 0.6, torch.Generator().manual_seed(2)
    noise = torch.randn(latents.shape, generator=generator, dtype=torch.float64)
    operator = build("full rank")
    operator.initialise(latents)
    mixed = (1 - t) * noise + t * latents
    fitted = torch.linalg.lstsq(mixed, latents).solution.T
    found = each(operator, torch.tensor([t], dtype=torch.float64))[0].to_dense().detach()
    assert float((found - fitted).norm() / fitted.norm()) < 0.1


@pytest.mark.parametrize("kind", ["low rank", "factors"])
def test_low_rank_operator_starts_from_the_leading_directions(kind: str, latents: Tensor) -> None:
    operator = build(kind)
    operator.initialise(latents)
    leading = torch.linalg.svd(latents, full_matrices=False).Vh[:RANK].T.numpy()
    projection = leading @ leading.T
    for t, a in zip(TIMES.tolist(), each(operator), strict=True):
        expected = projection @ least_squares(latents, t) @ projection
        np.testing.assert_allclose(a.to_dense().detach().numpy(), expected, atol=1e-10)


def test_diagonal_operator_starts_from_the_leading_coordinates() -> None:
    """For uncorrelated latents each gain is tλ / ((1-t)² + t²λ); the coordinates beyond the rank are annihilated."""
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(300, DIM, generator=generator, dtype=torch.float64) * torch.arange(DIM, 0, -1)
    operator = build("diagonal")
    operator.initialise(latents)
    moments = latents.square().mean(0).numpy()
    for t, a in zip(TIMES.tolist(), each(operator), strict=True):
        gains = t * moments / ((1 - t) ** 2 + t**2 * moments)
        np.testing.assert_allclose(a.to_dense().detach().numpy(), np.diag([*gains[:RANK], 0, 0, 0]), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_without_variance_do_not_break_the_start(kind: str, latents: Tensor) -> None:
    operator = build(kind)
    latents[:, 0] = 0
    operator.initialise(latents * torch.tensor([1, 1, 0, 0, 0, 0], dtype=torch.float64))
    assert all(torch.isfinite(a.to_dense()).all() for a in each(operator))


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_the_operator_at_each_rows_time(
    kind: str, latents: Tensor, randomise: Callable[..., nn.Module]
) -> None:
    operator = build(kind)
    randomise(operator)
    z = latents[: len(TIMES)]
    expected = [a.to_dense() @ row for a, row in zip(each(operator), z, strict=True)]
    torch.testing.assert_close(operator(TIMES, z), torch.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_randomised_operator_changes_with_time_and_trains(
    kind: str, latents: Tensor, randomise: Callable[..., nn.Module]
) -> None:
    operator = build(kind)
    randomise(operator)
    early, late = (a.to_dense() for a in each(operator, TIMES[[1, 3]]))
    assert float((early - late).detach().abs().max()) > 0.1
    operator(TIMES, latents[: len(TIMES)]).square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_low_rank_operators_share_their_factors(randomise: Callable[..., nn.Module]) -> None:
    operator = build("low rank")
    randomise(operator)
    first, *others = each(operator)
    assert isinstance(first, LowRankOperator)
    assert first.core.shape == (RANK, RANK)
    for other in others:
        assert isinstance(other, LowRankOperator)
        assert other.factors.shared_with(first.factors)
    assert first.rank() == RANK


def test_stages_of_one_step_share_factors_that_change_with_time(randomise: Callable[..., nn.Module]) -> None:
    operator = TimeFactors(DIM, 2).double()
    randomise(operator)
    times = TIMES[:4].view(2, 2)
    steps = operator.at(times)
    left, right = operator.factors(times.flatten())
    for i, step in enumerate(steps):
        for j, stage in enumerate(step):
            assert isinstance(stage, LowRankOperator)
            assert stage.core.shape == (4, 4)
            assert stage.factors is step[0].factors
            expected = (left[2 * i + j] @ right[2 * i + j].T).detach()
            torch.testing.assert_close(stage.to_dense(), expected)
    assert not torch.equal(left[0], left[1])
    assert not torch.equal(right[0], right[1])


def test_randomised_core_is_not_diagonal(randomise: Callable[..., nn.Module]) -> None:
    operator = TimeLowRank(DIM, RANK)
    assert torch.equal(operator.core(TIMES[2:3].float())[0], torch.eye(RANK))  # the gain is 1 at t = ½
    randomise(operator)
    core = operator.core(TIMES[2:3].float())[0]
    assert float((core - core.diag().diag()).detach().abs().max()) > 0.1


def test_dense_operators_are_dense() -> None:
    assert all(isinstance(a, DenseOperator) for a in each(build("dense")))


@pytest.mark.parametrize("rank", [0, DIM + 1])
@pytest.mark.parametrize("kind", [TimeLowRank, TimeFactors])
def test_rank_out_of_range(kind: Callable[[int, int], TimeOperator], rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank must be between 1 and the dimension {DIM}, got {rank}"):
        kind(DIM, rank)


def test_wiener_gain_by_hand() -> None:
    gains = wiener(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(gains, torch.tensor([[0.0, 0.0], [1.0, 1.6], [1.0, 1.0]]))


def test_sinusoidal_by_hand() -> None:
    angles = 0.3 * np.pi * 2 ** np.array([-1.0, 1.0, 3.0, 5.0])
    found = sinusoidal(torch.tensor([0.3], dtype=torch.float64), 8)
    expected = np.concatenate([np.sin(angles), np.cos(angles)])
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("rank", [3, 7])
def test_principal_directions_of_fewer_latents_than_dimensions(rank: int) -> None:
    z = torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frame, variances = principal(z, rank)
    torch.testing.assert_close(frame.T @ frame, torch.eye(rank, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(z.T @ z / 5)
    torch.testing.assert_close(variances, values.flip(0)[:rank].clamp_min(1e-4))
    known = min(rank, 5)
    along = (frame[:, :known].T @ vectors.flip(1)[:, :known]).abs()
    torch.testing.assert_close(along, torch.eye(known, dtype=torch.float64), rtol=0, atol=1e-7)
