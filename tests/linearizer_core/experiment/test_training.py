"""Training: losses in closed form, determinism, going on from a saved state, and divergence."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    SeedsConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.effects import TERMS
from linearizer_core.experiment.families.diffusion import diffusion_losses
from linearizer_core.experiment.losses import total_loss
from linearizer_core.experiment.training import Trainer, TrainingDiverged, fit
from linearizer_core.flows import ActNorm, Chain, Flatten, Identity, Labelled, P4Mixing
from linearizer_core.flows.conditioners import parameters
from linearizer_core.metrics.features import checksum
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.operators import TimeDense, TimeLowRank, TimeOperator

DIM = 16
PAPER = LossConfig(flow=1.0, noise=1.0, data=1.0, endpoint=1.0, likelihood=0.0)
ALL = LossConfig(flow=1.0, noise=1.0, data=1.0, endpoint=1.0, likelihood=1.0, whitening=1.0)
FLOW = LossConfig(flow=1.0, likelihood=0.0)


def trial(
    *,
    epochs: int = 4,
    seed: int = 0,
    flow: dict[str, Any] | None = None,
    noise_flow: str = "same",
    kind: str = "time_lowrank",
    **train: Any,
) -> TrialConfig:
    return TrialConfig(
        model=ModelConfig(
            noise_flow=noise_flow,  # type: ignore[arg-type]
            flow=FlowConfig(**{"frame": "pixels", "mixing": "lu", "depth": 2, "width": 16, **(flow or {})}),
            operator=OperatorConfig(kind=kind, rank=4),  # type: ignore[arg-type]
        ),
        train=TrainConfig(
            **{"epochs": epochs, "batch_size": 256, "lr": 3e-3, "dequantise": 0.0, "loss": PAPER, **train}
        ),
        evaluate=EvaluateConfig(steps=(1, 4), samples=64),
        seed=seed,
    )


def linear_model(operator: TimeOperator, log_scale: float | None = None) -> LinearDiffusion:
    """A model with g = identity, or g(x) = exp(log_scale) x."""
    flows = []
    for _ in range(2):
        norm = ActNorm(DIM)
        nn.init.constant_(norm.log_scale, log_scale or 0.0)
        flows.append(Chain([Flatten((1, 4, 4)), Identity() if log_scale is None else norm]))
    return LinearDiffusion(flows[0], flows[1], operator, (1, 4, 4), 0.99)


def silent() -> TimeDense:
    """A(t) = 0."""
    operator = TimeDense(DIM)
    nn.init.constant_(operator.log_variance, -200.0)
    return operator


def losses(model: LinearDiffusion, images: Tensor, **config: Any) -> dict[str, float]:
    train = TrainConfig(**{"loss": ALL, **config})
    terms = diffusion_losses(model, images, train, Draws(torch.Generator().manual_seed(0)))
    return {name: float(value.detach()) for name, value in terms.items()}


@pytest.fixture(scope="module")
def images() -> Tensor:
    """White images: their second moment is the identity, up to a sampling error of 0.3 %."""
    return torch.randn(8000, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_losses_of_a_silent_operator(images: Tensor) -> None:
    """With A = 0 and g = identity: ‖z1‖² twice, and σ² for each of the two reconstructions."""
    found = losses(linear_model(silent()), 2 * images, sigma=0.3)
    energy = float((2 * images).square().mean())
    assert found["flow"] == pytest.approx(energy, rel=1e-5)
    assert found["endpoint"] == pytest.approx(energy, rel=1e-5)
    assert found["noise"] == pytest.approx(0.09, rel=0.02)
    assert found["data"] == pytest.approx(0.09, rel=0.02)


def test_losses_of_the_optimal_predictor(images: Tensor) -> None:
    """For white ends the least error is ∫ (1-t)² / ((1-t)² + t²) dt = ½, as t ↦ 1 - t shows."""
    operator = TimeLowRank(DIM, DIM)
    operator.initialise(images.flatten(1))
    found = losses(linear_model(operator), images, sigma=0.0)
    assert found["flow"] == pytest.approx(0.5, rel=0.03)
    assert found["endpoint"] == pytest.approx(found["flow"], rel=1e-5)
    assert found["noise"] == found["data"] == 0


def test_losses_under_a_scaling(images: Tensor) -> None:
    """g(x) = e^c x: latents e^2c as large, latent noise σ decoded to σ e^-c, log-determinant c each."""
    c = 0.7
    found = losses(linear_model(silent(), log_scale=c), images, sigma=0.3)
    assert found["flow"] == pytest.approx(math.exp(2 * c) * float(images.square().mean()), rel=1e-5)
    assert found["endpoint"] == pytest.approx(float(images.square().mean()), rel=1e-5)
    assert found["noise"] == pytest.approx(0.09 * math.exp(-2 * c), rel=0.02)
    assert found["data"] == pytest.approx(0.09 * math.exp(-2 * c), rel=0.02)
    assert found["likelihood"] == pytest.approx(math.exp(2 * c) - 2 * c, rel=0.02)


def test_likelihood_is_least_where_latents_are_standard_normal(images: Tensor) -> None:
    values = {c: losses(linear_model(silent(), log_scale=c), images)["likelihood"] for c in (-0.3, 0.0, 0.3)}
    assert values[0.0] == pytest.approx(1, rel=0.01)
    assert min(values, key=lambda c: values[c]) == 0.0


@pytest.mark.parametrize("deviation", [0.0, 0.5])
def test_dequantisation_adds_its_variance(deviation: float, digits: ImageData) -> None:
    """To the energy of the images that training sees, and of those that actnorms and operators start from."""
    config = trial(epochs=1, batch_size=1079, dequantise=deviation, flow={"kind": "identity"}, loss=FLOW)
    trainer = Trainer(config, digits)
    images = digits.train.head(2000).flatten(1).double()
    energy, added = float(images.square().mean()), deviation**2
    operator = trainer.model.operator
    assert isinstance(operator, TimeLowRank)
    started = float(operator.log_variance.detach().double().exp()[0])
    assert started == pytest.approx(float(torch.linalg.eigvalsh(images.T @ images / 1079)[-1]) + added, rel=0.01)
    nn.init.constant_(operator.log_variance, -200.0)  # A = 0
    found = trainer.train_epoch().metrics["train/flow"]
    assert found == pytest.approx(energy + added, rel=0.02 if added else 1e-5)


@pytest.mark.parametrize("name", TERMS["diffusion"])
def test_terms_of_weight_zero_are_left_out(name: str, images: Tensor) -> None:
    model = linear_model(TimeLowRank(DIM, 3))
    nothing = dict.fromkeys(dataclasses.asdict(ALL), 0.0)
    only = losses(model, images, loss=LossConfig(**{**nothing, name: 2.0}))
    assert list(only) == [name]
    without = losses(model, images, loss=dataclasses.replace(ALL, **{name: 0.0}))
    assert without.keys() == set(TERMS["diffusion"]) - {name}


def test_total_loss_is_the_weighted_sum() -> None:
    terms = {"flow": torch.tensor(2.0), "data": torch.tensor(3.0)}
    assert float(total_loss(terms, LossConfig(flow=0.5, data=4.0))) == 13.0
    with pytest.raises(ValueError, match=r"every weight of train\.loss is zero: there is nothing to train"):
        total_loss({}, LossConfig())


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.fixture(scope="module")
def run(digits: ImageData) -> tuple[Trainer, list[dict[str, float]], dict[str, Any]]:
    """A trainer after four epochs, their metrics, and its state after the second."""
    trainer, metrics, state = Trainer(trial(), digits), [], {}
    for result in fit(trainer):
        metrics.append(result.metrics)
        if result.epoch == 2:
            state = through_a_file(trainer.state_dict())
    return trainer, metrics, state


Run = tuple[Trainer, list[dict[str, float]], dict[str, Any]]


def test_the_same_seed_gives_the_same_bits(run: Run, digits: ImageData) -> None:
    trainer, metrics, _ = run
    torch.manual_seed(99)  # the global generator must not matter
    again = Trainer(trial(), digits)
    assert [result.metrics for result in fit(again)] == metrics
    assert equal(again.model.state_dict(), trainer.model.state_dict())
    assert equal(again.averaged.state_dict(), trainer.averaged.state_dict())


def test_another_process_gives_the_same_bits(digits: ImageData, other_process: dict[str, str]) -> None:
    model = ModelConfig(flow=FlowConfig(depth=1, width=8))
    trainer = Trainer(TrialConfig(model=model, train=TrainConfig(epochs=1, batch_size=256), seed=5), digits)
    trainer.train_epoch()
    assert checksum(trainer.averaged) == other_process["weights"]


def test_another_seed_gives_another_run(run: Run, digits: ImageData) -> None:
    _, metrics, _ = run
    assert Trainer(trial(seed=1), digits).train_epoch().metrics["train/loss"] != metrics[0]["train/loss"]


def test_weights_and_order_have_seeds_of_their_own(digits: ImageData) -> None:
    def trained(seed: int, **seeds: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        config = dataclasses.replace(trial(epochs=1, seed=seed), seeds=SeedsConfig(**seeds))
        trainer = Trainer(config, digits)
        start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train_epoch()
        return start, dict(trainer.model.state_dict())

    start, end = trained(3)
    for same in (trained(0, init=3, order=3), trained(3, init=3), trained(3, order=3), trained(3, sampling=5)):
        assert equal(same[0], start)
        assert equal(same[1], end)
    other_order, other_start = trained(3, order=4), trained(3, init=4)
    assert equal(other_order[0], start)
    assert not equal(other_order[1], end)
    assert not equal(other_start[0], start)
    # What begins elsewhere is shown the same images in the same order: with the same beginning it ends alike.
    assert equal(trained(4, order=3)[1], other_start[1])


def test_every_epoch_draws_other_noise(digits: ImageData) -> None:
    """With weights that hardly move, the losses of epochs on the same noise would agree."""
    losses = [result.metrics["train/noise"] for result in fit(Trainer(trial(epochs=3, lr=1e-12), digits))]
    assert min(abs(a - b) / a for a, b in combinations(losses, 2)) > 1e-4


def test_going_on_from_a_saved_state_is_as_if_there_had_been_no_break(run: Run, digits: ImageData) -> None:
    trainer, metrics, state = run
    resumed = Trainer(trial(), digits)
    resumed.load_state_dict(state)
    assert resumed.epoch == 2
    results = list(fit(resumed))
    assert [result.epoch for result in results] == [3, 4]
    assert [result.metrics for result in results] == metrics[2:]
    assert equal(resumed.model.state_dict(), trainer.model.state_dict())
    assert equal(resumed.averaged.state_dict(), trainer.averaged.state_dict())


def test_a_state_of_another_architecture_is_refused(run: Run, digits: ImageData) -> None:
    other = Trainer(trial(kind="time_dense"), digits)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(run[2])


def test_loss_falls(run: Run) -> None:
    values = [metrics["train/loss"] for metrics in run[1]]
    assert values[-1] < 0.9 * values[0]


def test_metrics_of_an_epoch(run: Run) -> None:
    for metrics in run[1]:
        assert metrics.keys() == {
            f"train/{name}" for name in ("loss", "gradient_norm", "flow", "noise", "data", "endpoint")
        }
        assert all(math.isfinite(value) for value in metrics.values())
        parts = sum(metrics[f"train/{name}"] for name in ("flow", "noise", "data", "endpoint"))
        assert metrics["train/loss"] == pytest.approx(parts, rel=1e-5)


def test_fit_stops_at_the_last_epoch(run: Run) -> None:
    trainer, metrics, _ = run
    assert trainer.epoch == len(metrics) == 4
    assert list(fit(trainer)) == []


@pytest.mark.parametrize(
    "options",
    [
        {"flow": {"kind": "identity"}},
        {"kind": "time_dense"},
        {"noise_flow": "identity"},
        {"dequantise": 0.05, "detach": False, "loss": dataclasses.replace(PAPER, likelihood=0.01)},
        {"loss": FLOW},
        {"loss": dataclasses.replace(FLOW, whitening=0.1)},
        {"time": "logit_normal"},
    ],
)
def test_variants_train(options: dict[str, Any], digits: ImageData) -> None:
    results = list(fit(Trainer(trial(epochs=3, **options), digits)))
    assert results[-1].metrics["train/flow"] < results[0].metrics["train/flow"]


def test_poisoned_weights_are_divergence(digits: ImageData) -> None:
    trainer = Trainer(trial(epochs=1), digits)
    with torch.no_grad():
        trainer.model.operator.get_parameter("log_variance")[0] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"not finite in epoch 1: .*train/flow.*train/loss"):
        trainer.train_epoch()


def test_a_gradient_that_is_not_finite_is_divergence(digits: ImageData) -> None:
    trainer = Trainer(trial(epochs=1), digits)
    trainer.model.operator.get_parameter("u").register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingDiverged, match=r"not finite in epoch 1: .*train/gradient_norm"):
        trainer.train_epoch()


@pytest.mark.parametrize(
    ("warmup", "shape"),
    [
        (0.34, [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in (0, 1, 2, 3))]),
        (0.0, [1.0, *(0.5 * (1 + math.cos(math.pi * k / 5)) for k in (0, 1, 2, 3, 4))]),
    ],
)
def test_learning_rate_rises_and_falls(warmup: float, shape: list[float], digits: ImageData) -> None:
    """One step an epoch, so that the rate of every step can be seen."""
    trainer = Trainer(trial(epochs=6, batch_size=1079, lr=0.01, warmup=warmup, flow={"kind": "identity"}), digits)
    rates = []
    for _ in fit(trainer):
        rates.append(trainer.optimiser.param_groups[0]["lr"] / 0.01)
    assert rates == pytest.approx(shape)


def test_a_constant_rate_rises_in_the_first_epoch_and_does_not_depend_on_how_many_follow(digits: ImageData) -> None:
    options = {"batch_size": 128, "lr": 0.01, "warmup": 0.5, "schedule": "constant"}
    short, long = (Trainer(trial(epochs=epochs, **options), digits) for epochs in (2, 50))
    steps = short.steps_per_epoch
    rates = [short._learning_rate(step) for step in range(2 * steps)]
    assert rates == [long._learning_rate(step) for step in range(2 * steps)]
    assert rates == pytest.approx([0.01 * min(1, (step + 1) / round(0.5 * steps)) for step in range(2 * steps)])


def test_average_by_hand(digits: ImageData) -> None:
    """The average starts at the first step's weights: a1 = w1, a2 = ½ w1 + ½ w2, a3 = ½ a2 + ½ w3."""
    trainer = Trainer(trial(epochs=3, batch_size=1079, ema=0.5, flow={"kind": "identity"}), digits)
    expected = None
    for _ in fit(trainer):
        weights = trainer.model.operator.get_parameter("u").detach().clone()
        expected = weights if expected is None else 0.5 * expected + 0.5 * weights
        torch.testing.assert_close(trainer.averaged.operator.get_parameter("u").detach(), expected)
    assert trainer.averaged is not trainer.model


