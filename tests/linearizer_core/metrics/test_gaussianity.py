"""The statistics of recovered noise against scipy, closed forms and true Gaussian samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from linearizer_core.metrics.gaussianity import gaussianity

SAMPLES, EVENT, DIM = 400, (2, 5, 10), 100
POOLED = math.sqrt(SAMPLES * DIM)


def draws(seed: int = 0) -> Tensor:
    return torch.randn(SAMPLES, *EVENT, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed: int = 0) -> Tensor:
    """Unit variance, with excess kurtosis -6/5."""
    generator = torch.Generator().manual_seed(seed)
    return math.sqrt(12) * (torch.rand(SAMPLES, *EVENT, generator=generator, dtype=torch.float64) - 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_what_the_documentation_says_of_gaussian_samples(seed: int) -> None:
    """Each within four of its standard deviations."""
    found = gaussianity(draws(seed))
    chi = stats.chi(DIM)
    assert chi.mean() == pytest.approx(math.sqrt(DIM - 0.5), rel=1e-5)
    assert found.norm_ratio == pytest.approx(math.sqrt(1 - 1 / (2 * DIM)), abs=4 * chi.std() / math.sqrt(DIM * SAMPLES))
    assert found.norm_spread == pytest.approx(1, abs=4 * math.sqrt((0.5 + 3 / DIM) / SAMPLES))
    # The means of absolute values of normal variables of deviation √(1/n) and √(1/2n), over 100 entries.
    spread = math.sqrt((1 - 2 / math.pi) / DIM)
    mean, deviation = math.sqrt(1 / SAMPLES), math.sqrt(1 / (2 * SAMPLES))
    assert found.mean == pytest.approx(math.sqrt(2 / (math.pi * SAMPLES)), abs=4 * spread * mean)
    assert found.deviation == pytest.approx(math.sqrt(1 / (math.pi * SAMPLES)), abs=4 * spread * deviation)
    assert abs(found.skewness) < 4 * math.sqrt(6) / POOLED
    assert abs(found.kurtosis) < 4 * math.sqrt(24) / POOLED
    assert 0.3 / POOLED < found.ks < 2.0 / POOLED  # Kolmogorov's law leaves 1e-5 below and 7e-4 above
    assert stats.kstwobign.mean() == pytest.approx(math.sqrt(math.pi / 2) * math.log(2))


@pytest.mark.parametrize(
    "x", [draws(), 0.3 + 1.7 * draws(1), uniform(), draws(2).exp(), draws(3)[:3, :1]], ids=list("abcde")
)
def test_against_scipy_and_numpy(x: Tensor) -> None:
    found = gaussianity(x)
    flat = x.flatten(1).numpy()
    pooled = flat.ravel()
    assert found.skewness == pytest.approx(stats.skew(pooled), abs=1e-11)
    assert found.kurtosis == pytest.approx(stats.kurtosis(pooled), rel=1e-11, abs=1e-11)
    assert found.ks == pytest.approx(stats.kstest(pooled, "norm").statistic, rel=1e-11)
    assert found.mean == pytest.approx(np.abs(flat.mean(0)).mean(), rel=1e-12)
    assert found.deviation == pytest.approx(np.abs(flat.std(0, ddof=1) - 1).mean(), rel=1e-12)
    norms = np.linalg.norm(flat, axis=1)
    assert found.norm_ratio == pytest.approx(norms.mean() / math.sqrt(flat.shape[1]), rel=1e-12)
    assert found.norm_spread == pytest.approx((norms**2).std(ddof=1) / math.sqrt(2 * flat.shape[1]), rel=1e-12)


def test_two_samples_by_hand() -> None:
    found = gaussianity(torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
    assert found.norm_ratio == pytest.approx(3 / math.sqrt(2))  # norms 5 and 1
    assert found.norm_spread == pytest.approx(24 / math.sqrt(2) / 2)  # squares 25 and 1
    assert found.mean == pytest.approx(2)
    assert found.deviation == pytest.approx((math.sqrt(2) - 1 + math.sqrt(8) - 1) / 2)
    assert found.skewness == pytest.approx(0, abs=1e-12)  # 0, 1, 3, 4 about 2: -2, -1, 1, 2
    assert found.kurtosis == pytest.approx((34 / 4) / (10 / 4) ** 2 - 3)
    # The largest gap is just below the second value, where one of four is passed: Φ(1) - 1/4, against Φ(0) = 1/2 ...
    assert found.ks == pytest.approx(max(float(stats.norm.cdf(1)) - 0.25, 0.5, float(stats.norm.cdf(3)) - 0.5))


def test_a_shift_and_a_scale_are_found_at_their_size() -> None:
    x = draws()
    x = (x - x.mean(0)) / x.std(0)
    shifted, scaled = gaussianity(x + 0.5), gaussianity(1.25 * x)
    assert shifted.mean == pytest.approx(0.5)
    assert shifted.deviation == pytest.approx(0, abs=1e-12)
    # sup |Φ(x - m) - Φ(x)| is 2 Φ(m/2) - 1.
    assert shifted.ks == pytest.approx(2 * stats.norm.cdf(0.25) - 1, abs=2 / POOLED)
    assert scaled.deviation == pytest.approx(0.25)
    assert scaled.norm_ratio == pytest.approx(1.25 * gaussianity(x).norm_ratio)
    assert scaled.norm_spread == pytest.approx(1.25**2 * gaussianity(x).norm_spread)
    assert (shifted.skewness, scaled.skewness) == pytest.approx([gaussianity(x).skewness] * 2)
    assert (shifted.kurtosis, scaled.kurtosis) == pytest.approx([gaussianity(x).kurtosis] * 2)


def test_known_moments_of_other_distributions() -> None:
    """Uniform, Laplace and exponential variables, each at mean 0 and variance 1."""
    u = uniform() / math.sqrt(12) + 0.5
    laplace = -torch.sign(u - 0.5) * (1 - 2 * (u - 0.5).abs()).log() / math.sqrt(2)
    exponential = -(1 - u).log() - 1
    for x, skewness, kurtosis, tolerance in ((uniform(), 0, -1.2, 0.02), (laplace, 0, 3, 0.4), (exponential, 2, 6, 1)):
        found = gaussianity(x)
        assert found.skewness == pytest.approx(skewness, abs=max(tolerance, 0.1) / 2)
        assert found.kurtosis == pytest.approx(kurtosis, abs=tolerance)
        assert found.mean < 0.1
        assert found.deviation < 0.15
    # Φ and the uniform distribution function on ±√3 are furthest apart where their densities are equal.
    edge = math.sqrt(-2 * math.log(math.sqrt(2 * math.pi / 12)))
    expected = stats.norm.cdf(edge) - (0.5 + edge / math.sqrt(12))
    assert gaussianity(uniform()).ks == pytest.approx(expected, abs=2 / POOLED)


def test_the_spread_of_the_norm_tells_what_marginals_cannot() -> None:
    one = draws()[:, :1, :1, :1].expand(SAMPLES, *EVENT)
    # All entries equal: ‖x‖² = dim·z², with variance dim²·2 in place of 2·dim.
    assert gaussianity(one).norm_spread == pytest.approx(math.sqrt(DIM), rel=0.3)
    assert gaussianity(one).ks == pytest.approx(stats.kstest(one[:, 0, 0, 0].numpy(), "norm").statistic)
    x = draws()
    sphere = math.sqrt(DIM) * x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert gaussianity(sphere).norm_spread == pytest.approx(0, abs=1e-12)
    assert gaussianity(sphere).norm_ratio == pytest.approx(1)
    assert gaussianity(sphere).ks < 2 / POOLED


def test_single_precision_is_widened_and_gradients_are_left_alone() -> None:
    x = draws().float()
    assert gaussianity(x) == gaussianity(x.double())
    assert gaussianity(x.requires_grad_()) == gaussianity(x.detach())


def test_values_that_are_not_finite_are_not_hidden() -> None:
    x = draws()
    x[0, 0, 0, 0] = math.nan
    found = gaussianity(x)
    assert all(math.isnan(value) for value in vars(found).values())


def test_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two of them, got 1"):
        gaussianity(draws()[:1])
