"""Evaluation: quality and curves against direct computation, densities in closed form, the references' order."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from torch import Tensor, nn

from linearizer_core.experiment import evaluation
from linearizer_core.experiment.configuration import EvaluateConfig, Metric
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.evaluation import (
    BATCH,
    BITS_KEYS,
    Curve,
    Evaluation,
    PixelGaussian,
    Quality,
    bits_per_dim,
    capped_psnr,
    in_batches,
    megaflops,
    normal_log_likelihood,
    references,
    score_keys,
    scores,
    step_counts,
    step_keys,
    timed,
)
from linearizer_core.experiment.sample_metrics import BUILT_IN, CLASSIFIER_METRICS, INCEPTION_METRICS
from linearizer_core.metrics.features import Classifier
from linearizer_core.metrics.neighbours import neighbour_radii, neighbourhood
from linearizer_core.metrics.quality import frechet_distance, kernel_distance, sliced_wasserstein

CONFIG = EvaluateConfig(steps=(1, 3, 12), samples=400, held_out=128)
METRICS = ["swd", "classifier_fd"]
ALL: tuple[Any, ...] = ("swd", *CLASSIFIER_METRICS)


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def every_metric(digits: ImageData, classifier: Classifier) -> Quality:
    """All metrics that need nothing from elsewhere."""
    return Quality(ALL, digits, classifier, "cpu")


def test_area_is_the_mean_over_log_steps() -> None:
    steps = [1, 2, 10, 100]
    logs = [math.log(k) for k in steps]
    assert Curve(steps, [3.0] * 4).area() == pytest.approx(3)
    assert Curve(steps, logs).area() == pytest.approx(math.log(100) / 2)  # a straight line: exact, its middle
    assert Curve([1, 10, 100], [1.0, 0.0, 2.0]).area() == pytest.approx((0.5 + 1.0) / 2)
    assert Curve([7], [4.5]).area() == 4.5


def test_every_metric_is_known() -> None:
    assert set(get_args(Metric)) == set(BUILT_IN) == {*ALL, *INCEPTION_METRICS, "imagenet_fd", "imagenet_kid"}
    assert len(ALL) == 7


def test_step_counts_take_every_sampler_once(quality: Quality) -> None:
    """A sampler of k steps that gives images of deviation 1/k."""
    asked: list[int] = []

    def sample(steps: int) -> Tensor:
        asked.append(steps)
        return noise(90) / steps

    found = step_counts(sample, CONFIG, quality, torch.device("cpu"))
    assert asked == [1, 3, 12]
    assert found.summary.keys() == set(step_keys(CONFIG))
    assert len(step_keys(CONFIG)) == 3 + 2 * (3 + 1)
    assert found.curves.keys() == {f"nfe/{name}" for name in METRICS}
    for name in METRICS:
        curve = found.curves[f"nfe/{name}"]
        assert curve.steps == [1, 3, 12]
        assert curve.values == [quality(noise(90) / k)[name] for k in curve.steps]
        assert curve.values == [found.summary[f"quality/{name}_k{k}"] for k in curve.steps]
        a, b, c = curve.values
        by_hand = ((a + b) / 2 * math.log(3) + (b + c) / 2 * math.log(4)) / math.log(12)
        assert found.summary[f"quality/{name}_auc"] == pytest.approx(by_hand)
    assert all(found.summary[f"cost/sample_ms_k{k}"] > 0 for k in asked)
    assert found.grids().keys() == {"k1", "k12"}
    assert torch.equal(found.grids()["k12"], (noise(90) / 12)[:64])


def test_one_step_count(quality: Quality) -> None:
    config = EvaluateConfig(steps=(2,), samples=64)
    found = step_counts(lambda steps: noise(64), config, quality, torch.device("cpu"))
    assert found.grids().keys() == {"k2"}
    for name in METRICS:
        assert found.summary[f"quality/{name}_auc"] == found.summary[f"quality/{name}_k2"]


def test_neighbours_of_real_images_are_found_once(
    digits: ImageData, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many sets are scored; the scores are those of the metric by itself."""
    asked = []

    def counted(features: Tensor) -> Tensor:
        asked.append(len(features))
        return neighbour_radii(features)

    monkeypatch.setattr(evaluation, "neighbour_radii", counted)
    every_metric = Quality(("precision", "recall", "density", "coverage"), digits, classifier, "cpu")
    for seed in range(3):
        found = every_metric(noise(90, seed))
        features = [classifier.features(images) for images in (digits.validation, noise(90, seed).clamp(-1, 1))]
        assert found == asdict(neighbourhood(*features))
    every_metric(noise(90), "test")
    assert asked == [len(digits.validation), len(digits.test)]