def test_without_an_average_the_model_itself_is_evaluated(digits: ImageData) -> None:
    trainer = Trainer(trial(epochs=1, ema=0.0), digits)
    trainer.train_epoch()
    assert trainer.averaged is trainer.model


def test_training_starts_from_the_data(digits: ImageData) -> None:
    trainer = Trainer(trial(seed=3), digits)
    for model in (trainer.model, trainer.averaged):
        norms = [module for module in model.modules() if isinstance(module, ActNorm)]
        assert len(norms) == 4
        assert all(bool(norm.initialised) for norm in norms)
    latents = trainer.model.g_x(digits.train.head(2000))[0].double()
    leading = torch.linalg.eigvalsh(latents.T @ latents / len(latents)).flip(0)[:4]
    found = trainer.model.operator.get_parameter("log_variance").double().exp()
    torch.testing.assert_close(found.detach(), leading.detach(), rtol=1e-4, atol=0)


def test_a_smaller_set_than_a_batch_is_refused() -> None:
    few = load(DataConfig(images=20))
    with pytest.raises(ValueError, match="a batch of 256 exceeds the 20 training images"):
        Trainer(trial(), few)
    assert Trainer(trial(batch_size=20), few).steps_per_epoch == 1
    assert Trainer(trial(batch_size=9), few).steps_per_epoch == 2


