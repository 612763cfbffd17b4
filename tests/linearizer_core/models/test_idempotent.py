"""Idempotent Linearizers: projector algebra, principal components, the fitted Gaussian, and the family's recipe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
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
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality
from linearizer_core.experiment.families.idempotent import Idempotent
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.models import idempotent
from linearizer_core.models.idempotent import IdempotentLinearizer, isometry, telling_axes
from linearizer_core.operators import SpectrumProjection

EVENT = (1, 4, 4)
DIM = 16
KINDS = ["projection", "learned_projection"]

close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pictures(count: int, seed: int = 0) -> Tensor:
    """Images of mean 0 whose principal axes have well separated variances."""
    frame = torch.linalg.qr(normal(DIM, DIM, seed=99))[0]
    flat = normal(count, DIM, seed=seed) * torch.logspace(0, -1.5, DIM, dtype=torch.float64) @ frame.T
    return (flat - flat.mean(0)).view(count, *EVENT)


def trial(kind: str, *, flow: str = "coupling", rank: int = 5, loss: LossConfig | None = None) -> TrialConfig:
    return TrialConfig(
        family="idempotent",
        model=ModelConfig(
            flow=FlowConfig(kind=flow, depth=2, width=16),  # type: ignore[arg-type]
            operator=OperatorConfig(kind=kind, rank=rank),  # type: ignore[arg-type]
        ),
        train=TrainConfig(loss=loss or LossConfig()),
        evaluate=EvaluateConfig(samples=64, held_out=64, quality=("swd",)),
        seed=3,
    )


@pytest.fixture
def projector(randomise: Callable[..., nn.Module]) -> Callable[[str], IdempotentLinearizer]:
    """``projector(kind)``: a model in float64 with all parameters randomised, of rank 5."""

    def build(kind: str) -> IdempotentLinearizer:
        model = Idempotent().build(trial(kind), EVENT).double()
        model.initialise(pictures(200))
        randomise(model, 4)
        if isinstance(model.projection, SpectrumProjection):
            with torch.no_grad():
                model.projection.logits.copy_(torch.where(torch.arange(DIM) % 3 == 1, 1.0, -1.0))
        return model

    return build


@pytest.mark.parametrize("kind", KINDS)
def test_a_projector_in_the_induced_space(kind: str, projector: Callable[[str], IdempotentLinearizer]) -> None:
    model = projector(kind)
    f, x, y = model.projector(), pictures(7, seed=1), pictures(7, seed=2)
    with torch.no_grad():
        close(model(x), f(x))
        close(f(f(x)), f(x))
        assert float((f(x) - x).norm()) > 0.1
        close(f.domain.inner(f(x), y), f.domain.inner(x, f(y)))
        close(f.domain.norm(x).square(), f.domain.norm(f(x)).square() + f.domain.distance(x, f(x)).square())
        assert f.operator.rank() == 5
        close(torch.linalg.eigvalsh(f.operator.to_dense()), torch.tensor([0.0] * 11 + [1.0] * 5, dtype=torch.float64))
        annihilated = f.null_projection()(x)
        close(f(annihilated), f.domain.zero(x))
        assert float((annihilated - f.domain.zero(x)).norm()) > 0.1


def test_of_the_identity_it_is_principal_component_analysis() -> None:
    x = pictures(300)
    flat = x.flatten(1).numpy()
    values = np.linalg.eigvalsh(flat.T @ flat / len(flat))[::-1]
    vectors = np.linalg.svd(flat)[2]
    for rank in (1, 5, DIM):
        model = Idempotent().build(trial("projection", flow="identity", rank=rank), EVENT).double()
        Idempotent().initialise(model, x, torch.Generator())
        made = model(x).detach()
        close(made.flatten(1), torch.from_numpy(flat @ vectors[:rank].T @ vectors[:rank]))
        assert float((made - x).square().flatten(1).sum(1).mean()) == pytest.approx(values[rank:].sum(), abs=1e-10)


@pytest.mark.parametrize("kept", [2, 9])
def test_a_learned_rank_starts_where_error_and_price_are_least(kept: int) -> None:
    """Of ranks r, Σ_{i > r} λ_i + price · r is least where the price is between λ_r and λ_{r+1}."""
    x = pictures(300)
    values = np.linalg.eigvalsh(x.flatten(1).numpy().T @ x.flatten(1).numpy() / len(x))[::-1]
    price = math.sqrt(values[kept - 1] * values[kept])
    loss = LossConfig(reconstruction=4.0, sparsity=4 * price)
    model = Idempotent().build(trial("learned_projection", flow="identity", loss=loss), EVENT).double()
    model.initialise(x)
    assert isinstance(model.projection, SpectrumProjection)
    assert model.projection.rank() == kept
    made = model(x).detach()
    assert float((made - x).square().flatten(1).sum(1).mean()) == pytest.approx(values[kept:].sum())
    model.initialise(x)  # once more: its latents' axes are the coordinates already
    close(model(x).detach(), made)
    assert model.projection.spectrum().tolist() == [1] * kept + [0] * (DIM - kept)


def test_a_learned_rank_without_a_price_starts_full() -> None:
    loss = LossConfig(reconstruction=1.0, sparsity=0.0)
    model = Idempotent().build(trial("learned_projection", loss=loss), EVENT).double()
    model.initialise(pictures(100))
    assert model.projector().operator.rank() == DIM


def test_of_white_latents_the_axes_are_those_that_tell_most_of_the_pixels() -> None:
    """x = M z with exactly white z: dropping all but the leading right singular vectors of M costs least."""
    z = torch.linalg.qr(normal(400, 6))[0] * math.sqrt(400)
    matrix = normal(9, 6, seed=1)
    axes = telling_axes(z @ matrix.T, z, 4)
    expected = np.linalg.svd(matrix.numpy())[2][:4].T
    close(axes @ axes.T, torch.from_numpy(expected @ expected.T))
    close((axes.T @ torch.from_numpy(expected)).abs(), torch.eye(4, dtype=torch.float64))


def test_few_of_many_axes_are_found_without_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = torch.linalg.qr(normal(200, 200))[0]
    scales = torch.logspace(0, -4, 200, dtype=torch.float64)
    x = torch.linalg.qr(normal(400, 200, seed=1))[0] * scales @ frame.T
    exact = telling_axes(x, x, 6)
    close((exact.T @ frame[:, :6]).abs(), torch.eye(6, dtype=torch.float64))
    monkeypatch.setattr(idempotent, "EXACT", 100)
    before = torch.get_rng_state()
    few = telling_axes(x, x, 6)
    torch.testing.assert_close(few @ few.T, exact @ exact.T, rtol=0, atol=1e-5)
    assert torch.equal(few, telling_axes(x, x, 6))
    assert torch.equal(torch.get_rng_state(), before)


def projected(model: IdempotentLinearizer, x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    with torch.no_grad():
        found: np.ndarray[Any, np.dtype[np.float64]] = model.projection(model.g(x)[0]).numpy()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_settling_fits_the_latents_mean_and_covariance(
    kind: str, projector: Callable[[str], IdempotentLinearizer]
) -> None:
    model, x = projector(kind), pictures(90, seed=5)
    model.settle(x.split(40))
    latents = projected(model, x)
    factor, rest = model.latent_factor, model.latent_rest
    assert factor.shape == ((DIM, 5) if kind == "projection" else (DIM, DIM))
    close(model.latent_mean, torch.from_numpy(latents.mean(0)))
    close(factor @ factor.T, torch.from_numpy(np.cov(latents.T)))
    assert float(rest.max()) < 1e-6
    lengths = factor.norm(dim=0)
    assert torch.equal(lengths, lengths.sort(descending=True).values)
    close(factor.T @ factor, torch.diag(lengths.square()))
    assert float(lengths[5:].sum()) < 1e-6


def test_a_factor_that_is_too_narrow_leaves_each_coordinate_its_variance(
    projector: Callable[[str], IdempotentLinearizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotent, "LARGEST_FACTOR", 3)
    model, x = projector("learned_projection"), pictures(90, seed=5)
    model.settle([x])
    covariance = np.cov(projected(model, x).T)
    values, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, -3:] * values[-3:] @ vectors[:, -3:].T
    assert model.latent_factor.shape == (DIM, 3)
    close(model.latent_factor @ model.latent_factor.T, torch.from_numpy(leading))
    close(model.latent_rest.square(), torch.from_numpy(np.diag(covariance - leading).copy()))
    assert float(model.latent_rest.max()) > 0.1
    samples = model.sample(200, torch.Generator().manual_seed(0))
    close(model(samples).detach(), samples)


@pytest.mark.parametrize("count", [0, 1])
def test_a_covariance_of_less_than_two_images(count: int, projector: Callable[[str], IdempotentLinearizer]) -> None:
    with pytest.raises(ValueError, match=f"a covariance needs at least two images, got {count}"):
        projector("projection").settle(pictures(3)[:count].split(1))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_lie_in_the_image(kind: str, projector: Callable[[str], IdempotentLinearizer]) -> None:
    model = projector(kind)
    unsettled = model.sample(4, torch.Generator().manual_seed(0))
    close(unsettled, model.projector().domain.zero(unsettled).detach())
    model.settle([pictures(90)])
    samples = model.sample(12, torch.Generator().manual_seed(0))
    assert samples.shape == (12, *EVENT)
    close(model(samples).detach(), samples)
    assert float(samples.std(0).min()) > 0.01
    assert torch.equal(samples, model.sample(12, torch.Generator().manual_seed(0)))
    mean = model.g.inverse(model.latent_mean[None])[0].detach()
    close(model.sample(3, torch.Generator(), temperature=0.0), mean.expand(3, -1, -1, -1))


@pytest.mark.parametrize("columns", [3, 512])
def test_samples_have_the_latents_moments(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whitened by the fitted Gaussian, the latents of many samples have mean 0 and unit covariance."""
    monkeypatch.setattr(idempotent, "LARGEST_FACTOR", columns)
    loss = LossConfig(reconstruction=1.0, sparsity=0.0)
    model = Idempotent().build(trial("learned_projection", flow="identity", loss=loss), EVENT).double()
    model.settle([pictures(200) + 0.3])
    count = 40_000
    latents = torch.from_numpy(projected(model, model.sample(count, torch.Generator().manual_seed(0))))
    covariance = model.latent_factor @ model.latent_factor.T + torch.diag(model.latent_rest.square())
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (latents - model.latent_mean).T, upper=False
    ).T
    assert float(white.mean(0).abs().max()) < 4.5 / math.sqrt(count)
    assert float((white.T @ white / count - torch.eye(DIM)).abs().max()) < 5 * math.sqrt(2 / count)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_samples_what_the_saved_one_did(
    kind: str, projector: Callable[[str], IdempotentLinearizer]
) -> None:
    model = projector(kind)
    model.settle([pictures(90)])
    other = Idempotent().build(trial(kind), EVENT).double()
    other.load_state_dict(model.state_dict())
    assert torch.equal(
        other.sample(9, torch.Generator().manual_seed(2)), model.sample(9, torch.Generator().manual_seed(2))
    )