def test_scores_are_of_both_splits(quality: Quality) -> None:
    found = scores(quality, noise(64), "collapsed")
    assert list(found) == score_keys(CONFIG, "collapsed")
    assert list(scores(quality, noise(64), "k3", ["test"])) == [f"test/{name}_k3" for name in METRICS]
    for split in ("quality", "test"):
        for name, value in quality(noise(64), split).items():
            assert found[f"{split}/{name}_collapsed"] == value


def test_functions_of_rows_are_applied_in_batches() -> None:
    sizes: list[int] = []

    def add(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(len(a))
        return a + b

    a, b = torch.arange(2 * BATCH + 1), torch.arange(2 * BATCH + 1).flip(0)
    assert torch.equal(in_batches(add, a, b), torch.full_like(a, 2 * BATCH))
    assert sizes == [BATCH, BATCH, 1]


def test_time_is_of_an_image() -> None:
    images, milliseconds = timed(torch.device("cpu"), lambda: torch.zeros(10**6, 1))
    assert len(images) == 10**6
    assert 0 < milliseconds < 1


@pytest.mark.parametrize("count", [1, 7])
def test_operations_of_a_product_and_of_a_convolution_by_hand(count: int) -> None:
    """A multiplication and an addition for each weight that meets a value."""
    linear, conv = nn.Linear(50, 40), nn.Conv2d(3, 5, 3, padding=1)
    assert megaflops(linear, torch.zeros(count, 50)) == pytest.approx(2 * 50 * 40 / 1e6)
    assert megaflops(conv, torch.zeros(count, 3, 8, 6)) == pytest.approx(2 * 3 * 5 * 9 * 8 * 6 / 1e6)
    assert megaflops(lambda x: linear(x) + linear(x), torch.zeros(count, 50)) == pytest.approx(4 * 50 * 40 / 1e6)


def test_psnr_is_capped() -> None:
    images = noise(3)
    assert capped_psnr(images, images) == 200
    assert capped_psnr(images, images + 0.2) == pytest.approx(20, abs=1e-4)  # 10 log10(2² / 0.2²)


def test_every_metric_is_the_one_of_its_name(every_metric: Quality, digits: ImageData, classifier: Classifier) -> None:
    samples = digits.train.head(120) + 0.2 * noise(120)
    clamped = samples.clamp(-1, 1)
    for split, images in (("quality", digits.validation), ("test", digits.test)):
        a, b = classifier.features(clamped), classifier.features(images)
        near = neighbourhood(b, a)
        assert every_metric(samples, split) == {
            "swd": sliced_wasserstein(clamped, images),
            "classifier_fd": frechet_distance(a, b),
            "classifier_kid": kernel_distance(a, b),
            "precision": near.precision,
            "recall": near.recall,
            "density": near.density,
            "coverage": near.coverage,
        }


def test_metrics_come_in_the_configured_order_and_no_others(digits: ImageData, classifier: Classifier) -> None:
    few = Quality(("recall", "swd"), digits, classifier, "cpu")
    assert list(few(digits.test)) == ["recall", "swd"]
    assert Quality(("swd",), digits, None, "cpu")(digits.test).keys() == {"swd"}


def test_samples_that_are_not_finite_have_no_quality(every_metric: Quality) -> None:
    for broken in (math.nan, math.inf):
        samples = noise(20)
        samples[7, 0, 3, 3] = broken
        found = every_metric(samples)
        assert found.keys() == set(ALL)
        assert all(math.isnan(value) for value in found.values())


def test_quality_is_of_the_clamped_images(quality: Quality) -> None:
    samples = 3 * noise(80)
    assert quality(samples) == quality(samples.clamp(-1, 1))
    assert quality(samples) != quality(samples.clamp(-0.9, 0.9))


def test_quality_of_a_split_against_itself_is_the_best(every_metric: Quality, digits: ImageData) -> None:
    for images, split, other in ((digits.validation, "quality", "test"), (digits.test, "test", "quality")):
        itself, apart = every_metric(images, split), every_metric(images, other)
        assert itself["swd"] == 0
        assert itself["classifier_fd"] == pytest.approx(0, abs=1e-3)
        assert all(apart[name] > itself[name] + 1e-2 for name in METRICS)
        assert itself["classifier_kid"] < apart["classifier_kid"]  # unbiased: below zero for one set twice
        assert (itself["precision"], itself["recall"], itself["coverage"]) == (1, 1, 1)
        assert all(apart[name] < 1 for name in ("precision", "recall", "coverage"))


def correlated() -> Tensor:
    """Images of six pixels, 3,000 of them, whose covariance is far from diagonal."""
    generator = torch.Generator().manual_seed(5)
    mix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    white = torch.randn(3000, 6, generator=generator, dtype=torch.float64)
    return (white @ mix.T + torch.arange(6)).view(3000, 1, 2, 3)


@pytest.mark.parametrize("deviation", [0.0, 0.7])
def test_density_of_the_pixel_gaussian(deviation: float) -> None:
    images = correlated()
    flat = images.flatten(1).numpy()
    density = multivariate_normal(flat.mean(0), np.cov(flat.T) + deviation**2 * np.eye(6))
    found = PixelGaussian(images, deviation).log_likelihood(images[:50] + 1)
    np.testing.assert_allclose(found.numpy(), density.logpdf(flat[:50] + 1), rtol=1e-9)


def test_noise_gives_a_density_to_pixels_that_never_vary() -> None:
    images = correlated()
    images[:, 0, 1, 2] = 0.25
    found = PixelGaussian(images, 0.1).log_likelihood(images[:5])
    flat = images.flatten(1).numpy()
    expected = multivariate_normal(flat.mean(0), np.cov(flat.T) + 0.01 * np.eye(6)).logpdf(flat[:5])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_samples_of_the_pixel_gaussian_have_its_moments() -> None:
    images, count = correlated(), 40_000
    samples = PixelGaussian(images, 0.7).sample(count, torch.Generator().manual_seed(1))
    assert samples.shape == (count, 1, 2, 3)
    assert samples.dtype == torch.float32
    covariance = torch.cov(images.flatten(1).T)  # without the noise of the density
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (samples.double().flatten(1) - images.flatten(1).mean(0)).T, upper=False
    )
    assert float(white.mean(1).abs().max()) < 4.5 / math.sqrt(count)
    assert float((torch.cov(white) - torch.eye(6)).abs().max()) < 4.5 * math.sqrt(2 / count)
    assert float((white**4).mean()) == pytest.approx(3, abs=5 * math.sqrt(96 / (6 * count)))


