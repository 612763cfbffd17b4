"""Inverse problems: restoration, posterior and back-projection as linear algebra and closed forms say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from linearizer_core.experiment.checks import problems
from linearizer_core.experiment.configuration import DataConfig, TrialConfig, from_mapping
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality
from linearizer_core.experiment.families import Inverse, RegressionBaseline
from linearizer_core.experiment.families.restoration import pairs, restoration_references
from linearizer_core.experiment.recipes import brought, expand
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.models.inverse import InverseProblem
from linearizer_core.operators import LearnedCorrelation

close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)
DEGRADED = ("blur", "inpaint", "downsample", "noise")
degraded = pytest.mark.parametrize("name", DEGRADED)


def configuration(name: str = "downsample", *, kind: str = "coupling", rank: int = 0, **loss: float) -> TrialConfig:
    values: dict[str, Any] = {
        "family": "inverse",
        "data": {"degraded": name},
        "model": {"flow": {"kind": kind, "depth": 2, "width": 16}, "operator": {"rank": rank}},
        "train": {"epochs": 10, "batch_size": 64, "lr": 5e-3, "ema": 0.9, "loss": loss},
        "evaluate": {"held_out": 128},
    }
    made: TrialConfig = from_mapping(TrialConfig, expand(values))
    return made


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def built() -> Callable[..., InverseProblem]:
    """``built(name)`` is a model of 8×8 images in float64, away from where it starts."""

    def build(name: str = "downsample", rank: int = 0) -> InverseProblem:
        made = Inverse().build(configuration(name, rank=rank), (1, 8, 8)).double().requires_grad_(False)
        for i, parameter in enumerate(made.parameters()):
            parameter += 0.05 * normal(*parameter.shape, seed=i)
        return made

    return build


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load(DataConfig())


def no_quality(data: ImageData) -> Quality:
    return Quality((), data, None, "cpu")


Trained = tuple[TrialConfig, Any, Evaluation]


def trained_on(config: TrialConfig, images: ImageData) -> Trained:
    trainer = Trainer(config, images)
    for _ in fit(trainer):
        pass
    found = trainer.family.evaluate(trainer.averaged, config, images, no_quality(images))
    return config, trainer.averaged, found


@pytest.fixture(scope="module")
def trained(images: ImageData) -> Trained:
    """A model of down-sampled digits after twelve epochs."""
    return trained_on(configuration(), images)


# The algebra, in float64


@degraded
def test_after_back_projection_the_measurement_is_exact(built: Callable[..., InverseProblem], name: str) -> None:
    """f(x ⊕ f†(y ⊖ f(x))) = y wherever A has the full rank of y, to the precision of float64."""
    model, x = built(name), normal(5, 1, 8, 8)
    y = model.measure.drawn(normal(5, 1, 8, 8, seed=1), torch.Generator().manual_seed(2))
    assert float((model(x) - y).abs().max()) > 0.1
    assert relative_error(model(model.back_project(x, y)), y) < 1e-10


def test_back_projection_is_what_the_spaces_say(built: Callable[..., InverseProblem]) -> None:
    model, x, y = built(), normal(5, 1, 8, 8), normal(5, 1, 4, 4, seed=1)
    f = model.linearizer()
    expected = f.domain.add(x, f.pinv()(f.codomain.sub(y, f(x))))
    assert relative_error(model.back_project(x, y), expected) < 1e-10


def test_below_full_rank_it_is_exact_in_the_range(built: Callable[..., InverseProblem]) -> None:
    model, x, y = built(rank=5), normal(5, 1, 8, 8), normal(5, 1, 4, 4, seed=1)
    made = model(model.back_project(x, y))
    assert relative_error(made, model.linearizer().range_projection()(y)) < 1e-10
    assert relative_error(made, y) > 0.01


@degraded
def test_restoration_and_mean_are_the_pseudo_inverse_and_the_adjoint(
    built: Callable[..., InverseProblem], name: str
) -> None:
    model = built(name)
    y = model.measure(normal(5, 1, 8, 8))
    assert relative_error(model.restore(y), model.linearizer().pinv()(y)) < 1e-10
    close(model.mean(y), model.linearizer().adjoint()(y))


def test_a_completion_is_the_restoration_and_what_f_does_not_see(built: Callable[..., InverseProblem]) -> None:
    model, x0, y = built(), normal(5, 1, 8, 8), normal(5, 1, 4, 4, seed=1)
    f = model.linearizer()
    made = model.complete(y, model.g_x(x0)[0])
    assert relative_error(made, f.domain.add(f.pinv()(y), f.null_projection()(x0))) < 1e-10
    assert relative_error(f(made), y) < 1e-10


def test_samples_have_the_mean_and_covariance_of_the_posterior(built: Callable[..., InverseProblem]) -> None:
    model, y = built(), normal(1, 1, 4, 4)
    count = 40_000
    z = model.g_x(model.sample(y.expand(count, -1, -1, -1), normal(count, 64)))[0]
    a = model.correlation.operator().to_dense()
    mean, covariance = a.T @ model.g_y(y)[0][0], torch.eye(64).double() - a.T @ a
    assert float((z.mean(0) - mean).abs().max()) < 5 / math.sqrt(count)
    assert float((z.T.cov() - covariance).abs().max()) < 8 / math.sqrt(count)


def test_the_density_of_pairs_of_affine_networks_is_a_gaussians() -> None:
    """x and y of identity networks are Gaussian: log p(x, y) is the joint normal's."""
    model = Inverse().build(configuration(kind="identity"), (1, 4, 4)).double().requires_grad_(False)
    model.correlation.v.copy_(normal(16, 4))
    a, eye = model.correlation.operator().to_dense(), torch.eye(20).double()
    eye[16:, :16], eye[:16, 16:] = a, a.T
    law = torch.distributions.MultivariateNormal(torch.zeros(20).double(), eye)
    x, y = normal(6, 1, 4, 4, seed=1), normal(6, 1, 2, 2, seed=2)
    close(model.log_likelihood(x, y), law.log_prob(torch.cat([x.flatten(1), y.flatten(1)], 1)))