def test_straight_through_gradients_of_the_logits() -> None:
    """∂/∂λ_i of the mean square of (λ_i - 1) x_i is 2 (λ_i - 1) E x_i² / dim, and of Σλ / dim it is 1 / dim."""
    config = trial("learned_projection", flow="identity", loss=LossConfig(reconstruction=1.0, sparsity=1.0))
    model = Idempotent().build(config, EVENT).double()
    assert isinstance(model.projection, SpectrumProjection)
    logits = normal(DIM, seed=8)
    with torch.no_grad():
        model.projection.logits.copy_(logits)
    x = pictures(20)
    terms = Idempotent().losses(model, x, config, Draws(torch.Generator()))
    slope = logits.sigmoid() * (1 - logits.sigmoid()) / DIM
    dropped = (logits < 0).double()
    expected = {"reconstruction": -2 * dropped * x.flatten(1).square().mean(0) * slope, "sparsity": slope}
    for name, gradient in expected.items():
        close(torch.autograd.grad(terms[name], model.projection.logits, retain_graph=True)[0], gradient)
    assert float(terms["sparsity"].detach()) == pytest.approx(float((logits > 0).double().mean()))
    close(terms["reconstruction"].detach(), (dropped * x.flatten(1)).square().mean())


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_isometry_of_a_scaling(factor: float) -> None:
    x, shift = normal(6, *EVENT), normal(DIM, seed=1)
    found = isometry(factor * x.flatten(1) + shift, shift[None], x)
    assert float(found) == pytest.approx(math.log(factor**2) ** 2, abs=1e-12)