def test_density_of_standard_noise() -> None:
    images = correlated()[:40]
    expected = multivariate_normal(np.zeros(6), np.eye(6)).logpdf(images.flatten(1).numpy())
    np.testing.assert_allclose(normal_log_likelihood(images).numpy(), expected, rtol=1e-12)


def normal_bits(images: Tensor, mean: Tensor, variances: Tensor, levels: int) -> float:
    """The expected bits a dimension of N(mean, diag(variances)) over uniform noise on a cell of width w.

    E (x + wu - m)² = (x - m)² + w² / 12.
    """
    width = 2 / (levels - 1)
    squares = (images.double().flatten(1) - mean).square() + width**2 / 12
    nats = 0.5 * (squares / variances + (2 * math.pi * variances).log())
    return (float(nats.mean()) - math.log(width)) / math.log(2)


def test_bits_of_standard_noise_in_closed_form(digits: ImageData) -> None:
    found = bits_per_dim(normal_log_likelihood, digits, 10_000)
    assert list(found) == BITS_KEYS
    zero, one = torch.zeros(64, dtype=torch.float64), torch.ones(64, dtype=torch.float64)
    assert found["quality/bits_per_dim"] == pytest.approx(normal_bits(digits.validation, zero, one, 17), abs=1e-3)
    assert found["test/bits_per_dim"] == pytest.approx(normal_bits(digits.test, zero, one, 17), abs=1e-3)
    few = bits_per_dim(normal_log_likelihood, digits, 20)
    assert few["test/bits_per_dim"] == pytest.approx(normal_bits(digits.test[:20], zero, one, 17), abs=5e-3)


def test_a_uniform_density_over_all_cells_has_the_bits_of_its_levels(digits: ImageData) -> None:
    volume = 64 * math.log(17 * 2 / 16)  # 17 cells of width 2/16 a pixel
    found = bits_per_dim(lambda x: torch.full((len(x),), -volume, dtype=torch.float64), digits, 100)
    assert found == pytest.approx(dict.fromkeys(BITS_KEYS, math.log2(17)))


@pytest.fixture(scope="module")
def reference_rows(digits: ImageData, quality: Quality) -> dict[str, Evaluation]:
    return references(digits, CONFIG, quality)


LABELS = ["real against real", "Gaussian fitted to the training pixels", "noise"]


