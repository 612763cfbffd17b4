"""Diffusion by affine operators: what a trial of it trains, chooses and measures."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

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
from linearizer_core.experiment.evaluation import Evaluation, Quality
from linearizer_core.experiment.families import AffineDiffusionFamily, family_of
from linearizer_core.experiment.families.affine import leading_metric, ranks_of
from linearizer_core.experiment.families.affine_controls import controls
from linearizer_core.experiment.groups import clusters, groups
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.models import AffineDiffusion

EVENT = (1, 8, 8)


def trial(by: str = "label", rank: int = 4, epochs: int = 2, **evaluate: Any) -> TrialConfig:
    return TrialConfig(
        model=ModelConfig(
            flow=FlowConfig(depth=1, width=16),
            operator=OperatorConfig(kind="affine", rank=rank),
            operators=OperatorsConfig(by=by, count=5),  # type: ignore[arg-type]
        ),
        train=TrainConfig(epochs=epochs, batch_size=64, lr=5e-3, ema=0.5),
        evaluate=EvaluateConfig(
            **{
                "steps": (1, 3), "samples": 128, "held_out": 64, "ranks": (1, 4, 64), "temperatures": (0.8, 1.2),
                "quality": ("classifier_fd", "recall"), **evaluate,
            }
        ),
    )  # fmt: skip


def trained(config: TrialConfig, digits: ImageData) -> Any:
    trainer = Trainer(config, digits)
    for _ in fit(trainer):
        pass
    return trainer.averaged


@pytest.fixture(scope="module")
def measured(digits: ImageData, quality: Quality) -> tuple[TrialConfig, AffineDiffusion, Evaluation]:
    """Operators by label after two epochs on the digits, and their evaluation."""
    config = trial()
    model = trained(config, digits)
    family = family_of(config)
    family.settle(model, digits)
    found = Quality(config.evaluate.quality, digits, quality.classifier, "cpu")
    return config, model, family.evaluate(model, config, digits, found)


def test_the_summary_has_the_keys_that_are_promised(
    measured: tuple[TrialConfig, AffineDiffusion, Evaluation], digits: ImageData, quality: Quality
) -> None:
    config, _, evaluation = measured
    assert sorted(evaluation.summary) == sorted(family_of(config).summary_keys(config))
    assert all(math.isfinite(value) for value in evaluation.summary.values())
    for by in ("one", "cluster"):
        config = trial(by, quality=("swd",), denoise=True)
        model = trained(config, digits)
        family_of(config).settle(model, digits)
        found = Quality(("swd",), digits, None, "cpu")
        summary = family_of(config).evaluate(model, config, digits, found).summary
        assert sorted(summary) == sorted(family_of(config).summary_keys(config)), by


def test_the_algebra_is_exact_for_a_trained_model(
    measured: tuple[TrialConfig, AffineDiffusion, Evaluation],
) -> None:
    """One application against the steps it collapses, images to noise and back, edits there and back."""
    summary = measured[2].summary
    assert summary["linearity/collapse_psnr"] > 110
    assert summary["linearity/inversion_psnr"] > 100
    assert summary["linearity/projection_idempotency"] < 1e-5
    assert summary["linearity/edit_back"] < 1e-3


def test_rank_and_temperature_are_those_that_are_best_on_validation(
    measured: tuple[TrialConfig, AffineDiffusion, Evaluation],
) -> None:
    config, model, evaluation = measured
    summary, curves = evaluation.summary, evaluation.curves
    assert model.rank == summary["sampling/rank"]
    assert model.temperature == pytest.approx(summary["sampling/temperature"])
    assert model.rank in config.evaluate.ranks
    assert summary["quality/classifier_fd_collapsed"] <= min(curves["rank/classifier_fd"].values)
    assert summary["quality/classifier_fd_t1"] == pytest.approx(min(curves["rank/classifier_fd"].values))
    assert curves["rank/classifier_fd"].steps == list(config.evaluate.ranks)
    assert summary["test/classifier_fd_full"] == pytest.approx(curves["rank/test_classifier_fd"].values[-1])


def test_nothing_is_chosen_by_the_test_split(digits: ImageData, quality: Quality) -> None:
    """With another test split rank and temperature are the same."""
    config = trial()
    model = trained(config, digits)
    chosen = []
    for data in (digits, dataclasses.replace(digits, test=digits.test.flip(-1), test_labels=digits.test_labels)):
        family_of(config).settle(model, data)
        found = Quality(config.evaluate.quality, data, quality.classifier, "cpu")
        family_of(config).evaluate(model, config, data, found)
        chosen.append((model.rank, model.temperature))
    assert chosen[0] == chosen[1]


def test_no_parameter_of_g_moves_along_the_rank_axis(digits: ImageData) -> None:
    states = [
        {
            name: value
            for name, value in Trainer(trial(rank=rank), digits).model.state_dict().items()
            if "g." in name[:2]
        }
        for rank in (0, 1, 16, 64)
    ]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[name], states[0][name]) for name in state)


def test_operators_by_label_are_told_the_labels_and_not_their_order(digits: ImageData) -> None:
    """Each offset starts as the mean of its own label's latents, at every seed."""
    trainer = Trainer(trial(), digits)
    model = trainer.model
    assert isinstance(model, AffineDiffusion)
    assert model.gaussians.count == digits.classes == 10
    torch.testing.assert_close(
        model.gaussians.proportions, torch.bincount(digits.train_labels).float() / len(digits.train)
    )
    z = model.g(digits.train.head(10**6))[0].detach()
    for k in range(10):
        near = (z[digits.train_labels == k].mean(0) - model.gaussians.offsets[k].detach()).norm()
        assert float(near) < 0.2 * float(z.std() * 8)