def test_every_parameter_moves(run: Run, digits: ImageData) -> None:
    start = Trainer(trial(), digits).model
    for (name, before), after in zip(start.named_parameters(), run[0].model.parameters(), strict=True):
        assert not torch.equal(before, after), name


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "p4": {"flow": {"mixing": "p4"}, "merge_every": 3},
    "p4_orthogonal conv": {"flow": {"mixing": "p4_orthogonal", "conditioner": "conv"}, "merge_every": 2},
    "shared": {"noise_flow": "shared"},
    "recompute": {"flow": {"memory": "recompute"}},
    "principal": {"flow": {"frame": "principal", "coordinates": 20}, "noise_flow": "identity", "dequantise": 0.05},
    "diagonal": {"kind": "time_diagonal", "loss": LossConfig(), "dequantise": 0.05},
    "spline": {"flow": {"coupling": "spline", "mixing": "householder"}},
    "mixture": {"flow": {"coupling": "mixture", "mixing": "permutation", "depth": 1}},
    "additive unet": {"flow": {"coupling": "additive", "conditioner": "unet", "depth": 1, "width": 4, "levels": 2}},
    "star": {"flow": {"activation": "star"}},
    "factors": {"kind": "time_factors"},
}


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_architectures_train_and_go_on_from_a_saved_state(options: dict[str, Any]) -> None:
    few = load(DataConfig(images=128))
    options = {"epochs": 3, "batch_size": 64, **options}
    trainer, losses, state = Trainer(trial(**options), few), [], {}
    for result in fit(trainer):
        losses.append(result.metrics["train/loss"])
        if result.epoch == 1:
            state = through_a_file(trainer.state_dict())
    assert losses[-1] < losses[0]
    resumed = Trainer(trial(**options), few)
    resumed.load_state_dict(state)
    assert [result.metrics["train/loss"] for result in fit(resumed)] == losses[1:]
    assert equal(resumed.averaged.state_dict(), trainer.averaged.state_dict())
    noise = trainer.averaged.noise(8, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for g in (trainer.averaged.g_x, trainer.averaged.g_y):
            assert float((g.inverse(g(noise)[0])[0] - noise).norm() / noise.norm()) < 1e-3


def test_perturbations_are_merged_and_the_average_keeps_up() -> None:
    few = load(DataConfig(images=1024))
    trainer = Trainer(trial(epochs=1, flow={"mixing": "p4"}, merge_every=3, batch_size=128), few)
    before = [m.p4.matrix.clone() for m in trainer.model.modules() if isinstance(m, P4Mixing)]
    trainer.train_epoch()  # 8 steps: merges after the third and the sixth
    pairs = zip(trainer.model.modules(), trainer.averaged.modules(), strict=True)
    layers = [(a, b) for a, b in pairs if isinstance(a, P4Mixing) and isinstance(b, P4Mixing)]
    assert len(layers) == len(before) == 4
    for (layer, averaged), start in zip(layers, before, strict=True):
        assert int(layer.p4.merges) == 2
        assert float((layer.p4.matrix - start).abs().max()) > 1e-4
        assert float(layer.p4.u.detach().abs().max()) > 0
        assert torch.equal(layer.p4.operator().to_dense(), averaged.p4.operator().to_dense())


def test_a_shared_network_is_trained_once(digits: ImageData) -> None:
    separate, shared = Trainer(trial(), digits).model, Trainer(trial(noise_flow="shared"), digits).model
    assert isinstance(shared.g_x, Labelled)
    assert isinstance(shared.g_y, Labelled)
    assert shared.g_x.network is shared.g_y.network
    assert (shared.g_x.label, shared.g_y.label) == (1.0, 0.0)
    assert parameters(shared) < 0.8 * parameters(separate)


@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_a_rate_that_is_too_high_is_divergence_however_memory_is_spent(memory: str, digits: ImageData) -> None:
    trainer = Trainer(trial(flow={"memory": memory, "depth": 4}, lr=0.3, clip=1e3, ema=0.0), digits)
    with pytest.raises(TrainingDiverged, match="in epoch"):
        list(fit(trainer))