def test_references_come_in_their_order(reference_rows: dict[str, Evaluation]) -> None:
    assert list(reference_rows) == LABELS
    for key in [f"{kind}/{name}_collapsed" for kind in ("quality", "test") for name in METRICS]:
        real, gaussian, noise = (reference_rows[label].summary[key] for label in LABELS)
        assert real < gaussian < noise
    assert [len(row.summary) for row in reference_rows.values()] == [12, 14, 14]
    for row in reference_rows.values():
        for key, value in row.summary.items():
            if key.endswith("_sampled"):
                assert value == row.summary[key.replace("_sampled", "_collapsed")]


def test_images_in_principal_components_are_those_of_scikit_learn(digits: ImageData) -> None:
    pixels = digits.train.head(2000)
    gaussian = PixelGaussian(pixels, 0.1)
    for rank in (1, 7, 64):
        model = PCA(rank, svd_solver="full").fit(pixels.flatten(1).double().numpy())
        expected = model.inverse_transform(model.transform(digits.validation.flatten(1).double().numpy()))
        found = gaussian.project(digits.validation, rank)
        assert found.shape == digits.validation.shape
        assert float((found.flatten(1) - torch.from_numpy(expected)).abs().max()) < 1e-5


def test_the_floor_of_each_rank_is_of_real_images_in_as_many_components(digits: ImageData, quality: Quality) -> None:
    rows = references(digits, CONFIG, quality, ranks=(1, 8, 64), rank=8)
    assert list(rows) == [*LABELS, "real images in 8 principal components"]
    floor, real = rows["real images in 8 principal components"], rows["real against real"]
    assert sorted(floor.curves) == sorted(f"rank/{split}{name}" for split in ("", "test_") for name in METRICS)
    for name in METRICS:
        for split, curve in (("quality", f"rank/{name}"), ("test", f"rank/test_{name}")):
            one, eight, whole = floor.curves[curve].values
            assert floor.curves[curve].steps == [1, 8, 64]
            assert one > eight > whole == pytest.approx(real.summary[f"{split}/{name}_collapsed"], rel=1e-3)
            assert floor.summary[f"{split}/{name}_sampled"] == eight


def test_references_with_a_density_have_bits(reference_rows: dict[str, Evaluation], digits: ImageData) -> None:
    gaussian, noise = (reference_rows[label].summary for label in LABELS[1:])
    zero, one = torch.zeros(64, dtype=torch.float64), torch.ones(64, dtype=torch.float64)
    for key, images in (("quality/bits_per_dim", digits.validation), ("test/bits_per_dim", digits.test)):
        assert noise[key] == pytest.approx(normal_bits(images[:128], zero, one, 17), abs=5e-3)
        # In the axes of the training pixels' covariance, to which the noise of one cell adds a multiple of I.
        pixels = digits.train.head(2000).flatten(1).double()
        values, axes = torch.linalg.eigh(torch.cov(pixels.T))
        variances = values.clamp_min(0) + (2 / 16) ** 2 / 12
        turned = (images[:128].flatten(1).double() - pixels.mean(0)) @ axes
        assert gaussian[key] == pytest.approx(normal_bits(turned, zero, variances, 17), abs=0.02)
        assert gaussian[key] < noise[key] - 1


def test_gaussian_reference_has_the_training_pixels_moments(
    reference_rows: dict[str, Evaluation], digits: ImageData
) -> None:
    """Whitened by the training pixels' mean and covariance, samples are standard normal."""
    samples = reference_rows[LABELS[1]].grids["samples"].flatten(1).double()
    pixels = digits.train.head(2000).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    along = (samples - pixels.mean(0)) @ vectors
    varied = values > 1e-6
    assert float(along[:, ~varied].abs().max()) < 1e-4  # pixels that never vary do not vary here
    white = along[:, varied] / values[varied].sqrt()
    count, dim = white.shape
    assert (count, dim) == (64, int(varied.sum()))
    assert float(white.mean(0).abs().max()) < 4.5 / math.sqrt(count)
    assert float(white.square().mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / (count * dim)))
    correlation = white.T @ white / count - torch.eye(dim, dtype=torch.float64)
    assert float(correlation.square().mean().sqrt()) < 1.3 / math.sqrt(count)
    assert float((white**4).mean()) == pytest.approx(3, abs=5 * math.sqrt(96 / (count * dim)))


def test_noise_reference_is_standard_normal(reference_rows: dict[str, Evaluation]) -> None:
    samples = reference_rows["noise"].grids["samples"]
    assert samples.shape == (64, 1, 8, 8)
    assert abs(float(samples.mean())) < 0.08
    assert float(samples.var()) == pytest.approx(1, abs=0.12)


def test_real_reference_is_the_training_split(reference_rows: dict[str, Evaluation], digits: ImageData) -> None:
    assert torch.equal(reference_rows[LABELS[0]].grids["samples"], digits.train.head(64))