def test_a_model_that_is_told_wrong_labels_is_found_out(digits: ImageData) -> None:
    """The control: p(k | x) of a model told shuffled labels is at chance, of one told the labels it is not."""
    shuffled = digits.train_labels[torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0))]
    right = []
    for data in (digits, dataclasses.replace(digits, train_labels=shuffled)):
        model = trained(trial(epochs=4), data)
        likeliest = model.posterior(digits.validation).argmax(1)
        right.append(float((likeliest == digits.validation_labels).double().mean()))
    assert right[0] > 0.8 > 0.3 > right[1]


def test_clusters_are_those_of_images_that_have_some() -> None:
    """Three kinds of images far apart are told apart, the same each time, in batches and streamed alike."""
    kinds = torch.arange(300) % 3
    generator = torch.Generator().manual_seed(0)
    quanta = (80 * kinds.view(-1, 1, 1, 1) + torch.randint(0, 20, (300, 1, 4, 4), generator=generator)).to(torch.uint8)
    found = clusters(TensorImages(quanta, 256), 3)
    assert all(len(found[kinds == kind].unique()) == 1 for kind in range(3))
    assert len(found.unique()) == 3
    assert torch.equal(found, clusters(TensorImages(quanta, 256), 3))


def test_groups_are_one_the_labels_or_the_clusters(digits: ImageData) -> None:
    assert not groups("one", 7, digits).any()
    assert torch.equal(groups("label", 7, digits), digits.train_labels)
    found = groups("cluster", 7, digits)
    assert found.shape == digits.train_labels.shape
    assert found.unique().tolist() == list(range(7))


def test_noise_is_recovered_of_images_as_training_has_them(digits: ImageData, quality: Quality) -> None:
    # Half of the pixels are the same in all images: without the noise of training, the noise recovered there is a
    # constant, whose distance from N(0, 1) is a half and more.
    def drawn(count: int, seed: int) -> TensorImages:
        quanta = 128 + 25 * torch.randn(count, *EVENT, generator=torch.Generator().manual_seed(seed))
        quanta[..., ::2, :] = 128
        return TensorImages(quanta.round().clamp(0, 255).to(torch.uint8), 256)

    validation = drawn(len(digits.validation), 1)
    data = dataclasses.replace(digits, train=drawn(len(digits.train), 0), validation=validation.head(len(validation)))
    config = trial(by="one", held_out=300, epochs=20)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            flow=FlowConfig(kind="identity"),
            operator=OperatorConfig(kind="affine", rank=1, spread="diagonal"),
        ),
        train=dataclasses.replace(config.train, dequantise=0.1, lr=0.03),
    )
    model = trained(config, data)
    family = family_of(config)
    family.settle(model, data)
    found = Quality(config.evaluate.quality, data, quality.classifier, "cpu")
    summary = family.evaluate(model, config, data, found).summary
    expected = 0.87 / math.sqrt(summary["linearity/inversion_images"])
    assert summary["linearity/noise_direction_ks"] < 1.5 * expected
    assert summary["linearity/inversion_psnr"] > 100


