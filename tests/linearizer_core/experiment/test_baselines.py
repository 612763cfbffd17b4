"""Baselines that are fair: of the Linearizer's size, in its frame, told its labels, at its temperatures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from linearizer_core.experiment import checkpoint
from linearizer_core.experiment.configuration import (
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    OperatorsConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.images import TensorImages
from linearizer_core.experiment.evaluation import SAMPLE_SEED, Evaluation, Quality
from linearizer_core.experiment.families import AffineDiffusionFamily, family_of
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.flows.conditioners import fitted_values, parameters
from linearizer_core.models.affine_diffusion import AffineDiffusion
from linearizer_core.models.transport import Transport

EVENT = (1, 8, 8)
FAMILIES = ["flow_matching", "mean_flow"]
TEMPERATURES = (0.7, 1.3)


def trial(
    family: str, by: str = "label", flow: dict[str, Any] | None = None, epochs: int = 2, **evaluate: Any
) -> TrialConfig:
    return TrialConfig(
        family=family,  # type: ignore[arg-type]
        model=ModelConfig(
            flow=FlowConfig(**{"depth": 1, "width": 32, **(flow or {})}),
            operator=OperatorConfig(kind="affine", rank=4),
            operators=OperatorsConfig(by=by, count=5),  # type: ignore[arg-type]
        ),
        train=TrainConfig(epochs=epochs, batch_size=64, lr=5e-3, ema=0.9, dequantise=0.0),
        evaluate=EvaluateConfig(
            **{
                "steps": (1, 4), "samples": 256, "held_out": 64, "temperatures": TEMPERATURES,
                "quality": ("classifier_fd",), **evaluate,
            }
        ),
    )  # fmt: skip


def trained(config: TrialConfig, data: ImageData) -> Any:
    trainer = Trainer(config, data)
    for _ in fit(trainer):
        pass
    return trainer.averaged


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Measured = tuple[TrialConfig, Transport, Evaluation]


@pytest.fixture(scope="module", params=FAMILIES)
def measured(request: pytest.FixtureRequest, digits: ImageData, quality: Quality) -> Measured:
    """A baseline told the labels of the digits after two epochs, and its evaluation."""
    config = trial(request.param)
    model = trained(config, digits)
    found = Quality(config.evaluate.quality, digits, quality.classifier, "cpu")
    return config, model, family_of(config).evaluate(model, config, digits, found)


# Size


SIZES: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "one in pixels": ("one", {}, EVENT),
    "labels in pixels": ("label", {"depth": 3, "width": 64}, EVENT),
    "clusters, principal": ("cluster", {"frame": "principal", "coordinates": 32, "depth": 4, "width": 64}, EVENT),
    "labels, principal, 16 by 16": (
        "label",
        {"frame": "principal", "coordinates": 64, "mixing": "permutation"},
        (1, 16, 16),
    ),
    "merged matrices": ("label", {"mixing": "p4", "depth": 2}, EVENT),
    "labels, unet": ("label", {"conditioner": "unet", "depth": 2, "width": 12}, (3, 16, 16)),
}


@pytest.mark.parametrize(("by", "flow", "event"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_as_large_as_the_affine_linearizer_with_buffers_counted(
    family: str, by: str, flow: dict[str, Any], event: tuple[int, int, int]
) -> None:
    config = trial(family, by, flow)
    baseline = family_of(config).build(config, event, 10)
    linearizer = AffineDiffusionFamily().build(config, event, 10)
    assert fitted_values(baseline) == pytest.approx(fitted_values(linearizer), rel=0.05)


def test_what_is_fitted_is_counted_by_hand() -> None:
    """The axes and the mean of a frame, and the matrices of p4 mixing: dim² + dim, and dim² for each block."""
    for flow, by_hand in (
        ({"frame": "principal"}, 64**2 + 64),
        ({"mixing": "p4"}, 64**2),
        ({"mixing": "p4_orthogonal", "depth": 2}, 2 * 64**2),
        ({"mixing": "lu"}, 0),
    ):
        model = AffineDiffusionFamily().build(trial("diffusion", flow=flow), EVENT, 10)
        assert fitted_values(model) - parameters(model) == by_hand, flow


# Labels


@pytest.mark.parametrize("frame", ["pixels", "principal"])
@pytest.mark.parametrize("by", ["label", "cluster"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_told_what_the_linearizer_is_and_samples_start_alike(
    family: str, by: str, frame: str, digits: ImageData
) -> None:
    flow = {"frame": frame, "coordinates": 16}
    ours, theirs = (Trainer(trial(name, by, flow), digits) for name in (family, "diffusion"))
    model, affine = ours.model, theirs.model
    assert isinstance(model, Transport)
    assert isinstance(affine, AffineDiffusion)
    assert torch.equal(
        *(family_of(each.config).groups(each.config, digits) for each in (ours, theirs))  # type: ignore[arg-type]
    )
    torch.testing.assert_close(model.proportions, affine.gaussians.proportions)
    (noise, which), (their_noise, their_which) = (
        (each.noise(500, generator), each.labels(500, generator))
        for each, generator in ((model, seeded(3)), (affine, seeded(3)))
    )
    assert torch.equal(noise, their_noise)
    assert torch.equal(which, their_which)
    kept = noise if frame == "pixels" else noise.flatten(1)[:, :16]
    assert torch.equal(model.start(noise, 0.5), 0.5 * kept)


@pytest.mark.parametrize("conditioner", ["mlp", "unet"])
@pytest.mark.parametrize("family", FAMILIES)
def test_labels_change_samples_and_are_used_only_where_they_are_told(
    family: str, conditioner: str, randomise: Any
) -> None:
    flow = {"conditioner": conditioner}
    for by, differ in (("label", True), ("one", False)):
        config = trial(family, by, flow)
        model = randomise(family_of(config).build(config, EVENT, 10))
        noise = model.noise(4, seeded())
        images = [
            family_of(config).step(model, config, noise, torch.full((4,), k), 2, 1.0)  # type: ignore[attr-defined]
            for k in (1, 7)
        ]
        assert torch.equal(*images) != differ
    assert "proportions" not in model.state_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_label_is_learnt_and_wrong_ones_are_found_out(family: str, digits: ImageData, quality: Quality) -> None:
    """The control: of a model told shuffled labels, samples are judged to be what they are told at chance."""
    shuffled = digits.train_labels[torch.randperm(len(digits.train), generator=seeded())]
    config = trial(family, flow={"depth": 2, "width": 64}, epochs=5, temperatures=(), steps=(8,))
    right = []
    for data in (digits, dataclasses.replace(digits, train_labels=shuffled)):
        found = Quality(("classifier_fd",), data, quality.classifier, "cpu")
        summary = family_of(config).evaluate(trained(config, data), config, data, found).summary
        right.append(summary["quality/judged_accuracy"])
    assert right[0] > 0.5 > 0.25 > right[1]


@pytest.mark.parametrize("frame", ["pixels", "principal"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_gives_the_same_samples(family: str, frame: str, digits: ImageData, tmp_path: Path) -> None:
    config = trial(family, flow={"frame": frame, "coordinates": 16}, epochs=1)
    model = trained(config, digits)
    model.choose(0.8)
    checkpoint.save(tmp_path, model, config)
    again, same = checkpoint.load(tmp_path)
    assert same == config
    assert again.classes == 10
    first, second = (family_of(config).sample(each, 32, config, seeded(5)) for each in (model, again))
    assert torch.equal(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_goes_on_from_a_saved_state_bit_by_bit(family: str, digits: ImageData) -> None:
    config = trial(family, flow={"frame": "principal", "coordinates": 16}, epochs=2)
    whole = Trainer(config, digits)
    for _ in fit(whole):
        pass
    first, second = Trainer(config, digits), Trainer(config, digits)
    first.train_epoch()
    second.load_state_dict(first.state_dict())
    for _ in fit(second):
        pass
    state = second.averaged.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.averaged.state_dict().items())


# Frame


def gaussian_data(digits: ImageData) -> ImageData:
    """Images of 2×2 that are Gaussian with standard deviations 0.4, 0.2, 0.1 and 0 along known axes."""
    axes = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    drawn = torch.randn(4096, 4, generator=seeded(1)) * torch.tensor([0.4, 0.2, 0.1, 0.0]) @ axes + 0.05
    levels = 256
    quanta = ((drawn.clamp(-1, 1) + 1) / 2 * (levels - 1)).round().to(torch.uint8).view(-1, 1, 2, 2)
    images = TensorImages(quanta, levels)
    held = images.head(256)
    return dataclasses.replace(digits, train=images, train_labels=torch.zeros(4096, dtype=torch.int64),
                               validation=held, test=held)  # fmt: skip


def test_in_the_principal_frame_what_is_left_out_stays_at_its_mean(digits: ImageData) -> None:
    data, family = gaussian_data(digits), "flow_matching"
    config = trial(family, "one", {"frame": "principal", "coordinates": 2}, epochs=4)
    model = trained(config, data)
    assert isinstance(model, Transport)
    samples = family_of(config).sample(model, 2000, config, seeded())
    axes = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    along = (samples.flatten(1) - data.train.head(4096).flatten(1).mean(0)) @ axes.T
    deviations = along.std(0)
    assert float(deviations[2:].max()) < 0.01
    assert float(deviations[0]) == pytest.approx(0.4, rel=0.25)
    assert float(deviations[1]) == pytest.approx(0.2, rel=0.25)


# Temperatures


def test_the_temperature_is_the_best_on_validation(measured: Measured, digits: ImageData, quality: Quality) -> None:
    config, model, evaluation = measured
    family, summary = family_of(config), evaluation.summary
    steps = family.headline(config.evaluate)  # type: ignore[attr-defined]
    found = Quality(config.evaluate.quality, digits, quality.classifier, "cpu")
    generator = seeded(SAMPLE_SEED)
    noise = model.noise(config.evaluate.samples, generator)
    which = model.labels(config.evaluate.samples, generator)
    images = {
        temperature: family.step(model, config, noise, which, steps, temperature)  # type: ignore[attr-defined]
        for temperature in (1.0, *TEMPERATURES)
    }
    by_hand = {temperature: found(each)["classifier_fd"] for temperature, each in images.items()}
    best = min(by_hand, key=lambda each: by_hand[each])
    assert summary["sampling/temperature"] == best == pytest.approx(model.temperature)
    assert summary[f"quality/classifier_fd_k{steps}"] == pytest.approx(by_hand[best], rel=1e-4)
    assert summary["quality/classifier_fd_t1"] == pytest.approx(by_hand[1.0], rel=1e-4)
    for how, temperature in (("t1", 1.0), (f"k{steps}", best)):
        tested = found(images[temperature], "test")["classifier_fd"]
        assert summary[f"test/classifier_fd_{how}"] == pytest.approx(tested, rel=1e-4)
    for split in ("quality", "test"):
        assert summary[f"{split}/classifier_fd_sampled"] == summary[f"{split}/classifier_fd_k{steps}"]
    interim = family.interim(model, config, digits, found)
    early = by_hand[best] if steps == 1 else by_hand[1.0]  # many steps at every temperature would take too long
    assert interim == {
        f"quality/classifier_fd_{how}": pytest.approx(early, rel=1e-4) for how in (f"k{steps}", "sampled")
    }


def test_the_summary_has_the_keys_that_are_promised(measured: Measured, digits: ImageData) -> None:
    config, model, evaluation = measured
    assert sorted(evaluation.summary) == sorted(family_of(config).summary_keys(config))
    assert all(math.isfinite(value) for value in evaluation.summary.values())
    without = dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, temperatures=()))
    keys = family_of(config).summary_keys(without)
    assert not [key for key in keys if key.startswith("sampling/") or key.endswith("_t1")]
    found = Quality(("swd",), digits, None, "cpu")
    blind = dataclasses.replace(without, evaluate=dataclasses.replace(without.evaluate, quality=("swd",)))
    summary = family_of(config).evaluate(model, blind, digits, found).summary
    assert sorted(summary) == sorted(family_of(config).summary_keys(blind))
    assert math.isnan(summary["quality/judged_accuracy"])  # no metric has asked for a classifier


def test_nothing_is_chosen_by_the_test_split(measured: Measured, digits: ImageData, quality: Quality) -> None:
    config, model, evaluation = measured
    other = dataclasses.replace(digits, test=digits.test.flip(-1))
    found = Quality(config.evaluate.quality, other, quality.classifier, "cpu")
    again = family_of(config).evaluate(model, config, other, found).summary
    assert again["sampling/temperature"] == evaluation.summary["sampling/temperature"]
    assert again["test/classifier_fd_t1"] != evaluation.summary["test/classifier_fd_t1"]


def test_samples_of_an_untrained_network_are_noise_at_the_temperature() -> None:
    for family in FAMILIES:
        config = trial(family, "one")
        model = family_of(config).build(config, EVENT)
        assert isinstance(model, Transport)
        model.choose(0.5)
        noise: Tensor = model.noise(8, seeded())
        assert torch.equal(family_of(config).sample(model, 8, config, seeded()), 0.5 * noise)
