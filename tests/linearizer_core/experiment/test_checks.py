"""The rules between a configuration's fields: each problem names its field, the fault and the remedy."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from linearizer_core.experiment.checks import (
    LARGEST_FRAME,
    model_problems,
    problems,
    worker_problems,
)
from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
    from_mapping,
    to_mapping,
)
from linearizer_core.experiment.families import BUILT_IN, family_of
from linearizer_core.experiment.recipes import RECIPES, expand
from linearizer_core.metrics import imagenet, inception, perceptual

EVENT, IMAGES, CLASSES = (1, 8, 8), 1079, 10
OPERATORS = {family: family_of(from_mapping(TrialConfig, {"family": family})).operators for family in BUILT_IN}

SMALL = TrialConfig(train=TrainConfig(epochs=4, batch_size=64))
PIXELS, PRINCIPAL = FlowConfig(frame="pixels"), FlowConfig(frame="principal")


def found_in(config: TrialConfig, event: tuple[int, int, int] = EVENT, classes: int = CLASSES) -> dict[str, str]:
    return problems(config, event, IMAGES, classes)


def replace(name: str, value: object) -> TrialConfig:
    """SMALL with one dotted field set."""
    values = to_mapping(SMALL)
    *path, last = name.split(".")
    inner = values
    for key in path:
        inner = inner[key]
    inner[last] = value
    config: TrialConfig = from_mapping(TrialConfig, values)
    return config


def with_model(**fields: Any) -> TrialConfig:
    return dataclasses.replace(SMALL, model=ModelConfig(**fields))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.operator.rank", 65, "rank 65 exceeds the data's dimension 64 (digits: 1×8×8); use 1 … 64"),
        ("train.batch_size", 1080, "1080 exceeds the 1079 training images of digits"),
        ("evaluate.steps", [], "must be ascending positive step counts such as [1, 10, 100], got []"),
        ("evaluate.steps", [4, 2], "got [4, 2]"),
        ("evaluate.steps", [2, 2], "got [2, 2]"),
        ("evaluate.steps", [0, 2], "got [0, 2]"),
        ("evaluate.quality", [], "names no metric; give at least one, such as [classifier_fd]"),
        ("evaluate.quality", ["swd", "recall", "swd"], "names a metric twice: ['swd', 'recall', 'swd']"),
        ("evaluate.every", 5, "5 exceeds train.epochs = 4"),
    ],
)
def test_problems_name_the_field_the_fault_and_the_remedy(name: str, value: object, message: str) -> None:
    found = found_in(replace(name, value))
    assert list(found) == [name]
    assert message in found[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.operator.rank", 64),
        ("train.batch_size", 1079),
        ("evaluate.steps", [3]),
        ("evaluate.every", 4),
        ("model.flow.conditioner", "conv"),
        ("train.distance", "gradient_ssim"),
    ],
)
def test_no_problems_at_the_bounds(name: str, value: object) -> None:
    assert found_in(replace(name, value)) == {}


@pytest.mark.parametrize("kind", ["time_lowrank", "time_diagonal", "time_factors", "time_dense"])
def test_only_kinds_with_a_rank_have_one_to_exceed(kind: str) -> None:
    config = with_model(operator=OperatorConfig(kind=kind, rank=1000))  # type: ignore[arg-type]
    assert found_in(config).keys() == (set() if kind == "time_dense" else {"model.operator.rank"})


@pytest.mark.parametrize("conditioner", ["conv", "unet"])
@pytest.mark.parametrize("event", [(1, 7, 8), (1, 8, 7)])
def test_convolutions_need_even_sides(conditioner: str, event: tuple[int, int, int]) -> None:
    found = found_in(replace("model.flow.conditioner", conditioner), event)
    sides = f"{event[1]}×{event[2]}"
    assert found == {"model.flow.conditioner": f"{conditioner} needs even image sides, digits is {sides}; use mlp"}
    assert found_in(SMALL, event) == {}
    assert found_in(with_model(flow=FlowConfig(kind="identity", conditioner="conv")), event) == {}


def flow_problems(event: tuple[int, int, int], **fields: Any) -> dict[str, str]:
    return found_in(with_model(flow=FlowConfig(**fields)), event)


def test_levels_must_fit_the_image_and_the_conditioner() -> None:
    assert flow_problems(EVENT, conditioner="conv", levels=3) == {}
    found = flow_problems(EVENT, conditioner="conv", levels=4)
    assert found == {"model.flow.levels": "each level halves the image; digits's 8×8 allows 1 … 3, got 4"}
    assert "allows 1 … 1" in flow_problems((1, 12, 6), conditioner="unet", levels=2)["model.flow.levels"]
    found = flow_problems(EVENT, levels=2)
    assert found == {"model.flow.levels": "an mlp conditioner has 1 level, got 2; use a conv or unet conditioner"}


def test_a_unet_needs_channels_to_normalise() -> None:
    assert "at least 2, got 1" in flow_problems(EVENT, conditioner="unet", width=1)["model.flow.width"]
    assert flow_problems(EVENT, conditioner="unet", width=2) == {}


def test_all_problems_are_found_at_once() -> None:
    config = TrialConfig(
        model=ModelConfig(operator=OperatorConfig(rank=100)),
        train=TrainConfig(batch_size=5000, epochs=1),
        evaluate=EvaluateConfig(steps=(2, 1), quality=(), every=2),
    )
    assert found_in(config).keys() == {
        "model.operator.rank", "train.batch_size", "evaluate.steps", "evaluate.quality", "evaluate.every",
    }  # fmt: skip


def silent(**weights: float) -> LossConfig:
    """All weights zero but these."""
    nothing = dict.fromkeys(dataclasses.asdict(LossConfig()), 0.0)
    return LossConfig(**{**nothing, **weights})


FAMILIES = {
    family: from_mapping(TrialConfig, expand({"family": family, "train": {"batch_size": 64}})) for family in OPERATORS
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_without_terms_of_the_family_is_a_problem(family: str) -> None:
    config = FAMILIES[family]
    assert found_in(config) == {}
    own = family_of(config).terms
    others = {name: 1.0 for name in dataclasses.asdict(LossConfig()) if name not in own}
    unweighted = dataclasses.replace(config, train=dataclasses.replace(config.train, loss=silent(**others)))
    found = found_in(unweighted)
    assert list(found) == ["train.loss"]
    assert found["train.loss"].startswith(f"every weight of {family} is zero")
    assert found["train.loss"].endswith(", ".join(own))


@pytest.mark.parametrize(
    ("flow", "noise_flow", "loss", "trains"),
    [
        ("identity", "same", {"data": 1.0}, False),
        ("identity", "same", {"likelihood": 1.0, "noise": 1.0, "whitening": 1.0}, False),
        ("identity", "same", {"flow": 1.0}, True),
        ("identity", "same", {"endpoint": 1.0}, True),
        ("coupling", "identity", {"noise": 1.0}, False),
        ("coupling", "identity", {"data": 1.0}, True),
        ("coupling", "identity", {"likelihood": 1.0}, True),
        ("coupling", "identity", {"whitening": 1.0}, True),
        ("coupling", "same", {"noise": 1.0}, True),
    ],
)
def test_some_term_must_have_something_to_train(
    flow: str, noise_flow: str, loss: dict[str, float], trains: bool
) -> None:
    model = ModelConfig(flow=FlowConfig(kind=flow), noise_flow=noise_flow)  # type: ignore[arg-type]
    train = dataclasses.replace(SMALL.train, loss=silent(**loss))
    found = found_in(dataclasses.replace(SMALL, model=model, train=train))
    assert found.keys() == (set() if trains else {"train.loss"})
    if not trains:
        assert found["train.loss"].endswith("train nothing; give a weight to flow or endpoint")


@pytest.mark.parametrize(
    ("flow", "kind", "loss", "trains"),
    [
        ("identity", "projection", {"reconstruction": 1.0}, True),
        ("identity", "projection", {"sparsity": 1.0}, False),
        ("coupling", "projection", {"sparsity": 1.0}, False),
        ("identity", "learned_projection", {"sparsity": 1.0}, True),
        ("identity", "projection", {"isometry": 1.0, "likelihood": 1.0}, False),
        ("coupling", "projection", {"isometry": 1.0}, True),
        ("coupling", "projection", {"likelihood": 1.0}, True),
    ],
)
def test_some_term_of_an_idempotent_must_have_something_to_train(
    flow: str, kind: str, loss: dict[str, float], trains: bool
) -> None:
    config = dataclasses.replace(
        SMALL,
        family="idempotent",
        model=ModelConfig(
            flow=FlowConfig(kind=flow),  # type: ignore[arg-type]
            operator=OperatorConfig(kind=kind),  # type: ignore[arg-type]
        ),
        train=dataclasses.replace(SMALL.train, loss=silent(**loss)),
    )
    found = found_in(config)
    assert found.keys() == (set() if trains else {"train.loss"})
    assert all(message.endswith("give a weight to reconstruction") for message in found.values())


def test_one_value_cannot_be_coupled() -> None:
    config = with_model(operator=OperatorConfig(rank=1))
    assert "at least 2 values per image" in found_in(config, (1, 1, 1))["model.flow.kind"]


ALL_KINDS = sorted({kind for kinds in OPERATORS.values() for kind in kinds})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_its_own_operators(family: str) -> None:
    flow = FlowConfig(conditioner="conv")  # with which all of them can be had
    for kind in ALL_KINDS:
        model = ModelConfig(flow=flow, operator=OperatorConfig(kind=kind))  # type: ignore[arg-type]
        found = found_in(dataclasses.replace(FAMILIES[family], model=model))
        if kind in OPERATORS[family]:
            assert found == {}
        else:
            allowed = ", ".join(OPERATORS[family])
            assert found == {"model.operator.kind": f"{family} has no operator {kind}; use {allowed}"}


@pytest.mark.parametrize(
    ("flow", "allowed"),
    [
        ({"conditioner": "conv"}, True),
        ({"conditioner": "unet"}, True),
        ({"conditioner": "conv", "levels": 2}, False),
        ({"conditioner": "mlp"}, False),
        ({"kind": "identity"}, False),
    ],
)
def test_a_convolutional_operator_needs_latents_that_are_images(flow: dict[str, Any], allowed: bool) -> None:
    model = ModelConfig(flow=FlowConfig(**flow), operator=OperatorConfig(kind="conv"))
    found = found_in(dataclasses.replace(FAMILIES["style"], model=model))
    assert found.keys() == (set() if allowed else {"model.operator.kind"})


def test_principal_axes_are_for_images_of_some_size() -> None:
    above = (1, 65, 64)
    assert LARGEST_FRAME == 64 * 64
    assert flow_problems((1, 64, 64), frame="principal") == {}
    found = flow_problems(above, frame="principal")
    message = "principal supports at most 4096 values per image, digits has 4160; use pixels"
    assert found == {"model.flow.frame": message}
    assert flow_problems(above, frame="pixels") == {}
    assert flow_problems(above, frame="principal", kind="identity") == {}
    assert flow_problems((1, 128, 128), frame="principal", conditioner="conv") == {}


def test_a_shared_network_has_no_principal_axes() -> None:
    found = found_in(with_model(noise_flow="shared", flow=PRINCIPAL))
    assert list(found) == ["model.noise_flow"]
    assert "shared needs frame: pixels" in found["model.noise_flow"]
    assert found_in(with_model(noise_flow="shared", flow=PIXELS)) == {}
    assert found_in(with_model(noise_flow="shared", flow=FlowConfig(frame="principal", conditioner="conv"))) == {}


def test_a_family_has_only_its_recipes() -> None:
    for family in OPERATORS:
        config = dataclasses.replace(FAMILIES[family], recipe="paper")
        if (family, "paper") in RECIPES:
            assert found_in(config) == {}
        else:
            assert found_in(config) == {"recipe": f"{family} has no recipe 'paper'; use default"}


METRICS_IN_CLASSIFIER = ("classifier_fd", "classifier_kid", "precision", "recall", "density", "coverage")


@pytest.mark.parametrize("metric", METRICS_IN_CLASSIFIER)
def test_metrics_in_a_classifiers_features_need_labels(metric: str) -> None:
    config = dataclasses.replace(
        SMALL,
        data=DataConfig(name="folder", root="faces"),
        evaluate=EvaluateConfig(quality=("swd", metric)),  # type: ignore[arg-type]
    )
    found = found_in(config, classes=0)
    assert list(found) == ["evaluate.quality"]
    message = found["evaluate.quality"]
    assert message.startswith(f"{metric} need labelled images")
    assert "folder faces has no labels; use swd or imagenet_fd, or give labels" in message
    assert found_in(config, classes=2) == {}
    assert found_in(replace("evaluate.quality", ["swd"]), classes=0) == {}


def test_what_is_not_on_the_machine_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "missing", lambda: "needs weights")
    monkeypatch.setattr(perceptual, "missing", lambda name: "needs a package" if name == "lpips" else None)
    for metric in ("inception_fid", "inception_kid"):
        assert found_in(replace("evaluate.quality", ["swd", metric])) == {"evaluate.quality": "needs weights"}
    monkeypatch.setattr(imagenet, "missing", lambda: "needs an extra")
    for metric in ("imagenet_fd", "imagenet_kid"):
        assert found_in(replace("evaluate.quality", ["swd", metric])) == {"evaluate.quality": "needs an extra"}
    monkeypatch.setattr(imagenet, "missing", lambda: None)
    assert found_in(replace("evaluate.quality", ["imagenet_fd"]), classes=0) == {}
    assert found_in(replace("train.distance", "lpips")) == {"train.distance": "needs a package"}
    assert found_in(SMALL) == {}
    monkeypatch.setattr(inception, "missing", lambda: None)
    assert found_in(replace("evaluate.quality", ["inception_fid"]), classes=0) == {}


def test_a_model_can_be_built_whatever_is_wrong_with_its_training() -> None:
    config = dataclasses.replace(
        SMALL,
        train=TrainConfig(batch_size=5000, loss=silent()),
        evaluate=EvaluateConfig(steps=(), quality=()),
    )
    assert model_problems(config, EVENT) == {}
    assert model_problems(replace("model.operator.rank", 65), EVENT).keys() == {"model.operator.rank"}


@pytest.mark.parametrize(("metrics", "needed"), [(("swd",), 2), (("swd", "recall"), 6)])
def test_too_few_held_out_images_are_a_problem(metrics: tuple[str, ...], needed: int) -> None:
    config = replace("evaluate.quality", list(metrics))
    found = problems(config, EVENT, IMAGES, CLASSES, needed - 1)
    assert found == {"data": f"digits leaves {needed - 1} held-out images to measure on; at least {needed} are needed"}
    assert problems(config, EVENT, IMAGES, CLASSES, needed) == {}


def test_square_operators_have_a_largest_dimension() -> None:
    dense = with_model(operator=OperatorConfig(kind="time_dense"))
    message = "time_dense has dim×dim entries and supports at most 4096 values per image, got 4356"
    assert found_in(dense, (1, 66, 66))["model.operator.kind"] == message
    assert found_in(dense, (1, 64, 64)) == {}


@pytest.mark.parametrize("family", ["flow_matching", "mean_flow"])
def test_a_baseline_has_no_geometric_grid(family: str) -> None:
    config = dataclasses.replace(replace("evaluate.grid", "geometric"), family=family)
    assert f"geometric has no steps up to time 1, where {family} ends" in found_in(config)["evaluate.grid"]
    assert found_in(dataclasses.replace(config, family="diffusion")) == {}


def test_whitening_needs_pairs_of_images() -> None:
    train = dataclasses.replace(SMALL.train, batch_size=1, loss=LossConfig(whitening=1.0))
    found = found_in(dataclasses.replace(SMALL, train=train))
    assert "needs at least 2" in found["train.batch_size"]


def test_steps_an_epoch_end_with_the_pass() -> None:
    assert found_in(replace("train.steps", 16)) == {}
    assert found_in(replace("train.steps", 17)) == {"train.steps": "17 steps exceed a pass over digits, which takes 16"}


@pytest.mark.parametrize(("name", "value"), [("train.precision", "bfloat16"), ("train.compile", True)])
def test_recomputation_is_in_float32_and_not_compiled(name: str, value: object) -> None:
    assert found_in(replace(name, value)) == {}
    leaf = name.removeprefix("train.")
    train = dataclasses.replace(SMALL.train, **{leaf: value})
    recomputed = dataclasses.replace(with_model(flow=FlowConfig(memory="recompute")), train=train)
    assert list(found_in(recomputed)) == [name]
    assert "use memory: store" in found_in(recomputed)[name]


@pytest.mark.parametrize(
    ("workers", "size", "right"),
    [(1, 7, None), (2, 64, None), (4, 62, "60 or 64"), (3, 2, "use 3"), (3, 64, "63 or 66")],
)
def test_workers_have_equally_many_rows(workers: int, size: int, right: str | None) -> None:
    found = worker_problems(replace("train.batch_size", size), workers)
    assert list(found) == (["train.batch_size"] if right else [])
    for message in found.values():
        assert message.startswith(f"{size} images cannot be divided equally among {workers} workers; ")
        assert right is not None
        assert right in message