def test_controls_spoil_one_thing_each() -> None:
    config = trial()
    model = AffineDiffusionFamily().build(config, EVENT, 3)
    with torch.no_grad():
        for parameter in model.gaussians.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    own = model.operators(5)
    found = controls(model, own)

    def linear(operators: Any, k: int) -> Tensor:
        dense: Tensor = operators.one(k).linear.to_dense()
        return dense

    def energy(operators: Any, k: int) -> Tensor:
        return linear(operators, k).square().sum()

    eye = torch.eye(5)
    for k in range(3):
        for name in ("flat", "random"):
            torch.testing.assert_close(energy(found[name], k), energy(own, k))
            torch.testing.assert_close(found[name].frames[k].T @ found[name].frames[k], eye, atol=1e-5, rtol=0.0)
        assert len(found["flat"].scales[k].unique()) == 1
        torch.testing.assert_close(found["flat"].frames, own.frames)
        torch.testing.assert_close(linear(found["swapped"], k), linear(own, (k - 1) % 3))
        torch.testing.assert_close(linear(found["shared"], k), linear(found["shared"], 0))
        assert not linear(found["means"], k).any()
        torch.testing.assert_close(found["pooled"].offsets[k], found["pooled"].offsets[0])
        for name in ("flat", "random", "swapped", "shared", "means"):
            torch.testing.assert_close(found[name].offsets, own.offsets)
    # Of full rank the pooled operator has the mean and the covariance of the whole mixture.
    mean, total, _ = model.gaussians.moments()
    whole = controls(model, model.operators())["pooled"]
    torch.testing.assert_close(whole.offsets[0], mean.float())
    torch.testing.assert_close(linear(whole, 1) @ linear(whole, 1).T, total.float(), atol=1e-4, rtol=1e-4)


def test_ranks_are_powers_of_two_and_the_whole_where_none_are_given() -> None:
    assert ranks_of(trial(ranks=()), EVENT) == [1, 2, 4, 8, 16, 32, 64]
    assert ranks_of(trial(ranks=()), (1, 3, 4)) == [1, 2, 4, 8, 12]
    assert ranks_of(trial(), EVENT) == [1, 4, 64]


def test_rank_is_chosen_by_a_distance_in_features_where_one_is_taken() -> None:
    assert leading_metric(EvaluateConfig(quality=("swd", "recall", "classifier_fd"))) == "classifier_fd"
    assert leading_metric(EvaluateConfig(quality=("recall", "swd"))) == "recall"


def test_training_goes_on_from_a_saved_state_bit_by_bit(digits: ImageData) -> None:
    for by in ("label", "cluster"):
        config = trial(by, epochs=3)
        whole = Trainer(config, digits)
        for _ in fit(whole):
            pass
        first, second = Trainer(config, digits), Trainer(config, digits)
        first.train_epoch()
        second.load_state_dict(first.state_dict())
        for _ in fit(second):
            pass
        state = second.averaged.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in whole.averaged.state_dict().items()), by


def test_clusters_are_refined_by_the_posterior_and_a_resumed_trial_has_the_same(digits: ImageData) -> None:
    """After two epochs each image is in its likeliest cluster, and is trained and counted there."""
    config = trial("cluster", epochs=4)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, operators=OperatorsConfig(by="cluster", count=5, refine=2)),
    )
    before = groups("cluster", 5, digits)
    trainer = Trainer(config, digits)
    for _ in range(2):
        trainer.train_epoch()
    likeliest = trainer.averaged.posterior(digits.train.head(len(digits.train))).argmax(1)  # type: ignore[operator]
    assert not torch.equal(likeliest, before)
    assert trainer.state_dict()["groups"] is None
    trainer.train_epoch()
    proportions = torch.bincount(likeliest, minlength=5) / len(likeliest)
    for model in (trainer.model, trainer.averaged):
        assert torch.equal(model.gaussians.proportions, proportions)  # type: ignore[union-attr]
    halfway = copy.deepcopy(trainer.state_dict())
    trainer.train_epoch()
    again = Trainer(config, digits)
    again.load_state_dict(halfway)
    again.train_epoch()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_refined_clusters_are_likelier(digits: ImageData) -> None:
    """Both steps of expectation maximisation raise log p(x, k) of the training images, and so does the mixture's."""
    found = {}
    for refine in (0, 2):
        config = trial("cluster", epochs=12)
        several = OperatorsConfig(by="cluster", count=5, refine=refine)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, operators=several))
        model = trained(config, digits)
        with torch.no_grad():
            found[refine] = float(model.log_likelihood(digits.train.head(1000)).mean())
    assert found[2] > found[0]
