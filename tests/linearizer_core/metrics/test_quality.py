"""Distances between sets against scipy, scikit-learn, optimal matching and Gaussians in closed form; bits by scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.stats import kstest, norm
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor

from linearizer_core.metrics.quality import (
    bits_per_dimension,
    dequantise,
    frechet_distance,
    kernel_distance,
    psnr,
    sliced_wasserstein,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(count: int, dim: int, seed: int) -> Tensor:
    return normal(count, dim, seed=seed) @ normal(dim, dim, seed=seed + 1) + normal(dim, seed=seed + 2)


@pytest.mark.parametrize(("count_a", "count_b", "dim"), [(50, 50, 3), (200, 80, 10), (60, 90, 1)])
def test_frechet_distance_by_sqrtm(count_a: int, count_b: int, dim: int) -> None:
    a, b = correlated(count_a, dim, 1), correlated(count_b, dim, 5)
    cov_a, cov_b = (np.atleast_2d(np.cov(x.numpy(), rowvar=False)) for x in (a, b))
    mean = np.sum((a.numpy().mean(0) - b.numpy().mean(0)) ** 2)
    expected = mean + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def exactly(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """A set with exactly this mean and unbiased covariance."""
    white = normal(count, len(mean), seed=seed)
    white = white - white.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T))).T
    shaped: Tensor = white @ torch.linalg.cholesky(covariance).T + mean
    return shaped


def test_frechet_distance_of_gaussians_that_commute() -> None:
    """Σ (σ - τ)² + ‖m‖² where the covariances share their eigenvectors."""
    frame, _ = torch.linalg.qr(normal(3, 3))
    sigma, tau = (torch.tensor(values, dtype=torch.float64) for values in ([1.0, 2.0, 0.5], [3.0, 2.0, 0.1]))
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    a = exactly(torch.zeros(3, dtype=torch.float64), frame * sigma**2 @ frame.T, 40, 1)
    b = exactly(shift, frame * tau**2 @ frame.T, 70, 2)
    expected = float((sigma - tau).square().sum() + shift.square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_with_fewer_samples_than_features() -> None:
    """tr (Σa Σb)^½ is the nuclear norm of the centred sets' cross product: no square root of Σ needed."""
    a, b = normal(10, 30, seed=1), 2 * normal(14, 30, seed=2) + 1
    centred_a, centred_b = (a - a.mean(0)).numpy(), (b - b.mean(0)).numpy()
    cross = np.linalg.norm(centred_a @ centred_b.T, "nuc") / np.sqrt(9 * 13)
    traces = (centred_a**2).sum() / 9 + (centred_b**2).sum() / 13
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + traces - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_equal_sets() -> None:
    a = correlated(100, 8, 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a[torch.randperm(100, generator=torch.Generator().manual_seed(0))]) < 1e-6
    assert frechet_distance(a, a + 3) == pytest.approx(8 * 9, rel=1e-8)
    assert frechet_distance(a.float(), a.float() + 3) == pytest.approx(8 * 9, rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_sliced_wasserstein_in_one_dimension_is_the_best_matching(count: int) -> None:
    a, b = normal(count, 1, seed=1), 3 * normal(count, 1, seed=2) ** 2
    cost = (a - b.T).square().numpy()
    expected = np.sqrt(cost[linear_sum_assignment(cost)].mean())
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=1e-10)


def test_sliced_wasserstein_by_sorting_along_given_directions() -> None:
    """With one projection, some direction on the half circle must explain the value."""
    a, b = normal(40, 2, seed=1), normal(40, 2, seed=2) * torch.tensor([1.0, 3.0])
    angles = torch.linspace(0, torch.pi, 20_001, dtype=torch.float64)
    directions = torch.stack([angles.cos(), angles.sin()])
    gaps = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    along = gaps.square().mean(0)
    for seed in range(3):
        value = sliced_wasserstein(a, b, projections=1, seed=seed)
        assert float((along.sqrt() - value).abs().min()) < 1e-3
        assert float(along.min().sqrt()) <= value <= float(along.max().sqrt())
    assert sliced_wasserstein(a, b, projections=20_000) ** 2 == pytest.approx(float(along[:-1].mean()), rel=0.02)


def test_sliced_wasserstein_of_a_shifted_set() -> None:
    """Along θ it is (m·θ)², on average ‖m‖² / D; over 20,000 directions the standard error is 1 %."""
    a, shift = normal(20, 12), normal(12, seed=1)
    expected = float(shift.square().sum()) / 12
    assert sliced_wasserstein(a, a + shift, projections=20_000) ** 2 == pytest.approx(expected, rel=0.04)