def test_isometry_is_finite_at_zero() -> None:
    z = torch.zeros(2, DIM, requires_grad=True)
    isometry(z, torch.zeros(DIM), torch.zeros(2, *EVENT)).backward()
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


@pytest.mark.parametrize("kind", KINDS)
def test_terms_of_the_loss(kind: str, projector: Callable[[str], IdempotentLinearizer]) -> None:
    model, x = projector(kind), pictures(8, seed=2)
    every = LossConfig(reconstruction=1.0, sparsity=1.0, isometry=1.0, likelihood=1.0)
    terms = Idempotent().losses(model, x, trial(kind, loss=every), Draws(torch.Generator()))
    names = {"reconstruction", "isometry", "likelihood"} | ({"sparsity"} if kind == "learned_projection" else set())
    assert terms.keys() == names
    z, log_det = model.g(x)
    nats = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + log_det
    close(terms["likelihood"] + 0.5 * math.log(2 * math.pi), -nats.mean() / DIM)
    close(terms["reconstruction"], (model(x) - x).square().mean())
    origin = model.g(torch.zeros(1, *EVENT, dtype=torch.float64))[0]
    close(terms["isometry"], isometry(z, origin, x))
    none = LossConfig(reconstruction=0.0, sparsity=0.0, isometry=0.0, likelihood=0.0)
    for name in names:
        one = trial(kind, loss=dataclasses.replace(none, **{name: 2.0}))
        alone = Idempotent().losses(model, x, one, Draws(torch.Generator()))
        assert alone.keys() == {name}
        close(alone[name], terms[name])