# Training


def test_terms_are_what_they_say(built: Callable[..., InverseProblem]) -> None:
    model, x = built(), normal(6, 1, 8, 8)
    config = configuration(latent=1.0)
    found = Inverse().losses(model, x, config, Draws(torch.Generator().manual_seed(3)))
    y = model.measure.drawn(x, torch.Generator().manual_seed(3))
    a = model.correlation.operator()
    close(found["latent"], (model.g_y(y)[0] - a.apply(model.g_x(x)[0])).square().mean())
    close(found["likelihood"], -model.log_likelihood(x, y).mean() / 80)
    close(found["restoration"], (model.restore(y) - x).square().mean())
    alone = configuration(likelihood=0.0)
    assert set(Inverse().losses(model, x, alone, Draws(torch.Generator()))) == {"restoration"}


def test_with_identity_networks_training_finds_the_correlations_of_a_known_gaussian() -> None:
    """A quarter of a standard normal x is measured with noise σ: ρ² = 1 / (1 + σ²) along its four dimensions."""
    model = Inverse().build(configuration(kind="identity"), (1, 4, 4)).double()
    x = normal(4096, 1, 4, 4)
    y = (x[:, :, :2, :2] + 0.5 * normal(4096, 1, 2, 2, seed=1)) / math.sqrt(1.25)
    optimiser = torch.optim.LBFGS(model.correlation.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -model.log_likelihood(x, y).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    model.correlation.fit(x.flatten(1) + 0.5 * normal(4096, 16, seed=5), y.flatten(1))
    optimiser.step(closure)
    values = model.correlation.logits.sigmoid().detach()
    assert float((values - 0.8).abs().max()) < 0.02
    assert float(model.correlation.information().detach()) == pytest.approx(-2 * math.log(0.2), rel=0.05)


def test_restoration_beats_the_degraded_images_and_ridge_regression(trained: Trained, images: ImageData) -> None:
    config, _, found = trained
    rows = restoration_references(config, images)
    best = max(row.summary["test/psnr_collapsed"] for row in rows.values())
    assert set(rows) == {"degraded images", "ridge regression"}
    assert found.summary["test/psnr_collapsed"] > best
    # What is measured of a restored image is what was measured, and controls are worse.
    assert found.summary["test/psnr_remeasured"] > found.summary["test/psnr_collapsed"] + 5
    assert found.summary["controls/random"] > 1.5
    assert found.summary["controls/swapped"] > 1.5
    assert found.summary["linearity/back_projection"] < 1e-3


def test_the_ridge_is_no_worse_than_least_squares(images: ImageData) -> None:
    config = configuration()
    rows = restoration_references(config, images)
    held_out = pairs(config, images)
    x = images.train.head(20_000)
    y = Inverse().build(config, images.event).measure.drawn(x, torch.Generator().manual_seed(100))
    ones = torch.ones(len(x), 1)
    solution = torch.linalg.lstsq(torch.cat([y.flatten(1), ones], 1), x.flatten(1)).solution
    truth, measured = held_out["test"]
    made = torch.cat([measured.flatten(1), torch.ones(len(measured), 1)], 1) @ solution
    error = float((made.clamp(-1, 1) - truth.flatten(1)).square().mean())
    assert rows["ridge regression"].summary["test/psnr_collapsed"] == pytest.approx(10 * math.log10(4 / error), abs=0.1)


def test_what_is_recorded_is_what_the_keys_say(trained: Trained, images: ImageData) -> None:
    config, model, found = trained
    assert sorted(found.summary) == sorted(Inverse().summary_keys(config))
    assert all(math.isfinite(value) for value in found.summary.values())
    interim = Inverse().interim(model, config, images, no_quality(images))
    assert list(interim) == Inverse().interim_keys(config)
    assert interim["quality/psnr_collapsed"] == pytest.approx(found.summary["quality/psnr_collapsed"], abs=1e-6)
    drawn = Inverse().sample(model, 5, config, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, 1, 8, 8)


# The network of equal size


def test_the_network_has_the_size_of_the_linearizer_and_restores(images: ImageData) -> None:
    config = dataclasses.replace(configuration(), family="regression")
    _, model, found = trained_on(config, images)
    size = fitted_values(Inverse().build(config, images.event))
    assert abs(fitted_values(model) / size - 1) < 0.05
    assert sorted(found.summary) == sorted(RegressionBaseline().summary_keys(config))
    degraded_images = restoration_references(config, images)["degraded images"].summary
    assert found.summary["test/psnr_collapsed"] > degraded_images["test/psnr_collapsed"] + 1


def test_as_a_control_it_keeps_the_configuration_of_the_base() -> None:
    base = {"family": "inverse", "recipe": "default", "data": {"name": "digits"}}
    assert brought(base, "regression", "default") == {"family": "regression", "train": {"dequantise": 0.0}}


# What is refused


@pytest.mark.parametrize(
    ("data", "operator", "event", "key", "said"),
    [
        ("downsample", {"rank": 17}, (1, 8, 8), "model.operator.rank", "(downsample) have 16 values; use 1 … 16, or 0"),
        ("downsample", {}, (1, 9, 9), "data.degraded", "downsample needs even image sides, got 9×9"),
        ("blur", {"kind": "dense"}, (1, 8, 8), "model.operator.kind", "inverse has no operator dense; use correlation"),
    ],
)
def test_what_is_refused(data: str, operator: dict[str, Any], event: tuple[int, int, int], key: str, said: str) -> None:
    values = {"family": "inverse", "data": {"degraded": data}, "model": {"operator": operator}}
    config = from_mapping(TrialConfig, expand(values))
    assert said in problems(config, event, 1000, 10)[key]


def test_a_convolution_needs_even_sides_of_degraded_images_too() -> None:
    values = {"family": "inverse", "data": {"degraded": "inpaint"}, "model": {"flow": {"conditioner": "conv"}}}
    config = from_mapping(TrialConfig, expand(values))
    said = problems(config, (1, 6, 6), 1000, 10)
    assert said["model.flow.conditioner"].startswith("for degraded images: conv needs even image sides")


def test_the_correlation_is_what_the_family_asks_for() -> None:
    assert isinstance(Inverse().build(configuration(), (1, 8, 8)).correlation, LearnedCorrelation)