def test_sliced_wasserstein_of_a_scaled_set() -> None:
    """Scaling by s moves each quantile q of a direction to s q: (s - 1)² times the mean square, ‖a‖² / D."""
    a = normal(200, 6)
    expected = 4 * float(a.square().sum(1).mean()) / 6
    assert sliced_wasserstein(a, 3 * a, projections=20_000) ** 2 == pytest.approx(expected, rel=0.02)


def test_sliced_wasserstein_of_two_gaussians() -> None:
    """N(0, 1) and N(m, s²) along any direction of one dimension: W2² = m² + (s - 1)²."""
    a, b = normal(100_000, 1, seed=1), 2 + 3 * normal(100_000, 1, seed=2)
    assert sliced_wasserstein(a, b, projections=1) == pytest.approx(np.sqrt(4 + 4), rel=0.02)


def test_sliced_wasserstein_of_permuted_sets() -> None:
    a = normal(30, 1, 4, 4)
    permuted = a[torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    assert sliced_wasserstein(a, a) == 0
    assert sliced_wasserstein(a, permuted) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("small", "large"), [(7, 20), (10, 11), (1, 5)])
def test_sliced_wasserstein_of_unequal_sizes(small: int, large: int) -> None:
    """The larger set at the mid-point quantiles of the smaller, by numpy's Hazen quantiles."""
    a, b = normal(small, 1, seed=1), 1 + 2 * normal(large, 1, seed=2)
    points = (np.arange(small) + 0.5) / small
    quantiles = np.quantile(b.numpy()[:, 0], points, method="hazen")
    expected = np.sqrt(np.mean((np.sort(a.numpy()[:, 0]) - quantiles) ** 2))
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=1e-10)
    assert sliced_wasserstein(b, a) == pytest.approx(expected, rel=1e-10)


def test_sliced_wasserstein_of_a_repeated_set_is_zero() -> None:
    a = normal(15, 5)
    assert sliced_wasserstein(a, torch.cat([a, a])) == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(count_a=st.integers(1, 12), count_b=st.integers(1, 12), dim=st.integers(1, 6), seed=st.integers(0, 99))
def test_sliced_wasserstein_is_a_distance(count_a: int, count_b: int, dim: int, seed: int) -> None:
    a, b = normal(count_a, dim, seed=seed), normal(count_b, dim, seed=seed + 1)
    value = sliced_wasserstein(a, b)
    assert value >= 0
    assert value == sliced_wasserstein(b, a)
    assert value == sliced_wasserstein(a, b)
    assert sliced_wasserstein(2 * a + 1, 2 * b + 1) == pytest.approx(2 * value, rel=1e-9)
    assert sliced_wasserstein(a.view(count_a, 1, dim), b.view(count_b, 1, dim)) == value


def test_psnr_by_hand() -> None:
    a = torch.zeros(2, 1, 2, 2)
    assert psnr(a, a + 0.2) == pytest.approx(20)  # 10 log10(2² / 0.2²)
    assert psnr(a, a + 0.2, peak=0.2) == pytest.approx(0, abs=1e-5)
    half_wrong = a.clone()
    half_wrong[0] = 0.02
    assert psnr(a, half_wrong) == pytest.approx(10 * np.log10(4 / (0.0004 / 2)))
    assert psnr(a, a) == float("inf")


def test_psnr_of_what_is_not_finite_is_no_perfect_score() -> None:
    broken = torch.tensor([0.0, math.nan])
    assert math.isnan(psnr(broken, torch.zeros(2)))
    assert psnr(torch.zeros(2), torch.zeros(2)) == math.inf


def test_kernel_distance_by_hand() -> None:
    """k(1, 2) + k(0, 3) - ½ (k(1, 0) + k(1, 3) + k(2, 0) + k(2, 3)) = 27 + 1 - ½ (1 + 64 + 1 + 343)."""
    a, b = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    assert kernel_distance(a, b) == pytest.approx(28 - 409 / 2, rel=1e-14)


@pytest.mark.parametrize("block", [1, 7, 2048])
@pytest.mark.parametrize("degree", [1, 3])
def test_kernel_distance_by_scikit_learn(degree: int, block: int) -> None:
    a, b = correlated(40, 6, 1), correlated(23, 6, 5)

    def kernel(x: Tensor, y: Tensor) -> np.ndarray:
        return polynomial_kernel(x.numpy(), y.numpy(), degree=degree, gamma=1 / 6, coef0=1)

    within = [(kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1)) for x in (a, b)]
    expected = within[0] + within[1] - 2 * kernel(a, b).mean()
    assert kernel_distance(a, b, degree, block) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance(b, a, degree, block) == pytest.approx(expected, rel=1e-9)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert kernel_distance(a[order], b, degree, block) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 0.5)])