def test_operators_of_other_families() -> None:
    with pytest.raises(ValueError, match="no operator time_lowrank; use one of projection, learned_projection"):
        Idempotent().build(trial("time_lowrank"), EVENT)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_fixed_by_the_seed(kind: str) -> None:
    config = trial(kind)
    first, again = Idempotent().build(config, EVENT), Idempotent().build(config, EVENT)
    other = Idempotent().build(dataclasses.replace(config, seed=4), EVENT)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


Evaluated = tuple[TrialConfig, IdempotentLinearizer, dict[str, float], Evaluation, list[float]]


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load(DataConfig())


@pytest.fixture(scope="module", params=KINDS)
def evaluated(request: pytest.FixtureRequest, images: ImageData) -> Evaluated:
    """A model after a few epochs on the digits, its interim and final evaluations, and its PSNR before and after."""
    loss = LossConfig(reconstruction=10.0, sparsity=1.0, likelihood=0.0)
    config = dataclasses.replace(
        trial(request.param, rank=12),
        train=TrainConfig(epochs=8, batch_size=64, lr=1e-2, ema=0.5, loss=loss),
    )
    quality = Quality(("swd",), images, None, "cpu")
    trainer, family = Trainer(config, images), Idempotent()
    assert isinstance(trainer.averaged, IdempotentLinearizer)
    reached = [family.interim(trainer.averaged, config, images, quality)["quality/psnr_collapsed"]]
    for _ in fit(trainer):
        pass
    model = trainer.averaged
    assert isinstance(model, IdempotentLinearizer)
    interim = family.interim(model, config, images, quality)
    reached.append(interim["quality/psnr_collapsed"])
    return config, model, interim, family.evaluate(model, config, images, quality), reached


