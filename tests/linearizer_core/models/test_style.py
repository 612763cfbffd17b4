"""Styles as operators: mixed, undone, learned and measured as linear algebra and closed forms say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.data.stylise import STYLES
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality
from linearizer_core.experiment.families.style import Style
from linearizer_core.models.base import Event
from linearizer_core.models.style import StyleTransfer
from linearizer_core.operators import (
    ConvolutionalOperator,
    DenseOperator,
    DiagonalOperator,
    LearnedDense,
    LearnedIdentityPlusLowRank,
    LearnedKernels,
    LinearOperator,
    ScaledIdentityPlusLowRank,
)

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)
STRUCTURES: dict[str, type[LinearOperator]] = {
    "diagonal": DiagonalOperator,
    "lowrank": ScaledIdentityPlusLowRank,
    "dense": DenseOperator,
    "conv": ConvolutionalOperator,
}
kinds = pytest.mark.parametrize("kind", STRUCTURES)
WEIGHTS = {"blur": 0.5, "edges": 1.2, "emboss": -0.4}


def configuration(kind: str, flow: str = "", *, rank: int = 3, held_out: int = 32, levels: int = 1) -> TrialConfig:
    """A small model; ``flow`` is a conditioner or ``identity``, by default the simplest that suits the operator."""
    conditioner = flow or ("conv" if kind == "conv" else "mlp")
    network = FlowConfig(conditioner=conditioner, depth=2, width=16, levels=levels)  # type: ignore[arg-type]
    core = OperatorConfig(kind=kind, rank=rank)  # type: ignore[arg-type]
    return TrialConfig(
        family="style",
        model=ModelConfig(flow=FlowConfig(kind="identity") if flow == "identity" else network, operator=core),
        evaluate=EvaluateConfig(held_out=held_out),
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(count: int, event: Event = (1, 4, 4), seed: int = 0) -> Tensor:
    """Images ``(count, *event)`` in [-1, 1]."""
    return torch.rand(count, *event, generator=seeded(seed), dtype=torch.float64) * 2 - 1


def no_quality(data: ImageData) -> Quality:
    """What a family is handed that has none of the sample metrics."""
    return Quality((), data, None, "cpu")


@dataclass(frozen=True)
class Trained:
    """A model, what it was trained by, and its evaluation."""

    model: StyleTransfer
    config: TrialConfig
    found: Evaluation


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load(DataConfig())


@pytest.fixture(scope="module")
def trained(images: ImageData) -> Trained:
    """Of the digits, after a few steps of Adam."""
    family, config = Style(), configuration("lowrank", rank=16, held_out=128)
    model = family.build(config, images.event)
    first = images.train.head(512)
    family.initialise(model, first, seeded())
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(100):
        optimiser.zero_grad()
        family.losses(model, first[step % 4 :: 4], config, Draws(seeded(step)))["transfer"].backward()
        optimiser.step()
    return Trained(model, config, family.evaluate(model, config, images, no_quality(images)))


@pytest.fixture
def built(randomise: Callable[..., nn.Module]) -> Callable[..., StyleTransfer]:
    """``built(kind, flow)`` is a model in float64 with all parameters randomised."""

    def build(kind: str, flow: str = "", event: Event = (1, 4, 4)) -> StyleTransfer:
        return randomise(Style().build(configuration(kind, flow), event).double())  # type: ignore[return-value]

    return build


@kinds
def test_every_style_starts_at_the_identity(kind: str) -> None:
    model, x = Style().build(configuration(kind), (1, 4, 4)).double(), random(32)
    Style().initialise(model, x, seeded())
    assert model.styles == tuple(STYLES)
    for style in model.styles:
        assert isinstance(model.operator(style), STRUCTURES[kind])
        close(model.operator(style).to_dense(), torch.eye(16, dtype=torch.float64))
        close(model(x, style), x)


def test_low_rank_starts_from_the_latents_principal_directions() -> None:
    learned = LearnedIdentityPlusLowRank(6, 2).double()
    learned.initialise(torch.diag(torch.tensor([0.1, 5.0, 0.2, 0.1, -9.0, 0.1], dtype=torch.float64)))
    for frame in (learned.u, learned.v):
        close(frame.detach().abs(), torch.eye(6, dtype=torch.float64)[:, [4, 1]])


@kinds
def test_a_mix_is_the_weighted_sum_of_the_styles_in_the_induced_space(
    built: Callable[..., StyleTransfer], kind: str
) -> None:
    model, x = built(kind), random(5)
    encode = model.transfer("blur").codomain.encode
    expected = sum(weight * encode(model(x, style)) for style, weight in WEIGHTS.items())
    close(encode(model.mix(WEIGHTS)(x)), expected)


@kinds
def test_a_mix_keeps_the_structure_of_its_operators(built: Callable[..., StyleTransfer], kind: str) -> None:
    model = built(kind)
    operator = model.mix(WEIGHTS).operator
    assert isinstance(operator, STRUCTURES[kind])
    if isinstance(operator, ScaledIdentityPlusLowRank):
        assert operator.core.shape == (9, 9)
    close(operator.to_dense(), sum(weight * model.operator(style).to_dense() for style, weight in WEIGHTS.items()))


@kinds
@torch.no_grad()
def test_interpolation_begins_and_ends_at_its_styles_and_passes_no_other(
    built: Callable[..., StyleTransfer], kind: str
) -> None:
    model, x = built(kind), random(5)
    close(model.mix({"blur": 1.0, "invert": 0.0})(x), model(x, "blur"))
    close(model.mix({"blur": 0.0, "invert": 1.0})(x), model(x, "invert"))
    middle = model.mix({"blur": 0.5, "invert": 0.5})(x)
    # Between them in the order of the styles, as an index would be; and the average of their pixels.
    for other in (model(x, "edges"), (model(x, "blur") + model(x, "invert")) / 2):
        assert float((middle - other).abs().max()) > 1e-3


@kinds
def test_a_mix_has_its_adjoint_and_is_undone_by_its_pseudo_inverse(
    built: Callable[..., StyleTransfer], kind: str
) -> None:
    model, x, y = built(kind), random(5), random(5, seed=1)
    f = model.mix(WEIGHTS)
    close(f.codomain.inner(f(x), y), f.domain.inner(x, f.adjoint()(y)))
    torch.testing.assert_close(f.pinv()(f(x)), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("flow", "shape"), [("identity", (3, 8, 6)), ("conv", (12, 4, 3))])
def test_conv_is_a_circular_convolution_of_each_channel(
    built: Callable[..., StyleTransfer], flow: str, shape: Event
) -> None:
    model = built("conv", flow, (3, 8, 6))
    learned = model.operators["emboss"]
    assert isinstance(learned, LearnedKernels)
    z = random(2, shape, seed=2)
    expected = conv2d(pad(z, (1, 1, 1, 1), mode="circular"), learned.kernels[:, None], groups=shape[0])
    close(model.operator("emboss").apply(z.flatten(1)), expected.flatten(1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (configuration("time_lowrank"), "no operator time_lowrank; use one of diagonal, lowrank, dense, conv"),
        (configuration("conv", "mlp"), "latents that are images"),
        (configuration("conv", "conv", levels=2), "got conv with levels: 2"),
        (configuration("lowrank", rank=17), "between 1 and the dimension 16, got 17"),
    ],
)
def test_what_cannot_be_built(config: TrialConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Style().build(config, (1, 4, 4))


def test_what_the_model_cannot_do(built: Callable[..., StyleTransfer]) -> None:
    model = built("diagonal")
    with pytest.raises(ValueError, match=r"no style 'cubist'; the styles are blur, edges"):
        model.mix({"blur": 0.5, "cubist": 0.5})
    with pytest.raises(ValueError, match="at least one style"):
        model.mix({})
    with pytest.raises(ValueError, match="each of 7 styles, got 6"):
        Style().losses(model, random(6), configuration("diagonal"), Draws(seeded()))


def test_weights_depend_on_the_seed_alone() -> None:
    config = configuration("lowrank")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = Style().build(config, (1, 4, 4)), Style().build(config, (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_the_loss_of_the_identity_is_the_mean_distance_to_the_targets() -> None:
    config = configuration("dense", "identity")
    model, image = Style().build(config, (3, 8, 8)).double(), random(1, (3, 8, 8))
    errors = [(style(image) - image).square().mean() for style in STYLES.values()]
    # Equal images: whichever of them a style is given, its error is that of the image.
    loss = Style().losses(model, image.repeat(9, 1, 1, 1), config, Draws(seeded()))
    assert set(loss) == {"transfer"}
    close(loss["transfer"], torch.stack(errors).mean())


def test_the_latent_term_is_zero_of_exact_operators_and_the_same_at_any_scale_of_latents() -> None:
    config = configuration("dense", "identity")
    weights = dataclasses.replace(config.train.loss, latent=1.0, transfer=0.0)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, loss=weights))
    model, x = Style().build(config, (1, 8, 8)).double(), random(70, (1, 8, 8))

    def latent() -> Tensor:
        found = Style().losses(model, x, config, Draws(seeded()))
        assert set(found) == {"latent"}
        return found["latent"].detach()

    shares = x[torch.randperm(70, generator=seeded())].tensor_split(len(STYLES))
    ratios = [
        ((style(each) - each).flatten(1).square().sum(1) / each.flatten(1).square().sum(1)).mean()
        for style, each in zip(STYLES.values(), shares, strict=True)
    ]
    close(latent(), torch.stack(ratios).mean())
    eye = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    for name in ("blur", "invert"):  # the two that are linear, where nothing is clamped
        learned = model.operators[name]
        assert isinstance(learned, LearnedDense)
        learned.matrix.data.copy_(STYLES[name](eye).flatten(1).T)
    left = [ratio for name, ratio in zip(STYLES, ratios, strict=True) if name not in ("blur", "invert")]
    close(latent(), torch.stack(left).sum() / len(STYLES))


def test_restoration_of_really_stylised_images_is_that_of_the_inverse_operators(images: ImageData) -> None:
    """With operators that are the styles, blur and negative are taken off; the other styles stay as they are."""
    config = configuration("dense", "identity")
    model = Style().build(config, images.event)
    eye = torch.eye(64).view(64, 1, 8, 8)
    for name in ("blur", "invert"):
        learned = model.operators[name]
        assert isinstance(learned, LearnedDense)
        learned.matrix.data.copy_(STYLES[name](eye).flatten(1).T)
    found = Style().evaluate(model, config, images, no_quality(images)).summary
    x = images.validation[:32]
    rest = [style(x) for name, style in STYLES.items() if name not in ("blur", "invert")]
    kept = [10 * math.log10(4 / float((each - x).double().square().mean())) for each in rest]
    undone = found["quality/restored_psnr"] * len(STYLES) - sum(kept)
    assert undone > 2 * 50
    unchanged = Style().references(config, images, no_quality(images))["images unchanged"].summary
    assert found["quality/restored_psnr"] > unchanged["quality/restored_psnr"] + 5


def test_shares_are_drawn_anew_and_on_average_of_all_images() -> None:
    config = configuration("dense", "identity")
    model, x = Style().build(config, (1, 8, 8)).double(), random(10, (1, 8, 8)) ** 3
    drawn = torch.stack(
        [Style().losses(model, x, config, Draws(seeded(seed)))["transfer"] for seed in range(100)]
    ).detach()
    expected = torch.stack([(style(x) - x).square().mean() for style in STYLES.values()]).mean()
    assert float(drawn.std()) > 0
    assert abs(float(drawn.mean() - expected)) < 5 * float(drawn.std()) / math.sqrt(len(drawn))


def test_with_the_identity_as_g_training_reaches_the_least_squares_operators() -> None:
    config, count = configuration("dense", "identity"), 7 * 200
    model, x = Style().build(config, (1, 8, 8)).double(), random(count, (1, 8, 8))
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=60, history_size=20, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = Style().losses(model, x, config, Draws(seeded()))["transfer"]
        loss.backward()
        return loss

    optimiser.step(closure)
    shares = x[torch.randperm(count, generator=seeded())].tensor_split(len(STYLES))
    least = []
    for style, share in zip(STYLES.values(), shares, strict=True):
        flat, target = share.flatten(1), style(share).flatten(1)
        solution = torch.linalg.lstsq(flat, target).solution
        least.append((flat @ solution - target).square().mean())
    torch.testing.assert_close(closure().detach(), torch.stack(least).mean(), rtol=1e-6, atol=0)
    eye = torch.eye(64, dtype=torch.float64)
    blur = STYLES["blur"](eye.view(64, 1, 8, 8)).flatten(1).T
    for style, matrix in (("invert", -eye), ("blur", blur)):
        torch.testing.assert_close(model.operator(style).to_dense().detach(), matrix, rtol=0, atol=1e-3)


@kinds
def test_the_loss_trains_the_network_and_all_operators(built: Callable[..., StyleTransfer], kind: str) -> None:
    model = built(kind, event=(1, 8, 8))
    Style().losses(model, random(14, (1, 8, 8)), configuration(kind), Draws(seeded()))["transfer"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_training_on_digits_comes_nearer_to_the_targets_than_the_images_are(
    trained: Trained, images: ImageData
) -> None:
    found = trained.found.summary
    unchanged = Style().references(trained.config, images, no_quality(images))["images unchanged"].summary
    for key in ("quality/psnr_collapsed", "test/psnr_collapsed"):
        assert found[key] > unchanged[key] + 2
    assert found["linearity/additivity"] < 1e-3
    assert found["linearity/inverse_psnr"] > 60


def test_what_is_recorded_is_what_the_keys_say(trained: Trained, images: ImageData) -> None:
    config, found = trained.config, trained.found
    assert sorted(found.summary) == sorted(Style().summary_keys(config))
    assert set(found.spectra) == set(STYLES)
    interim = Style().interim(trained.model, config, images, no_quality(images))
    assert list(interim) == Style().interim_keys(config)
    assert interim["quality/psnr_collapsed"] == found.summary["quality/psnr_collapsed"]


@torch.no_grad()
def test_psnr_is_that_of_the_clamped_images_and_averaged_over_styles(trained: Trained, images: ImageData) -> None:
    model, found, x = trained.model, trained.found.summary, images.test[:128]
    each = []
    for style, function in STYLES.items():
        error = (model(x, style).clamp(-1, 1) - function(x)).double().square().mean()
        each.append(10 * math.log10(4 / float(error)))
        assert found[f"test/psnr_{style}_collapsed"] == pytest.approx(each[-1], abs=1e-3)
    assert found["test/psnr_collapsed"] == pytest.approx(sum(each) / len(each), abs=1e-3)


def test_of_the_identity_everything_measured_is_known(images: ImageData) -> None:
    config = configuration("dense", "identity")
    found = Style().evaluate(Style().build(config, images.event), config, images, no_quality(images)).summary
    x = images.validation[:32]
    for style, function in STYLES.items():
        error = float((x - function(x)).double().square().mean())
        assert found[f"quality/psnr_{style}_collapsed"] == pytest.approx(10 * math.log10(4 / error), abs=1e-6)
    unchanged = Style().references(config, images, no_quality(images))["images unchanged"].summary
    assert found["quality/psnr_collapsed"] == pytest.approx(unchanged["quality/psnr_collapsed"], abs=1e-6)
    assert found["linearity/inverse_psnr"] > 120
    assert found["spectrum/effective_rank"] == pytest.approx(64)
    assert found["spectrum/condition"] == pytest.approx(1)
    assert found["linearity/lipschitz_g"] == pytest.approx(1, abs=1e-5)
    assert found["cost/params"] == 7 * 64**2
    assert found["cost/sample_mflop_collapsed"] == pytest.approx(2 * 64**2 / 1e6)


def test_the_reference_is_what_the_identity_scores(images: ImageData) -> None:
    config = configuration("dense", "identity")
    found = Style().evaluate(Style().build(config, images.event), config, images, no_quality(images)).summary
    rows = Style().references(config, images, no_quality(images))
    assert list(rows) == ["images unchanged"]
    assert len(rows["images unchanged"].summary) == 20
    for name, value in rows["images unchanged"].summary.items():
        assert found[name] == pytest.approx(value, abs=1e-4)


def test_images_that_are_not_finite_have_no_score(images: ImageData) -> None:
    config = configuration("dense", "identity")
    model = Style().build(config, images.event)
    learned = model.operators["sepia"]
    assert isinstance(learned, LearnedDense)
    with torch.no_grad():
        learned.matrix[:, ::8] = 3e38  # the left border is black: the sum overflows, to -inf and not to NaN
    assert bool(model(images.validation[:1], "sepia").isneginf().all())
    assert math.isnan(
        Style().interim(model, config, images, Quality((), images, None, "cpu"))["quality/psnr_collapsed"]
    )


@torch.no_grad()
def test_samples_are_validation_images_in_one_style_after_the_other(trained: Trained, images: ImageData) -> None:
    model, config = trained.model, trained.config
    made = Style().sample(model, 9, config, seeded(3))
    chosen = images.validation[torch.randint(len(images.validation), (9,), generator=seeded(3))]
    for i in range(9):
        torch.testing.assert_close(made[i], model(chosen[i][None], list(STYLES)[i % 7])[0], rtol=0, atol=1e-5)
    assert Style().sample(model, 3, config, seeded(3)).shape == (3, 1, 8, 8)
    assert not torch.equal(made, Style().sample(model, 9, config, seeded(4)))


@torch.no_grad()
def test_pictures_are_rows_of_eight(trained: Trained, images: ImageData) -> None:
    model, grids, x = trained.model, trained.found.grids, images.validation
    names = list(STYLES)
    same = partial(torch.testing.assert_close, rtol=0, atol=1e-4)
    assert {name: len(grid) for name, grid in grids.items()} == {"styles": 64, "interpolation": 56, "mixes": 64}
    made, targets = grids["styles"][16:24], grids["styles"][24:32]  # of the second image
    for row, style in ((made, partial(model, style="emboss")), (targets, STYLES["emboss"])):
        same(row[0], x[1])
        same(row[1 + names.index("emboss")], style(x[1:2])[0])
    way = grids["interpolation"][24:32]  # the fourth pair, on the fourth image
    same(way[0], model(x[3:4], names[3])[0])
    same(way[7], model(x[3:4], names[4])[0])
    mixes = grids["mixes"][8:16]
    same(mixes[0], x[1])
    same(mixes[2], model(x[1:2], names[1])[0])
    same(mixes[7], model.mix(dict.fromkeys(names[:3], 1 / 3))(x[1:2])[0])