def test_kernel_distance_of_two_gaussians_in_expectation(shift: float, scale: float) -> None:
    """In one dimension Σ binomial(3, i) (difference of the i-th moments)²: zero for equal Gaussians."""
    values = [
        kernel_distance(normal(20, 1, seed=2 * i), shift + scale * normal(30, 1, seed=2 * i + 1)) for i in range(300)
    ]
    gaps = shift, shift**2 + scale**2 - 1, shift**3 + 3 * shift * scale**2
    expected = 3 * gaps[0] ** 2 + 3 * gaps[1] ** 2 + gaps[2] ** 2
    error = np.std(values) / np.sqrt(len(values))
    assert error < 0.4
    assert abs(np.mean(values) - expected) < 3 * error
    assert min(values) < 0


def test_kernel_distance_flattens_and_converts() -> None:
    a, b = normal(9, 1, 2, 3), normal(8, 1, 2, 3, seed=1) + 100
    single = kernel_distance(a.float(), b.float())
    assert single == kernel_distance(a.float().flatten(1).double(), b.float().flatten(1).double())
    assert single == pytest.approx(kernel_distance(a, b), rel=1e-5)


@pytest.mark.parametrize(("count_a", "count_b"), [(1, 5), (5, 1)])
def test_kernel_distance_needs_pairs(count_a: int, count_b: int) -> None:
    with pytest.raises(ValueError, match=f"at least two of each set, got {count_a} and {count_b}"):
        kernel_distance(normal(count_a, 2), normal(count_b, 2))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_images_are_uniform_in_their_cells(levels: int) -> None:
    quanta = torch.arange(levels).repeat(2000 // levels + 1)
    images = 2 * quanta.double() / (levels - 1) - 1
    spread = dequantise(images, levels, torch.Generator().manual_seed(0))
    cells = (spread + 1) * (levels - 1) / 2
    torch.testing.assert_close(cells.round().long(), quanta)
    assert kstest((cells - quanta).numpy(), "uniform", args=(-0.5, 1), method="asymp").pvalue > 0.01
    assert torch.equal(dequantise(images, levels, torch.Generator().manual_seed(0)), spread)
    assert not torch.equal(dequantise(images, levels, torch.Generator().manual_seed(1)), spread)
    assert dequantise(images.float(), levels, torch.Generator()).dtype == torch.float32


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("dim", [1, 64])
def test_bits_of_the_uniform_density(dim: int, levels: int) -> None:
    """Over the cells of all grey values together, 2 levels / (levels - 1) wide."""
    log_likelihood = torch.full((3,), -dim * math.log(2 * levels / (levels - 1)), dtype=torch.float64)
    bits = bits_per_dimension(log_likelihood, dim, levels)
    torch.testing.assert_close(bits, torch.full((3,), math.log2(levels), dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_bits_of_a_gaussian_bound_those_of_its_cells() -> None:
    """Against scipy: by its densities they are a closed form on average; by its cells' masses they are no less."""
    levels, dim, mean, deviation = 17, 12, 0.1, 0.4
    width = 2 / (levels - 1)
    quanta = torch.randint(levels, (4, dim), generator=torch.Generator().manual_seed(0))
    images = 2 * quanta.double() / (levels - 1) - 1
    spread = dequantise(images.expand(20_000, -1, -1), levels, torch.Generator().manual_seed(1))
    log_likelihood = torch.from_numpy(norm.logpdf(spread.numpy(), mean, deviation).sum(-1))
    average = bits_per_dimension(log_likelihood, dim, levels).mean(0).numpy()
    second = (images.numpy() - mean) ** 2 + width**2 / 12
    nats = -0.5 * np.log(2 * np.pi * deviation**2) - second / (2 * deviation**2)
    np.testing.assert_allclose(average, -(nats + np.log(width)).mean(1) / np.log(2), atol=2e-3)
    edges = images.numpy()[..., None] + np.array([-0.5, 0.5]) * width
    mass = np.diff(norm.cdf(edges, mean, deviation), axis=-1)[..., 0]
    cells = -np.log2(mass).mean(1)
    assert (average > cells).all()
    np.testing.assert_allclose(average, cells, atol=0.02)


def test_one_grey_level_has_no_cell() -> None:
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        bits_per_dimension(torch.zeros(1), 4, 1)
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        dequantise(torch.zeros(1), 1, torch.Generator())
