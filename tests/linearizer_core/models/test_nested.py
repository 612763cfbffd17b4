"""Nested projectors: every rank of one g, their samples, and what PCA leaves of images."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from linearizer_core.experiment.checks import problems
from linearizer_core.experiment.configuration import DataConfig, TrialConfig, from_mapping
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, PixelGaussian, Quality
from linearizer_core.experiment.families import NestedIdempotentFamily, family_of
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.metrics.quality import psnr
from linearizer_core.models.nested import NestedIdempotent


def close(made: Tensor, expected: Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(made, expected, rtol=0, atol=atol)


FAMILY = NestedIdempotentFamily()


def configuration(*, kind: str = "coupling", by: str = "one", rank: int = 6, **loss: float) -> TrialConfig:
    values: dict[str, Any] = {
        "family": "idempotent",
        "model": {
            "flow": {"kind": kind, "frame": "principal", "depth": 2, "width": 32},
            "operator": {"kind": "nested_projection", "rank": rank},
            "operators": {"by": by},
        },
        "train": {"epochs": 4, "batch_size": 128, "lr": 3e-3, "ema": 0.9, "dequantise": 0.02, "loss": loss},
        "evaluate": {"held_out": 128, "samples": 128, "quality": ["swd"], "ranks": [1, 4, 16, 32]},
    }
    made: TrialConfig = from_mapping(TrialConfig, expand(values))
    return made


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def model() -> NestedIdempotent:
    """Of 4×4 images in float64 and two groups, away from where it starts."""
    made = FAMILY.build(configuration(by="label"), (1, 4, 4), 2).double().requires_grad_(False)
    for i, parameter in enumerate(made.parameters()):
        parameter += 0.05 * normal(*parameter.shape, seed=i)
    return made


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load(DataConfig())


Trained = tuple[TrialConfig, Any, Evaluation]


@pytest.fixture(scope="module")
def trained(images: ImageData) -> Trained:
    """A model of the digits after a few epochs."""
    config = configuration(by="label", shell=0.1)
    trainer = Trainer(config, images)
    for _ in fit(trainer):
        pass
    trainer.family.settle(trainer.averaged, images)
    quality = Quality(("swd",), images, None, "cpu")
    return config, trainer.averaged, trainer.family.evaluate(trainer.averaged, config, images, quality)


def test_the_operator_decides_the_family() -> None:
    assert isinstance(family_of(configuration()), NestedIdempotentFamily)


def test_every_rank_is_a_projector_and_lies_in_the_next(model: NestedIdempotent) -> None:
    x = normal(5, 1, 4, 4)
    made = {rank: model.projector(rank)(x) for rank in (1, 3, 9, 16)}
    for low in made:
        for high in made:
            close(model.projector(low)(made[high]), made[min(low, high)], atol=1e-8)
    close(made[16], x, atol=1e-8)
    for rank in (0, 17):
        with pytest.raises(ValueError, match=f"between 1 and the dimension 16, got {rank}"):
            model.projector(rank)


def test_rows_of_a_batch_have_ranks_of_their_own(model: NestedIdempotent) -> None:
    x, ranks = normal(3, 1, 4, 4), torch.tensor([2, 16, 7])
    made = model.nested(model.g(x)[0], ranks)
    for row, rank in enumerate(ranks.tolist()):
        close(made[row : row + 1], model.projector(rank)(x[row : row + 1]))


def test_the_floor_is_what_pca_leaves() -> None:
    made = FAMILY.build(configuration(kind="linear"), (1, 4, 4)).double()
    x = normal(200, 1, 4, 4) * torch.linspace(0.1, 2, 16, dtype=torch.float64).view(4, 4)
    made.initialise(x)
    pca = PixelGaussian(x, 0.0)
    for rank in (1, 5, 15):
        error = (pca.project(x, rank).double() - x).square().mean()
        assert float(made.floor[rank]) == pytest.approx(float(error), rel=1e-4)
    assert float(made.floor[16]) == float(made.floor[15]) > 0


def test_terms_are_what_they_say(model: NestedIdempotent) -> None:
    x, config = normal(40, 1, 4, 4), configuration(shell=1.0)
    found = FAMILY.losses(model, x, config, Draws(torch.Generator().manual_seed(1)))
    again = Draws(torch.Generator().manual_seed(1))
    ranks = (16 ** again.uniform(x[:, 0, 0, 0])).long().clamp(1, 15)
    noise = again.normal(x)
    ratios, shells = [], []
    for row, rank in enumerate(ranks.tolist()):
        f = model.projector(rank)
        one = x[row : row + 1]
        ratios.append((1 + (f(one) - one).square().mean() / model.floor[rank]).log())
        length = f.domain.norm(f(noise[row : row + 1])).square() / rank
        shells.append(length.log().square()[0])
    assert ranks.min() == 1
    assert len(ranks.unique()) > 5
    close(found["reconstruction"], torch.stack(ratios).mean())
    close(found["shell"], torch.stack(shells).mean())
    z, log_det = model.g(x)
    close(found["likelihood"], 0.5 * z.square().mean() - log_det.mean() / 16)


def test_samples_have_the_moments_of_each_group_in_the_leading_coordinates(model: NestedIdempotent) -> None:
    groups = torch.arange(4000) % 2
    x = 0.3 * normal(4000, 1, 4, 4) + (groups.double() - 0.5)[:, None, None, None]
    model.settle([(x[:1000], groups[:1000]), (x[1000:], groups[1000:])])
    z = model.g(x)[0]
    for k in (0, 1):
        close(model.means[k], z[groups == k].mean(0))
        expected = torch.cov(z[groups == k].T, correction=0)
        # Each group's own but for as many images of all as it says.
        torch.testing.assert_close(model.covariances[k], expected, rtol=0.05, atol=0.02)
    count, rank = 20_000, 5
    which = torch.zeros(count, dtype=torch.int64)
    made = model.images(normal(count, 1, 4, 4, seed=3), which, model.roots(rank))
    drawn = model.g(made)[0]
    assert float(drawn[:, rank:].abs().max()) < 1e-8
    torch.testing.assert_close(drawn[:, :rank].mean(0), model.means[0, :rank], rtol=0, atol=0.02)
    torch.testing.assert_close(drawn[:, :rank].T.cov(), model.covariances[0, :rank, :rank], rtol=0.05, atol=0.01)
    close(model.projector(rank)(made), made, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["linear", "coupling"])
def test_it_starts_as_pca_at_every_rank_in_the_principal_frame(images: ImageData, kind: str) -> None:
    model = FAMILY.build(configuration(kind=kind), images.event)
    noise = 0.02 * torch.randn(1000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = images.train.head(1000) + noise
    model.initialise(x)
    pca = PixelGaussian(x, 0.0)
    for rank in (1, 4, 16, 40):
        assert psnr(model.projector(rank)(x), x) == pytest.approx(psnr(pca.project(x, rank), x), abs=0.01)


def test_along_a_curve_one_coordinate_beats_pca() -> None:
    """Points of a parabola in four dimensions: one principal component cannot follow it."""
    t = 2 * torch.rand(512, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    points = torch.stack([t, 1.5 * (t.square() - 1 / 3)], 1)
    x = torch.cat([points, 0 * points], 1).view(512, 1, 2, 2) + 0.02 * normal(512, 1, 2, 2)
    config = configuration(rank=1, likelihood=0.1)
    model = FAMILY.build(config, (1, 2, 2)).double()
    model.initialise(x)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(300):
        optimiser.zero_grad()
        terms = FAMILY.losses(model, x, config, Draws(torch.Generator().manual_seed(step)))
        (10 * terms["reconstruction"] + 0.1 * terms["likelihood"]).backward()
        optimiser.step()
    with torch.no_grad():
        error = (model.projector(1)(x) - x).square().mean()
    assert float(error / model.floor[1]) < 0.25


def test_the_gain_over_pca_is_that_of_the_worst_rank_and_f_is_idempotent(trained: Trained) -> None:
    _, _, found = trained
    curve, pca = found.curves["rank/test_psnr"], found.curves["rank/test_psnr_pca"]
    assert curve.steps == [1, 4, 16, 32]
    differences = [ours - theirs for ours, theirs in zip(curve.values, pca.values, strict=True)]
    assert found.summary["test/psnr_gain"] == min(differences)
    assert found.summary["linearity/idempotency"] < 1e-4
    assert 1 < found.summary["spectrum/used_rank"] <= 6


def test_what_is_recorded_is_what_the_keys_say(trained: Trained, images: ImageData) -> None:
    config, model, found = trained
    assert sorted(found.summary) == sorted(FAMILY.summary_keys(config))
    assert all(math.isfinite(value) for value in found.summary.values())
    names = ("psnr", "psnr_pca", "psnr_pullback", "swd")
    assert set(found.curves) == {f"rank/{split}{name}" for name in names for split in ("", "test_")}
    interim = FAMILY.interim(model, config, images, Quality(("swd",), images, None, "cpu"))
    assert list(interim) == FAMILY.interim_keys(config)
    for key, value in interim.items():
        assert value == pytest.approx(found.summary[key], rel=1e-5)
    drawn = FAMILY.sample(model, 5, config, torch.Generator().manual_seed(0))
    f = model.projector(model.rank)
    torch.testing.assert_close(f(drawn), drawn, rtol=0, atol=1e-3)


def test_a_network_is_needed() -> None:
    config = configuration()
    flow = dataclasses.replace(config.model.flow, kind="identity")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, flow=flow))
    said = problems(config, (1, 8, 8), 1000, 10)["model.flow.kind"]
    assert said == "nested_projection orders the coordinates of a network; use coupling or linear"
