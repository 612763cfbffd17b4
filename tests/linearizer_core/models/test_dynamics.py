"""Moving images predicted by powers of one operator: the algebra, known motions, the baseline, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from linearizer_core.experiment.checks import problems
from linearizer_core.experiment.configuration import DataConfig, TrialConfig, from_mapping
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality, capped_psnr
from linearizer_core.experiment.families import DynamicsFamily, KoopmanBaseline
from linearizer_core.experiment.families.motion import motion_references, prediction_losses, successive, turning
from linearizer_core.experiment.recipes import brought, expand
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.models.dynamics import Dynamics
from linearizer_core.models.motion import Motion
from linearizer_core.operators import LearnedRotation, LearnedTransition

close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)
KINDS = pytest.mark.parametrize("kind", ["rotation", "transition"])
Trained = tuple[TrialConfig, Any, Evaluation]


def configuration(
    family: str = "dynamics",
    *,
    kind: str = "rotation",
    rank: int = 0,
    flow: str = "coupling",
    width: int = 16,
    **data: Any,
) -> TrialConfig:
    values: dict[str, Any] = {
        "family": family,
        "data": {"period": 12, **data},
        "model": {"flow": {"kind": flow, "depth": 2, "width": width}, "operator": {"kind": kind, "rank": rank}},
        "train": {"epochs": 4, "batch_size": 64, "lr": 2e-3, "ema": 0.9, "horizon": 3},
        "evaluate": {"held_out": 64, "steps": [1, 2, 5, 14]},
    }
    made: TrialConfig = from_mapping(TrialConfig, expand(values))
    return made


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load(DataConfig())


def no_quality(data: ImageData) -> Quality:
    return Quality((), data, None, "cpu")


def trained_on(config: TrialConfig, images: ImageData) -> Trained:
    trainer = Trainer(config, images)
    for _ in fit(trainer):
        pass
    found = trainer.family.evaluate(trainer.averaged, config, images, no_quality(images))
    return config, trainer.averaged, found


@pytest.fixture(scope="module")
def trained(images: ImageData) -> Trained:
    return trained_on(configuration(), images)


def angles_of(model: Dynamics) -> Tensor:
    assert isinstance(model.transition, LearnedRotation)
    return model.transition.angles


def moved(kind: str = "rotation", rank: int = 0) -> Dynamics:
    """A model of 8×8 images in float64, away from where it starts."""
    made = DynamicsFamily().build(configuration(kind=kind, rank=rank, padding=0), (1, 8, 8)).double()
    made.requires_grad_(False)
    for i, parameter in enumerate(made.parameters()):
        parameter += 0.05 * normal(*parameter.shape, seed=i)
    return made


# The algebra, in float64


@KINDS
def test_powers_are_steps_and_go_back(kind: str) -> None:
    model, x = moved(kind), normal(5, 1, 8, 8)
    one_by_one = model.ahead(model.ahead(model.ahead(x, 1), 1), 1)
    close(model.ahead(x, 3), one_by_one)
    close(model.ahead(one_by_one, -3), x)
    close(model.ahead(x, 0), x)
    close(model.ahead(x, 2), model.linearizer().power(2)(x))


def test_steps_in_between_add_up() -> None:
    model, x = moved(), normal(5, 1, 8, 8)
    close(model.ahead(model.ahead(x, 0.5), 0.5), model.ahead(x, 1))
    close(model.ahead(model.ahead(x, 1.3), -0.3), model.ahead(x, 1))


@KINDS
def test_below_full_rank_what_the_operator_does_not_see_is_lost_once(kind: str) -> None:
    model, x = moved(kind, rank=9), normal(5, 1, 8, 8)
    assert model.operator().rank() == 9
    there = model.ahead(x, 1)
    assert relative_error(model.ahead(there, -1), x) > 0.01
    again = model.ahead(model.ahead(there, 1), -1)
    assert relative_error(again, there) < 1e-9


def test_the_terms_are_what_they_say() -> None:
    model, x, config = moved(), normal(6, 1, 8, 8), configuration(padding=0)
    found = prediction_losses(model, x, config, Draws(torch.Generator().manual_seed(3)), reconstruct=True)
    draws = Draws(torch.Generator().manual_seed(3))
    start = (12 * draws.uniform(x[:, 0, 0, 0])).floor()
    count = 1 + (3 * draws.uniform(x[:, 0, 0, 0])).floor()
    assert set(count.tolist()) <= {1.0, 2.0, 3.0}
    assert len(set(count.tolist())) > 1
    first, last = model.motion.frames(x, start), model.motion.frames(x, start + count)
    ahead = torch.cat([model.ahead(a[None], int(n)) for a, n in zip(first, count, strict=True)])
    back = torch.cat([model.ahead(b[None], -int(n)) for b, n in zip(last, count, strict=True)])
    close(found["prediction"], (ahead - last).square().mean())
    close(found["backward"], (back - first).square().mean())
    w = model.encode(last)
    close(found["latent"], ((model.encode(ahead) - w).square().sum(1) / w.square().sum(1)).mean())
    assert float(found["reconstruction"]) < 1e-18


def test_terms_of_weight_zero_are_left_out() -> None:
    config = configuration(padding=0)
    loss = dataclasses.replace(config.train.loss, latent=0.0, backward=0.0)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, loss=loss))
    found = DynamicsFamily().losses(moved(), normal(6, 1, 8, 8), config, Draws(torch.Generator()))
    assert set(found) == {"prediction"}


# Known motions


@KINDS
def test_the_eigenvalues_of_drift_are_found_before_any_training(kind: str, images: ImageData) -> None:
    """With g = identity A starts as the least squares, which is the shift itself: e^{2πik/12} to 1e-3."""
    config = configuration(kind=kind, flow="identity", motion="drift")
    model = Trainer(config, images).model
    assert isinstance(model, Dynamics)
    found = turning(model.operator(), model.encode, config, images.test[:64])
    assert found["dynamics/degrees"] == pytest.approx(30, abs=math.degrees(1e-3))
    assert found["dynamics/angle_error_max"] < 0.1


def test_training_recovers_a_linear_system_from_wrong_angles() -> None:
    """Frames that turn exactly by 30° and 60° in known planes, from angles that are 10 % off."""
    motion = Motion("drift", 12, 0, 0.0)
    config = configuration(flow="identity", padding=0, motion="drift")
    model = DynamicsFamily().build(config, (1, 1, 5)).double()
    x = normal(256, 1, 1, 5)
    DynamicsFamily().initialise(model, x, torch.Generator())
    assert model.motion == motion
    with torch.no_grad():
        angles_of(model).mul_(0.9)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(400):
        draws = Draws(torch.Generator().manual_seed(step))
        loss = DynamicsFamily().losses(model, x, config, draws)["prediction"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    angles = sorted(angles_of(model).detach().abs().tolist())
    assert angles == pytest.approx([math.tau / 12, 2 * math.tau / 12], abs=1e-3)


def test_pairs_are_one_step_apart_and_of_all_times(images: ImageData) -> None:
    motion, x = Motion("rotation", 12, 2, 0.0), images.train.head(20)
    before, after = successive(motion, x)
    assert before.shape == after.shape == (20 * 12, 1, 12, 12)
    for time in range(12):
        row = [int((start - now).abs().sum((1, 2, 3)).argmin()) for start, now in ((before, motion.at(x, time)[3:4]),)]
        close(after[row[0]], motion.at(x, time + 1)[3].to(after), atol=1e-5)


def test_linear_prediction_of_pixels_is_least_squares(images: ImageData) -> None:
    config = configuration(padding=0)
    rows = motion_references(config, images)
    motion = Motion("rotation", 12, 0, 0.0)
    before, after = (each.flatten(1).double().numpy() for each in successive(motion, images.train.head(20_000)))
    mean = np.concatenate([before, after]).mean(0)
    a = np.linalg.lstsq(before - mean, after - mean, rcond=None)[0]
    start = motion.at(images.test[:64], 0)
    made = (start.flatten(1).double().numpy() - mean) @ a @ a + mean
    expected = capped_psnr(torch.from_numpy(made).view_as(start), motion.at(images.test[:64], 2).double())
    found = rows["linear DMD of pixels"].summary
    assert found["test/psnr_k2"] == pytest.approx(expected, abs=0.02)
    assert found["test/psnr_k2"] > rows["last frame copied"].summary["test/psnr_k2"] + 3


def test_the_known_motion_of_drift_is_exact_and_a_copied_frame_is_not(images: ImageData) -> None:
    rows = motion_references(configuration(motion="drift"), images)
    known = rows["frame moved by the known angle"].summary
    assert min(known[f"test/psnr_{end}"] for end in ("k1", "k14", "back", "between")) > 100
    assert rows["last frame copied"].summary["test/psnr_k1"] < 20
    assert rows["linear DMD of pixels"].summary["dynamics/angle_error_max"] < 0.01


# Training


def test_prediction_beats_copying_and_controls_are_worse(trained: Trained, images: ImageData) -> None:
    config, _, found = trained
    summary = found.summary
    copied = motion_references(config, images)["last frame copied"].summary
    for steps in (1, 2, 5, 14):  # those beyond the horizon of 3 too, and beyond the period
        assert summary[f"test/psnr_k{steps}"] > copied[f"test/psnr_k{steps}"] + 5
    assert summary["test/psnr_back"] > copied["test/psnr_back"] + 5
    assert summary["test/psnr_between"] > copied["test/psnr_between"] + 3
    assert summary["dynamics/angle_error"] < 2
    assert summary["dynamics/angle_error_random"] > 20
    assert min(summary["controls/random"], summary["controls/reversed"]) > 4
    assert summary["dynamics/modulus_error"] < 1e-4
    assert found.curves["nfe/test_psnr"].values == [summary[f"test/psnr_k{steps}"] for steps in (1, 2, 5, 14)]


def test_frames_in_random_order_teach_no_motion(trained: Trained, images: ImageData) -> None:
    """From least squares of pairs in order it unlearns them."""
    config = configuration(shuffled=True)
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=8))
    _, _, found = trained_on(longer, images)
    assert found.summary["test/psnr_auc"] < trained[2].summary["test/psnr_auc"] - 3


@pytest.mark.parametrize("family", ["dynamics", "koopman"])
def test_the_same_seed_gives_the_same_numbers(family: str, images: ImageData) -> None:
    config = configuration(family)
    short = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=1))
    first, second = (trained_on(short, images)[2].summary for _ in range(2))
    assert {k: v for k, v in first.items() if "_ms_" not in k} == {k: v for k, v in second.items() if "_ms_" not in k}


def test_what_is_recorded_is_what_the_keys_say(trained: Trained, images: ImageData) -> None:
    config, model, found = trained
    assert sorted(found.summary) == sorted(DynamicsFamily().summary_keys(config))
    assert all(math.isfinite(value) for value in found.summary.values())
    interim = DynamicsFamily().interim(model, config, images, no_quality(images))
    assert list(interim) == DynamicsFamily().interim_keys(config)
    assert interim["quality/psnr_auc"] == pytest.approx(found.summary["quality/psnr_auc"], abs=1e-5)
    assert found.grids["prediction"].shape == (64, 1, 12, 12)
    drawn = DynamicsFamily().sample(model, 5, config, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, 1, 12, 12)


# The autoencoder of equal size


@pytest.mark.parametrize(("kind", "rank"), [("rotation", 0), ("transition", 20)])
def test_the_autoencoder_has_the_size_of_the_linearizer_and_its_rank(kind: str, rank: int, images: ImageData) -> None:
    config = configuration("koopman", kind=kind, rank=rank, width=64)
    size = fitted_values(DynamicsFamily().build(config, images.event))
    model = KoopmanBaseline().build(config, images.event)
    assert abs(fitted_values(model) / size - 1) < 0.05
    assert model.operator().shape == (rank or 144,) * 2
    assert isinstance(model.transition, LearnedRotation if kind == "rotation" else LearnedTransition)


def test_the_autoencoder_starts_as_principal_components_and_learns(images: ImageData) -> None:
    config = configuration("koopman")
    trainer = Trainer(config, images)
    trainer.model.requires_grad_(False)
    model, frames = trainer.model, Motion("rotation", 12, 2, 0.0).at(images.test[:64], 5)
    assert capped_psnr(model.ahead(frames, 0), frames) > 60  # type: ignore[operator]
    before = trainer.family.interim(model, config, images, no_quality(images))["quality/psnr_auc"]
    _, _, found = trained_on(config, images)
    assert sorted(found.summary) == sorted(KoopmanBaseline().summary_keys(config))
    assert found.summary["quality/psnr_auc"] > before
    assert found.summary["dynamics/angle_error"] < 2


def test_as_a_control_it_keeps_the_configuration_of_the_base() -> None:
    base = {"family": "dynamics", "recipe": "default", "data": {"name": "digits"}}
    assert brought(base, "koopman", "default") == {"family": "koopman"}


# What is refused


@pytest.mark.parametrize(
    ("values", "event", "key", "said"),
    [
        ({}, (1, 9, 8), "data.motion", "rotation needs square images, got 9×8; use drift, or data.size"),
        (
            {"model": {"operator": {"rank": 145}}},
            (1, 8, 8),
            "model.operator.rank",
            "rank 145 exceeds the data's dimension 144 (digits: 1×12×12); use 1 … 144",
        ),
        (
            {"model": {"operator": {"kind": "dense"}}},
            (1, 8, 8),
            "model.operator.kind",
            "dynamics has no operator dense; use rotation, transition",
        ),
        (
            {"data": {"padding": 1}, "model": {"flow": {"conditioner": "conv"}}},
            (1, 9, 9),
            "model.flow.conditioner",
            "conv needs even image sides, digits is 11×11; use mlp",
        ),
        (
            {"train": {"loss": {"prediction": 0, "backward": 0, "latent": 0}}},
            (1, 8, 8),
            "train.loss",
            "every weight of dynamics is zero; give a weight to at least one of prediction, backward, latent",
        ),
        ({"evaluate": {"steps": [4, 2]}}, (1, 8, 8), "evaluate.steps", "must be ascending positive step counts"),
    ],
)
def test_what_is_refused(values: dict[str, Any], event: tuple[int, int, int], key: str, said: str) -> None:
    config = from_mapping(TrialConfig, expand({"family": "dynamics", **values}))
    assert said in problems(config, event, 1000, 10)[key]


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("data", "period", 3), ("data", "padding", -1), ("data", "contrast", -0.1), ("train", "horizon", 0)],
)
def test_values_out_of_bounds(section: str, field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"\.{field} cannot be {value}"):
        from_mapping(TrialConfig, {"family": "dynamics", section: {field: value}})


def test_without_padding_the_frames_are_the_images_and_may_be_of_any_shape() -> None:
    config = from_mapping(TrialConfig, expand({"family": "dynamics", "data": {"padding": 0, "motion": "drift"}}))
    assert not problems(config, (1, 9, 8), 1000, 10)
    assert DynamicsFamily().build(config, (1, 9, 8)).frame == (1, 9, 8)