def test_keys_are_complete(evaluated: Evaluated) -> None:
    config, _, interim, evaluation, _ = evaluated
    keys = ["quality/swd_collapsed", "quality/swd_sampled", "quality/psnr_collapsed"]
    assert list(interim) == Idempotent().interim_keys(config) == keys
    assert sorted(evaluation.summary) == sorted(Idempotent().summary_keys(config))
    assert all(isinstance(value, float) and math.isfinite(value) for value in evaluation.summary.values())
    for key, value in interim.items():
        assert value == evaluation.summary[key]


def test_training_improves_reconstruction(evaluated: Evaluated) -> None:
    config, model, _, evaluation, (before, after) = evaluated
    assert after > before + 0.2
    rank = model.projector().operator.rank()
    assert evaluation.summary["spectrum/rank"] == rank
    assert evaluation.summary["spectrum/active_fraction"] == rank / 64
    if config.model.operator.kind == "projection":
        assert rank == 12
    else:
        assert 12 < rank < 40


def test_measures_of_a_trained_projector(evaluated: Evaluated, images: ImageData) -> None:
    config, model, _, evaluation, _ = evaluated
    summary = evaluation.summary
    with torch.no_grad():
        once = model(images.test[:64])
    error = float((once - images.test[:64]).double().square().mean())
    assert summary["test/psnr_collapsed"] == pytest.approx(10 * math.log10(4 / error), abs=1e-3)
    assert 0 < summary["test/ssim_collapsed"] < 1
    assert summary["linearity/idempotency"] < 1e-4
    samples = Idempotent().sample(model, 64, config, torch.Generator().manual_seed(99))
    torch.testing.assert_close(evaluation.grids["collapsed"], samples)
    with torch.no_grad():
        torch.testing.assert_close(model(samples), samples, rtol=0, atol=1e-4)
    noise = model.noise(64, torch.Generator().manual_seed(99))
    torch.testing.assert_close(evaluation.grids["noise"], model(noise).detach())
    assert summary["quality/swd_collapsed"] < summary["quality/swd_noise"]


def test_grids(evaluated: Evaluated, images: ImageData) -> None:
    _, model, _, evaluation, _ = evaluated
    assert evaluation.grids.keys() == {"collapsed", "noise", "reconstruction", "interpolation", "axes"}
    assert all(grid.shape == (64, 1, 8, 8) for grid in evaluation.grids.values())
    pairs, shown = evaluation.grids["reconstruction"], images.validation[:32]
    assert torch.equal(pairs[::2], shown)
    with torch.no_grad():
        torch.testing.assert_close(pairs[1::2], model(shown))
        ways = evaluation.grids["interpolation"]
        torch.testing.assert_close(ways[::8], model(shown[:8]), rtol=0, atol=1e-4)
        torch.testing.assert_close(ways[7::8], model(shown[8:16]), rtol=0, atol=1e-4)
        for grid in (ways, evaluation.grids["axes"]):
            torch.testing.assert_close(model(grid), grid, rtol=0, atol=1e-3)


def test_samples_in_batches_and_at_a_temperature(evaluated: Evaluated) -> None:
    config, model, *_ = evaluated
    config, cold = (
        dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, temperature=temperature))
        for temperature in (1.0, 0.5)
    )
    many = Idempotent().sample(model, 1500, cold, torch.Generator().manual_seed(0))
    warm = Idempotent().sample(model, 1500, config, torch.Generator().manual_seed(0))
    assert many.shape == warm.shape == (1500, 1, 8, 8)
    with torch.no_grad():
        spread, full = (model.g(images)[0].std(0).square().sum().sqrt() for images in (many, warm))
    assert float(spread / full) == pytest.approx(0.5, rel=1e-3)


def test_a_model_of_rank_zero_is_measured(images: ImageData) -> None:
    """A price that nothing is worth: f is constant, and nothing breaks."""
    config = trial("learned_projection", loss=LossConfig(reconstruction=1.0, sparsity=1e6))
    model = Idempotent().build(config, (1, 8, 8))
    model.initialise(images.train.head(500))
    quality = Quality(("swd",), images, None, "cpu")
    interim = Idempotent().interim(model, config, images, quality)
    assert model.projector().operator.rank() == 0
    assert all(math.isfinite(value) for value in interim.values())
