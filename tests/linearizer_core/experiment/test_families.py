"""The families' recipes: their losses, their keys, and what they measure, against closed forms and other ways to it."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from linearizer_core.experiment.configuration import (
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    SeedsConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import SAMPLE_SEED, Evaluation, Quality
from linearizer_core.experiment.families import (
    Diffusion,
    DynamicsFamily,
    Family,
    FlowMatchingBaseline,
    Idempotent,
    Inverse,
    KoopmanBaseline,
    MeanFlowBaseline,
    RegressionBaseline,
    Style,
    family_of,
)
from linearizer_core.experiment.families.diffusion import diffusion_losses, times, whiteness
from linearizer_core.experiment.families.linear import LIPSCHITZ_IMAGES, linearity, linearity_keys, lipschitz, spectrum
from linearizer_core.experiment.sample_metrics import CLASSIFIER_METRICS
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.flows import ActNorm, Chain, Flatten, Identity
from linearizer_core.flows.conditioners import parameters
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.gaussianity import gaussianity
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.metrics.quality import psnr
from linearizer_core.metrics.spectrum import effective_rank
from linearizer_core.models.base import Model
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.models.flow_matching import FlowMatching
from linearizer_core.operators import DenseOperator, DiagonalOperator, TimeDiagonal
from linearizer_core.solvers import EULER, RK4, SOLVERS

METRICS: tuple[Any, ...] = ("swd", *CLASSIFIER_METRICS)
EVALUATE = EvaluateConfig(
    steps=(1, 3, 12), solver="rk4", samples=96, held_out=64, end=0.9, quality=METRICS, temperature=1.0
)
SHARED = {f"{split}/{name}_sampled" for split in ("quality", "test") for name in METRICS}
SHARED |= {f"{split}/classifier_fd_{end}" for split in ("quality", "test") for end in ("error", "infinite")}
"""The keys that samples of every family have."""
Evaluated = tuple[TrialConfig, Any, Evaluation]

MODELS = {
    "principal": ModelConfig(
        flow=FlowConfig(frame="principal", mixing="permutation", depth=2, width=16),
        noise_flow="identity",
        operator=OperatorConfig(kind="time_diagonal", rank=5),
    ),
    "pixels": ModelConfig(
        flow=FlowConfig(frame="pixels", mixing="lu", depth=1, width=16),
        noise_flow="same",
        operator=OperatorConfig(kind="time_lowrank", rank=5),
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def seven(digits: ImageData, quality: Quality) -> Quality:
    """All metrics that need nothing from elsewhere."""
    return Quality(METRICS, digits, quality.classifier, "cpu")


def trained(config: TrialConfig, digits: ImageData, seven: Quality) -> Evaluated:
    trainer = Trainer(config, digits)
    for _ in fit(trainer):
        pass
    return config, trainer.averaged, trainer.family.evaluate(trainer.averaged, config, digits, seven)


def trial(model: ModelConfig, **fields: Any) -> TrialConfig:
    loss = LossConfig(flow=0.5, likelihood=1.0)
    train = TrainConfig(epochs=2, batch_size=64, lr=5e-3, ema=0.5, dequantise=0.05, loss=loss)
    return TrialConfig(**{"model": model, "train": train, "evaluate": EVALUATE, **fields})


@pytest.fixture(scope="module", params=MODELS)
def evaluated(request: pytest.FixtureRequest, digits: ImageData, seven: Quality) -> Evaluated:
    """A diffusion model after two epochs on the digits, and its evaluation."""
    return trained(trial(MODELS[request.param]), digits, seven)


@pytest.fixture(scope="module")
def baseline(digits: ImageData, seven: Quality) -> Evaluated:
    """A flow matching model after two epochs on the digits, and its evaluation."""
    return trained(trial(MODELS["principal"], family="flow_matching"), digits, seven)


def test_every_name_has_its_family() -> None:
    kinds: dict[str, type[Family]] = {
        "diffusion": Diffusion,
        "dynamics": DynamicsFamily,
        "flow_matching": FlowMatchingBaseline,
        "idempotent": Idempotent,
        "inverse": Inverse,
        "koopman": KoopmanBaseline,
        "mean_flow": MeanFlowBaseline,
        "regression": RegressionBaseline,
        "style": Style,
    }
    for name, kind in kinds.items():
        assert type(family_of(TrialConfig(family=name))) is kind  # type: ignore[arg-type]


def finite(values: dict[str, float]) -> bool:
    return all(isinstance(value, float) and math.isfinite(value) for value in values.values())


def test_keys_of_a_diffusion_model_are_complete(evaluated: Evaluated) -> None:
    config, _, evaluation = evaluated
    expected = {f"quality/{name}_{end}" for name in METRICS for end in ("k1", "k3", "k12", "collapsed", "auc")}
    expected |= {f"test/{name}_collapsed" for name in METRICS} | SHARED
    expected |= {f"cost/sample_ms_{way}" for way in ("k1", "k3", "k12", "collapsed")}
    expected |= {"cost/params", "cost/sample_mflop_collapsed", "quality/bits_per_dim", "test/bits_per_dim"}
    expected |= {
        f"linearity/{name}"
        for name in (
            "collapse_psnr", "additivity", "additivity_induced", "homogeneity", "homogeneity_induced", "roundtrip",
            "roundtrip_input", "penrose_1", "penrose_2", "penrose_3", "penrose_4", "inversion_psnr",
            "inversion_images", "projection_idempotency", "noise_norm_ratio", "noise_mean", "noise_deviation",
            "noise_kurtosis", "noise_ks", "noise_active_norm_ratio", "noise_active_kurtosis", "noise_active_ks",
            "lipschitz_g_x", "lipschitz_g_x_inverse", "lipschitz_g_y",
            "lipschitz_g_y_inverse",
        )
    }  # fmt: skip
    expected |= {
        f"spectrum/{name}"
        for name in (
            "effective_rank", "energy_rank", "stable_rank", "numerical_rank", "largest", "condition", "operator_rank",
        )
    }  # fmt: skip
    assert evaluation.summary.keys() == expected
    assert sorted(Diffusion().summary_keys(config)) == sorted(expected)
    assert finite(evaluation.summary)


def test_keys_of_the_baseline_are_complete(baseline: Evaluated) -> None:
    config, model, evaluation = baseline
    expected = {f"quality/{name}_{end}" for name in METRICS for end in ("k1", "k3", "k12", "auc")}
    expected |= {f"test/{name}_k12" for name in METRICS} | {f"cost/sample_ms_k{k}" for k in (1, 3, 12)} | SHARED
    assert evaluation.summary.keys() == expected | {"cost/params"}
    assert sorted(FlowMatchingBaseline().summary_keys(config)) == sorted(evaluation.summary)
    assert finite(evaluation.summary)
    assert evaluation.curves.keys() == {f"nfe/{name}" for name in METRICS}
    assert evaluation.grids.keys() == {"k1", "k12"}
    # The axes of its frame, which no optimiser moves, are among them: five of 64 values, their mean and their scale.
    assert evaluation.summary["cost/params"] == parameters(model) + 5 * 64 + 64 + 1


def test_evaluation_during_training_is_the_final_one(
    evaluated: Evaluated, baseline: Evaluated, digits: ImageData, seven: Quality
) -> None:
    for (config, model, evaluation), end in ((evaluated, "collapsed"), (baseline, "k12")):
        family = family_of(config)
        found = family.interim(model, config, digits, seven)
        keys = [f"quality/{name}_{how}" for how in (end, "sampled") for name in METRICS]
        assert list(found) == family.interim_keys(config) == keys
        assert found == {key: evaluation.summary[key] for key in found}


def test_the_baseline_is_sampled_by_its_most_steps(baseline: Evaluated, seven: Quality) -> None:
    config, model, evaluation = baseline
    assert isinstance(model, FlowMatching)
    samples = FlowMatchingBaseline().sample(model, 96, config, seeded(SAMPLE_SEED))
    noise = model.noise(96, seeded(SAMPLE_SEED))
    assert torch.equal(samples, model.sample_stepping(noise, 12, RK4))
    assert torch.equal(samples[:64], evaluation.grids["k12"])
    for name, value in seven(samples, "test").items():
        assert evaluation.summary[f"test/{name}_k12"] == value


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("diffusion", "time_lowrank"),
        ("diffusion", "affine"),
        ("flow_matching", "time_lowrank"),
        ("idempotent", "projection"),
    ],
)
def test_other_noise_to_sample_from_is_asked_for_by_its_seed(family: str, kind: str, digits: ImageData) -> None:
    """Of one model: the scores of samples from that noise, which are other ones, and the same each time."""
    flow = FlowConfig(frame="pixels", mixing="lu", depth=1, width=8)
    config = TrialConfig(
        family=family,  # type: ignore[arg-type]
        model=ModelConfig(flow=flow, operator=OperatorConfig(kind=kind, rank=4)),  # type: ignore[arg-type]
        evaluate=dataclasses.replace(EVALUATE, quality=("swd",)),
    )
    trainer, swd = Trainer(config, digits), Quality(("swd",), digits, None, "cpu")
    trainer.train_epoch()
    found = {}
    for seed in (0, 1):
        asked = dataclasses.replace(config, seeds=SeedsConfig(sampling=seed))
        found[seed] = trainer.family.interim(trainer.averaged, asked, digits, swd)
        assert trainer.family.interim(trainer.averaged, asked, digits, swd) == found[seed]
        samples = trainer.family.sample(trainer.averaged, 96, asked, seeded(SAMPLE_SEED + seed))
        assert found[seed]["quality/swd_sampled"] == pytest.approx(swd(samples)["swd"], rel=1e-5)
    assert found[0] != found[1]


def test_curves_hold_the_summarys_values(evaluated: Evaluated) -> None:
    evaluation = evaluated[2]
    assert evaluation.curves.keys() == {f"nfe/{name}" for name in (*METRICS, "collapse_psnr", "finest_psnr")}
    for name in METRICS:
        curve = evaluation.curves[f"nfe/{name}"]
        assert curve.values == [evaluation.summary[f"quality/{name}_k{k}"] for k in curve.steps]
        assert evaluation.summary[f"quality/{name}_auc"] == pytest.approx(curve.area())


def test_steps_and_their_own_collapse_agree_in_float32(evaluated: Evaluated) -> None:
    curve = evaluated[2].curves["nfe/collapse_psnr"]
    assert curve.steps == [1, 3, 12]
    assert all(100 <= value <= 200 for value in curve.values)
    assert curve.values[-1] == evaluated[2].summary["linearity/collapse_psnr"]


def test_the_finest_steps_are_nearest_to_the_finest(evaluated: Evaluated) -> None:
    curve = evaluated[2].curves["nfe/finest_psnr"]
    assert curve.steps == [1, 3, 12]
    assert max(curve.values[:2]) < curve.values[2] - 20
    assert curve.values[2] == evaluated[2].summary["linearity/collapse_psnr"]


def test_the_finest_stepping_is_as_good_as_the_collapsed_sampler(evaluated: Evaluated) -> None:
    summary = evaluated[2].summary
    for name in ("swd", "classifier_fd"):
        collapsed = summary[f"quality/{name}_collapsed"]
        assert summary[f"quality/{name}_k12"] == pytest.approx(collapsed, rel=1e-3)
        assert summary[f"quality/{name}_k1"] != pytest.approx(collapsed, rel=1e-2)


def collapsed(config: TrialConfig, model: LinearDiffusion) -> Linearizer:
    """The generator, made anew."""
    return model.generator(model.collapse(12, RK4))


def test_grids(evaluated: Evaluated, digits: ImageData) -> None:
    _, model, evaluation = evaluated
    grids, images = evaluation.grids, digits.validation[:64]
    shapes = {name: tuple(grid.shape) for name, grid in grids.items()}
    counts = {"k1": 64, "k12": 64, "collapsed": 64, "reconstruction": 64, "interpolation": 64, "singular_vectors": 16}
    assert shapes == {name: (count, 1, 8, 8) for name, count in counts.items()}
    torch.testing.assert_close(grids["collapsed"], grids["k12"], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(grids["k1"], grids["k12"], atol=1e-2)
    rows = grids["interpolation"].view(8, 8, 1, 8, 8)  # from the first images to those that follow
    torch.testing.assert_close(rows[:, 0], images[:8], rtol=0, atol=1e-3)
    torch.testing.assert_close(rows[:, 7], images[8:16], rtol=0, atol=1e-3)
    with torch.no_grad():
        latents = [model.g_x(x)[0] for x in (images[:8], rows[:, 2], images[8:16])]
    torch.testing.assert_close(latents[1], torch.lerp(latents[0], latents[2], 2 / 7), rtol=0, atol=1e-3)


def test_inversion_grid_has_images_beside_what_comes_back(evaluated: Evaluated, digits: ImageData) -> None:
    config, model, evaluation = evaluated
    pairs = evaluation.grids["reconstruction"]
    assert torch.equal(pairs[::2], digits.validation[:32])
    again = model.reconstruct(digits.validation[:64], collapsed(config, model).operator)
    torch.testing.assert_close(pairs[1::2], again[:32], rtol=0, atol=1e-5)
    found = evaluation.summary["linearity/inversion_psnr"]
    assert found == pytest.approx(min(200.0, psnr(again, digits.validation[:64])), abs=3)
    assert found > 60
    assert evaluation.summary["linearity/inversion_images"] == 64


def test_recovered_noise_is_described(evaluated: Evaluated, digits: ImageData) -> None:
    config, model, evaluation = evaluated
    noise = model.invert(digits.validation[:64], collapsed(config, model).operator).noise
    expected = dataclasses.asdict(gaussianity(noise))
    for name in ("norm_ratio", "mean", "deviation", "kurtosis", "ks"):
        assert evaluation.summary[f"linearity/noise_{name}"] == pytest.approx(expected[name], rel=1e-3)


def test_linearity_of_a_float32_model(evaluated: Evaluated) -> None:
    summary = evaluated[2].summary
    for name in (*linearity_keys(), "linearity/projection_idempotency"):
        assert 0 <= summary[name] < 1e-2


def test_singular_vectors_are_orthonormal_and_lead(evaluated: Evaluated) -> None:
    config, model, evaluation = evaluated
    u, s, _ = torch.linalg.svd(collapsed(config, model).operator.to_dense().double())
    with torch.no_grad():
        latents = model.g_x(evaluation.grids["singular_vectors"])[0].double()
    torch.testing.assert_close(latents @ latents.T, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-3)
    assert abs(float(latents[0] @ u[:, 0])) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(evaluation.spectra["collapsed"].double(), s, rtol=1e-3, atol=1e-5)


def test_spectra_of_the_operator_along_the_way(evaluated: Evaluated) -> None:
    _, model, evaluation = evaluated
    times = torch.linspace(0, model.end, 5)
    assert list(evaluation.spectra) == ["collapsed", *(f"A(t={time:.3g})" for time in times.tolist())]
    for time in times:
        singular = torch.linalg.svdvals(model.operator.at(time.view(1, 1))[0][0].to_dense().double())
        found = evaluation.spectra[f"A(t={time:.3g})"].double()
        torch.testing.assert_close(found, singular, rtol=1e-3, atol=1e-5)


def test_spectrum_by_dense_svd(evaluated: Evaluated) -> None:
    _, model, evaluation = evaluated
    whole = copy.deepcopy(model).double().collapse(12, RK4).to_dense().detach()
    summary = evaluation.summary
    singular = torch.linalg.svdvals(whole)
    assert summary["spectrum/condition"] == pytest.approx(float(singular[0] / singular[-1]), rel=1e-2)
    # Where A is silent B is 1 - end times the identity, which all else leaves out.
    values = torch.linalg.svdvals(whole - (1 - model.end) * torch.eye(64, dtype=torch.float64))
    energy = values.square().cumsum(0) / values.square().sum()
    assert summary["spectrum/largest"] == pytest.approx(float(values[0]), rel=1e-4)
    assert summary["spectrum/effective_rank"] == pytest.approx(effective_rank(values), rel=1e-3)
    assert summary["spectrum/energy_rank"] == int((energy < 0.99).sum()) + 1
    squares = float(values.square().sum() / values[0].square())
    assert summary["spectrum/stable_rank"] == pytest.approx(squares, rel=1e-3)
    assert summary["spectrum/numerical_rank"] == 5
    assert summary["spectrum/operator_rank"] == 5


def test_parameters_by_hand(diffusion: Callable[..., LinearDiffusion], digits: ImageData, quality: Quality) -> None:
    model = diffusion(flow="identity", dtype=torch.float32, event=(1, 8, 8), rank=5)
    evaluate = dataclasses.replace(EVALUATE, steps=(2,), samples=16, held_out=16, quality=quality.metrics)
    evaluation = Diffusion().evaluate(model, TrialConfig(evaluate=evaluate), digits, quality)
    # U, V; the variances; the time network, 16 → 64 → 25
    assert evaluation.summary["cost/params"] == 2 * 64 * 5 + 5 + (16 * 64 + 64) + (64 * 25 + 25)
    assert {"k2", "collapsed"} <= evaluation.grids.keys()
    # x Vᵀ C Uᵀ: 5·64 products there and back, 25 between, an addition with each
    assert evaluation.summary["cost/sample_mflop_collapsed"] == pytest.approx(2 * (2 * 64 * 5 + 25) / 1e6)
    for name in quality.metrics:
        assert evaluation.summary[f"quality/{name}_auc"] == evaluation.summary[f"quality/{name}_k2"]


END = 0.9
VARIANCES = torch.logspace(-1.5, 0.8, 64, dtype=torch.float64)


def gaussian_model() -> LinearDiffusion:
    """The optimal model of pixels N(0, diag(VARIANCES)) with g = identity: of full rank."""
    flows = [Chain([Flatten((1, 8, 8)), Identity()]) for _ in range(2)]
    operator = TimeDiagonal(64, 64)
    model = LinearDiffusion(flows[0], flows[1], operator, (1, 8, 8), END).double()
    with torch.no_grad():
        operator.log_variance.copy_(VARIANCES.log())
    return model


GROWTH = ((1 - END) ** 2 + END**2 * VARIANCES).sqrt()
"""What the exact flow multiplies noise by until END."""


@pytest.fixture(scope="module")
def exact(digits: ImageData) -> tuple[Evaluation, ImageData]:
    """The evaluation of the optimal model on images that are its own, and these."""
    images = [(GROWTH * normal(count, 64, seed=count)).view(-1, 1, 8, 8) for count in (1000, 500)]
    data = dataclasses.replace(digits, validation=images[0], test=images[1])
    evaluate = dataclasses.replace(EVALUATE, steps=(4, 80), quality=("swd",), held_out=1000, samples=500)
    quality = Quality(("swd",), data, None, "cpu")
    return Diffusion().evaluate(gaussian_model(), TrialConfig(evaluate=evaluate), data, quality), data


def test_bits_of_a_gaussian_model_in_closed_form(exact: tuple[Evaluation, ImageData]) -> None:
    """E -log₂ N(x + wu; 0, D²) a dimension, with E (x + wu)² = x² + w²/12 over a cell of width w."""
    evaluation, data = exact
    width = 2 / (data.levels - 1)
    for key, images in (("quality/bits_per_dim", data.validation), ("test/bits_per_dim", data.test)):
        squares = images.flatten(1).square() + width**2 / 12
        nats = 0.5 * (squares / GROWTH.square() + (2 * math.pi * GROWTH.square()).log())
        expected = (float(nats.mean()) - math.log(width)) / math.log(2)
        assert evaluation.summary[key] == pytest.approx(expected, abs=5e-3)


def test_noise_of_a_perfectly_gaussian_model_is_gaussian(exact: tuple[Evaluation, ImageData]) -> None:
    """To what 1,000 samples of N(0, I) in 64 dimensions have, with four standard errors of each."""
    summary, n, dim = exact[0].summary, 1000, 64
    assert summary["linearity/noise_norm_ratio"] == pytest.approx(1 - 1 / (4 * dim), abs=4 / math.sqrt(2 * n * dim))
    assert summary["linearity/noise_mean"] == pytest.approx(math.sqrt(2 / (math.pi * n)), rel=4 * 0.76 / math.sqrt(dim))
    deviation = math.sqrt(1 / (math.pi * n))
    assert summary["linearity/noise_deviation"] == pytest.approx(deviation, rel=4 * 0.76 / math.sqrt(dim))
    assert abs(summary["linearity/noise_kurtosis"]) < 4 * math.sqrt(24 / (n * dim))
    assert summary["linearity/noise_ks"] < 1.95 / math.sqrt(n * dim)  # exceeded once in 1,000 times
    assert summary["linearity/inversion_psnr"] == 200


def test_algebra_of_a_gaussian_model_is_exact(exact: tuple[Evaluation, ImageData]) -> None:
    summary = exact[0].summary
    for name in linearity_keys():
        assert 0 <= summary[name] < 1e-12
    for name in ("g_x", "g_x_inverse", "g_y", "g_y_inverse"):
        assert summary[f"linearity/lipschitz_{name}"] == pytest.approx(1, abs=1e-9)
    assert summary["linearity/collapse_psnr"] == 200
    assert summary["spectrum/condition"] == pytest.approx(float(GROWTH[-1] / GROWTH[0]), rel=1e-5)
    assert summary["spectrum/operator_rank"] == 64


@pytest.mark.parametrize("temperature", [0.5, 1.3])
def test_temperature_scales_a_linear_sampler(temperature: float) -> None:
    model = gaussian_model()
    config = TrialConfig(evaluate=dataclasses.replace(EVALUATE, temperature=temperature))
    samples = Diffusion().sample(model, 50, config, seeded(1))
    plain = Diffusion().sample(model, 50, TrialConfig(evaluate=EVALUATE), seeded(1))
    torch.testing.assert_close(samples, temperature * plain)
    x0 = model.noise(50, seeded(1))
    torch.testing.assert_close(model.sample_stepping(x0, 12, RK4, temperature=temperature), samples)


@pytest.mark.parametrize("solver", SOLVERS)
def test_temperature_scales_collapse_and_stepping_equally(
    diffusion: Callable[..., LinearDiffusion], solver: str
) -> None:
    """τ ⊙ x0 in the induced space of noise, not in its pixels."""
    model = diffusion()
    evaluate = dataclasses.replace(EVALUATE, temperature=0.6, solver=solver)  # type: ignore[arg-type]
    found = Diffusion().sample(model, 20, TrialConfig(evaluate=evaluate), seeded(1))
    x0 = model.noise(20, seeded(1))
    cooled = model.generator(model.collapse(1, EULER)).domain.scale(0.6, x0).detach()
    for expected in (
        model.sample_stepping(x0, 12, SOLVERS[solver], temperature=0.6),
        model.sample_stepping(cooled, 12, SOLVERS[solver]),
    ):
        assert relative_error(found, expected) < 1e-9
    assert relative_error(found, model.sample_stepping(x0, 12, SOLVERS[solver])) > 0.05
    assert relative_error(found, model.sample_stepping(0.6 * x0, 12, SOLVERS[solver])) > 1e-3


def test_an_evaluation_is_at_its_temperature_and_finer_with_more_steps(digits: ImageData) -> None:
    config = TrialConfig(
        model=MODELS["principal"],
        evaluate=EvaluateConfig(steps=(1, 4, 16, 64), temperature=0.3, samples=32, held_out=16, quality=("swd",)),
    )
    model = Diffusion().build(config, digits.event)
    Diffusion().initialise(model, digits.train.head(500), seeded())
    evaluation = Diffusion().evaluate(model, config, digits, Quality(("swd",), digits, None, "cpu"))
    assert all(value >= 100 for value in evaluation.curves["nfe/collapse_psnr"].values)
    noise = model.noise(32, seeded(SAMPLE_SEED))
    expected = model.sample_stepping(noise, 64, EULER, temperature=0.3)
    torch.testing.assert_close(evaluation.grids["collapsed"], expected, rtol=0, atol=1e-4)
    finest = evaluation.curves["nfe/finest_psnr"].values
    assert all(later > earlier + 3 for earlier, later in pairwise(finest))
    assert finest[-1] == evaluation.summary["linearity/collapse_psnr"]


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),  # 0 + 0 - 2 + 2
        ([[1.0, 0.0], [1.0, 0.0]], 1.0),  # (1 + 1 - 2 + 2) / 2
        ([[1.0, 2.0], [3.0, 1.0]], 8.5),  # (5 + 25 - (5 + 10) + 2) / 2
        ([[1.0], [1.0], [-2.0]], -1.0),  # pairs 1, -2, -2 and squared 1, 4, 4; squared norms 2: -1 + 3 - 2·2 + 1
    ],
)
def test_whiteness_by_hand(rows: list[list[float]], value: float) -> None:
    assert float(whiteness(torch.tensor(rows, dtype=torch.float64))) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.3), (1.5, -0.2)])
def test_whiteness_is_unbiased(scale: float, shift: float) -> None:
    """E = (‖m‖² + ‖C - I‖²) / dim, C = σ²I + mmᵀ: over dim dimensions of mean s and deviation σ."""
    dim, batches = 6, 1500
    found = torch.stack([whiteness(scale * normal(20, dim, seed=i) + shift) for i in range(batches)])
    moment = (scale**2 - 1) * torch.eye(dim, dtype=torch.float64) + shift**2
    expected = (dim * shift**2 + float(moment.square().sum())) / dim
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / math.sqrt(batches))
    if (scale, shift) == (1.0, 0.0):
        assert expected == 0


def test_times_have_their_distributions() -> None:
    like = torch.zeros(5000, dtype=torch.float64)
    uniform, middle = (times(kind, Draws(seeded(3)), like).numpy() for kind in ("uniform", "logit_normal"))
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    assert stats.kstest(np.log(middle / (1 - middle)), "norm").pvalue > 0.01
    assert stats.kstest(middle, "uniform").pvalue < 1e-9
    assert times("logit_normal", Draws(seeded()), torch.zeros(3)).dtype == torch.float32


@pytest.mark.parametrize("kind", ["uniform", "logit_normal"])
def test_the_loss_is_at_the_configured_times(kind: str) -> None:
    """As the operator is given them; the logit of a uniform time is logistic."""
    seen: list[Tensor] = []
    model = gaussian_model()
    model.operator.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    train = TrainConfig(time=kind, loss=LossConfig(flow=1.0, likelihood=0.0))  # type: ignore[arg-type]
    diffusion_losses(model, normal(4000, 1, 8, 8), train, Draws(seeded()))
    logits = torch.logit(seen[0]).numpy()
    assert stats.kstest(logits, "norm" if kind == "logit_normal" else "logistic").pvalue > 0.01


def test_a_family_gives_the_terms_of_its_losses(digits: ImageData) -> None:
    config = trial(MODELS["principal"])
    model = Diffusion().build(config, digits.event)
    images = digits.train.head(64)
    found = Diffusion().losses(model, images, config, Draws(seeded(2)))
    expected = diffusion_losses(model, images, config.train, Draws(seeded(2)))
    assert found.keys() == expected.keys() == {"flow", "likelihood"}
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_model_in_the_principal_frame_starts_as_the_gaussian_of_the_images(digits: ImageData) -> None:
    """Latents are white, and along the leading ones the operator has their variance of one: samples then match."""
    core = OperatorConfig(kind="time_diagonal", rank=64)
    config = TrialConfig(
        model=dataclasses.replace(MODELS["principal"], operator=core),
        evaluate=EvaluateConfig(solver="rk4", end=0.99, temperature=1.0),
    )
    model = Diffusion().build(config, digits.event)
    images = digits.train.head(2000) + 0.05 * torch.randn(1079, 1, 8, 8, generator=seeded())
    Diffusion().initialise(model, images, seeded())
    with torch.no_grad():
        latents = model.g_x(images)[0]
    torch.testing.assert_close(latents.mean(0), torch.zeros(64), rtol=0, atol=1e-3)
    torch.testing.assert_close(latents.T @ latents / 1079, torch.eye(64), rtol=0, atol=5e-3)
    samples = Diffusion().sample(model, 20_000, config, seeded(1)).flatten(1).double()
    pixels = images.flatten(1).double()
    torch.testing.assert_close(samples.mean(0), pixels.mean(0), rtol=0, atol=0.03)
    assert relative_error(torch.cov(samples.T), 0.99**2 * torch.cov(pixels.T)) < 0.05


def test_lipschitz_constants_of_a_scaling() -> None:
    norm = ActNorm(16)
    with torch.no_grad():
        norm.log_scale.copy_(torch.linspace(-0.7, 1.2, 16))
    g = Chain([Flatten((1, 4, 4)), norm], "recompute").double()
    points: Any = normal(LIPSCHITZ_IMAGES + 5, 1, 4, 4)
    found = lipschitz({"g": (g, points)})
    assert found.keys() == {"linearity/lipschitz_g", "linearity/lipschitz_g_inverse"}
    assert found["linearity/lipschitz_g"] == pytest.approx(math.exp(1.2), rel=1e-3)
    assert found["linearity/lipschitz_g_inverse"] == pytest.approx(math.exp(0.7), rel=1e-3)
    assert g.memory == "recompute"


def test_shared_measures_of_linearity(diffusion: Callable[..., LinearDiffusion]) -> None:
    model = diffusion()
    f = Linearizer(model.g_y, DenseOperator(normal(16, 7) @ normal(7, 16, seed=1)), model.g_x)
    found = linearity(f, normal(21, 1, 4, 4), normal(30, 1, 4, 4, seed=1))
    assert list(found) == linearity_keys()
    assert all(0 <= value < 1e-9 for value in found.values())


def test_shared_measures_of_a_spectrum() -> None:
    found = spectrum(DiagonalOperator(torch.tensor([2.0, -4.0, 0.0, 1.0], dtype=torch.float64)))
    assert found["spectrum/largest"] == 4
    assert found["spectrum/numerical_rank"] == 3
    assert found["spectrum/stable_rank"] == pytest.approx(21 / 16)
    assert found["spectrum/energy_rank"] == 3  # 16 and 20 of 21 are less than 99 %
    shares = np.array([4, 2, 1]) / 7
    assert found["spectrum/effective_rank"] == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())))
    assert found["spectrum/condition"] > 1e12


def test_models_know_where_they_are() -> None:
    model = Model()
    model.layer = nn.Linear(2, 2, dtype=torch.float64)
    model.event = (1, 2, 3)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float64)
    noise = model.noise(4000, seeded())
    assert noise.shape == (4000, 1, 2, 3)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
