"""Evaluation: complete keys, values against direct computation, and the references' order and moments."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from linearizer_core.config import (
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.data import ImageData
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.evaluation import (
    Curve,
    Evaluation,
    Quality,
    evaluate,
    evaluate_collapsed,
    interim_keys,
    references,
    summary_keys,
)
from linearizer_core.metrics.features import Classifier
from linearizer_core.metrics.spectrum import effective_rank
from linearizer_core.solvers import RK4
from linearizer_core.training import Trainer, fit

CONFIG = EvaluateConfig(steps=(1, 3, 12), solver="rk4", samples=100, end=0.9)
METRICS = ["swd", "classifier_fd"]
Evaluated = tuple[LinearDiffusion, Evaluation]


@pytest.fixture(scope="module")
def evaluated(digits: ImageData, quality: Quality) -> Evaluated:
    """A model after a few epochs on the digits, and its evaluation."""
    config = TrialConfig(
        model=ModelConfig(flow=FlowConfig(depth=2, width=16), operator=OperatorConfig(rank=5)),
        train=TrainConfig(epochs=4, batch_size=64, lr=5e-3, ema=0.5),
        evaluate=CONFIG,
    )
    trainer = Trainer(config, digits)
    for _ in fit(trainer):
        pass
    return trainer.averaged, evaluate(trainer.averaged, CONFIG, digits, quality)


def test_keys_are_complete(evaluated: Evaluated) -> None:
    _, evaluation = evaluated
    expected = {f"quality/{name}_{end}" for name in METRICS for end in ("k1", "k3", "k12", "collapsed", "auc")}
    expected |= {f"test/{name}_collapsed" for name in METRICS}
    expected |= {f"cost/sample_ms_{way}" for way in ("k1", "k3", "k12", "collapsed")} | {"cost/params"}
    expected |= {
        f"linearity/{name}"
        for name in (
            "collapse_psnr", "additivity", "homogeneity", "roundtrip", "roundtrip_noise", "inversion_psnr",
        )
    }  # fmt: skip
    expected |= {f"spectrum/{name}" for name in ("effective_rank", "energy_rank", "largest", "condition")}
    assert evaluation.summary.keys() == expected
    assert sorted(summary_keys(CONFIG)) == sorted(expected)
    assert all(isinstance(value, float) for value in evaluation.summary.values())
    assert all(math.isfinite(value) for value in evaluation.summary.values())


def test_curves_hold_the_summarys_values(evaluated: Evaluated) -> None:
    _, evaluation = evaluated
    assert evaluation.curves.keys() == {f"nfe/{name}" for name in METRICS}
    for name in METRICS:
        curve = evaluation.curves[f"nfe/{name}"]
        assert curve.steps == [1, 3, 12]
        assert curve.values == [evaluation.summary[f"quality/{name}_k{k}"] for k in curve.steps]
        a, b, c = curve.values
        by_hand = ((a + b) / 2 * math.log(3) + (b + c) / 2 * math.log(4)) / math.log(12)
        assert evaluation.summary[f"quality/{name}_auc"] == pytest.approx(by_hand)


def test_grids(evaluated: Evaluated) -> None:
    _, evaluation = evaluated
    assert evaluation.grids.keys() == {"k1", "k12", "collapsed"}
    assert all(grid.shape == (64, 1, 8, 8) for grid in evaluation.grids.values())
    torch.testing.assert_close(evaluation.grids["collapsed"], evaluation.grids["k12"], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(evaluation.grids["k1"], evaluation.grids["k12"], atol=1e-2)


@pytest.mark.parametrize("name", METRICS)
def test_the_finest_stepping_is_as_good_as_the_collapsed_sampler(name: str, evaluated: Evaluated) -> None:
    _, evaluation = evaluated
    collapsed = evaluation.summary[f"quality/{name}_collapsed"]
    assert evaluation.summary[f"quality/{name}_k12"] == pytest.approx(collapsed, rel=1e-3)
    assert evaluation.summary[f"quality/{name}_k1"] != pytest.approx(collapsed, rel=1e-2)


def test_evaluation_during_training_is_the_final_one(evaluated: Evaluated, quality: Quality) -> None:
    model, evaluation = evaluated
    found = evaluate_collapsed(model, CONFIG, quality)
    assert list(found) == interim_keys(CONFIG) == [f"quality/{name}_collapsed" for name in METRICS]
    for key, value in found.items():
        assert value == evaluation.summary[key]


def test_linearity_of_a_float32_model(evaluated: Evaluated) -> None:
    summary = evaluated[1].summary
    assert 80 < summary["linearity/collapse_psnr"] <= 200
    for name in ("additivity", "homogeneity", "roundtrip", "roundtrip_noise"):
        assert 0 <= summary[f"linearity/{name}"] < 1e-3


def test_spectrum_by_dense_svd(evaluated: Evaluated) -> None:
    model, evaluation = evaluated
    matrix = copy.deepcopy(model).double().collapse(12, RK4).to_dense().detach()
    values = torch.linalg.svdvals(matrix)
    energy = values.square().cumsum(0) / values.square().sum()
    summary = evaluation.summary
    assert summary["spectrum/largest"] == pytest.approx(float(values[0]), rel=1e-4)
    assert summary["spectrum/condition"] == pytest.approx(float(values[0] / values[-1]), rel=1e-2)
    assert summary["spectrum/effective_rank"] == pytest.approx(effective_rank(values), rel=1e-3)
    assert summary["spectrum/energy_rank"] == int((energy < 0.99).sum()) + 1


def test_parameters_by_hand(diffusion: Callable[..., LinearDiffusion], digits: ImageData, quality: Quality) -> None:
    model = diffusion(flow="identity", dtype=torch.float32, event=(1, 8, 8), rank=5)
    config = dataclasses.replace(CONFIG, steps=(2,), samples=16)
    evaluation = evaluate(model, config, digits, quality)
    # U, V; the variances; the time network, 16 → 64 → 25
    assert evaluation.summary["cost/params"] == 2 * 64 * 5 + 5 + (16 * 64 + 64) + (64 * 25 + 25)
    assert evaluation.grids.keys() == {"k2", "collapsed"}
    for name in METRICS:
        assert evaluation.summary[f"quality/{name}_auc"] == evaluation.summary[f"quality/{name}_k2"]


def test_area_is_the_mean_over_log_steps() -> None:
    steps = [1, 2, 10, 100]
    logs = [math.log(k) for k in steps]
    assert Curve(steps, [3.0] * 4).area() == pytest.approx(3)
    assert Curve(steps, logs).area() == pytest.approx(math.log(100) / 2)  # a straight line: exact, its middle
    assert Curve([1, 10, 100], [1.0, 0.0, 2.0]).area() == pytest.approx((0.5 + 1.0) / 2)
    assert Curve([7], [4.5]).area() == 4.5


def test_quality_is_of_the_clamped_images(quality: Quality, digits: ImageData) -> None:
    samples = 3 * torch.randn(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert quality(samples) == quality(samples.clamp(-1, 1))
    assert quality(samples) != quality(samples.clamp(-0.9, 0.9))


def test_quality_of_a_split_against_itself_is_zero(quality: Quality, digits: ImageData) -> None:
    for images, split, other in ((digits.validation, "quality", "test"), (digits.test, "test", "quality")):
        itself, apart = quality(images, split), quality(images, other)
        assert itself["swd"] == 0
        assert itself["classifier_fd"] == pytest.approx(0, abs=1e-3)
        assert all(apart[name] > itself[name] + 1e-2 for name in METRICS)


def test_only_the_configured_metrics_are_taken(digits: ImageData, classifier: Classifier) -> None:
    one = Quality(("swd",), digits, classifier, torch.device("cpu"))
    assert one(digits.test).keys() == {"swd"}


@pytest.fixture(scope="module")
def reference_rows(digits: ImageData, quality: Quality) -> dict[str, Evaluation]:
    return references(digits, dataclasses.replace(CONFIG, samples=400), quality)


LABELS = ["real against real", "Gaussian fitted to the training pixels", "noise"]


def test_references_come_in_their_order(reference_rows: dict[str, Evaluation]) -> None:
    assert list(reference_rows) == LABELS
    for key in [f"{kind}/{name}_collapsed" for kind in ("quality", "test") for name in METRICS]:
        real, gaussian, noise = (reference_rows[label].summary[key] for label in LABELS)
        assert real < gaussian < noise
    assert all(len(row.summary) == 4 for row in reference_rows.values())


def test_gaussian_reference_has_the_training_pixels_moments(
    reference_rows: dict[str, Evaluation], digits: ImageData
) -> None:
    """Whitened by the training pixels' mean and covariance, samples are standard normal."""
    samples = reference_rows[LABELS[1]].grids["samples"].flatten(1).double()
    pixels = digits.train.flatten(1).double()
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
    assert torch.equal(reference_rows[LABELS[0]].grids["samples"], digits.train[:64])
