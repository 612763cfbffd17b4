"""Configurations: round trips through JSON, unknown fields, and the rules between fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

from linearizer_core.config import (
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
    from_mapping,
    problems,
    to_mapping,
)

EVENT, IMAGES = (1, 8, 8), 1079

SMALL = TrialConfig(train=TrainConfig(epochs=4, batch_size=64))
OTHER = TrialConfig(
    model=ModelConfig(
        flow=FlowConfig(kind="identity", depth=3, conditioner="conv", width=5, activation="silu", kernel=5),
        operator=OperatorConfig(kind="time_dense", rank=7),
    ),
    train=TrainConfig(epochs=2, lr=0.25, ema=0.0, loss=LossConfig(flow=0.5, likelihood=2.0)),
    evaluate=EvaluateConfig(steps=(1, 5), solver="rk4", quality=("swd",), end=0.75),
    seed=12,
)


@pytest.mark.parametrize("config", [TrialConfig(), OTHER])
def test_round_trip_through_json(config: TrialConfig) -> None:
    assert from_mapping(TrialConfig, json.loads(json.dumps(to_mapping(config)))) == config


def test_to_mapping_is_nested_and_plain() -> None:
    values = to_mapping(OTHER)
    assert values["seed"] == 12
    assert values["model"]["flow"]["activation"] == "silu"
    assert values["train"]["loss"]["likelihood"] == 2.0
    assert values["evaluate"]["steps"] == [1, 5]


def test_what_is_left_out_is_the_default() -> None:
    config = from_mapping(TrialConfig, {"model": {"flow": {"depth": 9}}, "seed": 3})
    assert config == TrialConfig(model=ModelConfig(flow=FlowConfig(depth=9)), seed=3)
    assert from_mapping(TrialConfig, {}) == TrialConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "TrialConfig has no field sed: it has family, data, model, train, evaluate, seed"),
        (
            {"model": {"flow": {"deep": 1, "broad": 2}}},
            "FlowConfig has no field broad, deep: it has kind, depth",
        ),
        (
            {"train": {"loss": {"lpips": 1.0}}},
            "LossConfig has no field lpips: it has flow, noise, data, endpoint",
        ),
    ],
)
def test_unknown_fields(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_mapping(TrialConfig, values)


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.seed = 1  # type: ignore[misc]


def fields(kind: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Dotted name, field and default value of every leaf and branch."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield prefix + field.name, field, getattr(kind(), field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from fields(hints[field.name], f"{prefix}{field.name}.")


def test_every_field_is_explained_and_its_default_is_within_its_bounds() -> None:
    for name, field, default in fields(TrialConfig):
        assert field.metadata["doc"], name
        bounds = {key: bound for key, bound in field.metadata.items() if key != "doc"}
        holds = {
            "ge": lambda value, bound: value >= bound,
            "gt": lambda value, bound: value > bound,
            "le": lambda value, bound: value <= bound,
            "lt": lambda value, bound: value < bound,
        }
        assert all(holds[key](default, bound) for key, bound in bounds.items()), name


def replace(name: str, value: object) -> TrialConfig:
    """SMALL with one dotted field set."""
    values = to_mapping(SMALL)
    *path, last = name.split(".")
    inner = values
    for key in path:
        inner = inner[key]
    inner[last] = value
    return from_mapping(TrialConfig, values)


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
        ("evaluate.every", 5, "5 exceeds train.epochs = 4"),
    ],
)
def test_problems_name_the_field_the_fault_and_the_remedy(name: str, value: object, message: str) -> None:
    found = problems(replace(name, value), EVENT, IMAGES)
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
    ],
)
def test_no_problems_at_the_bounds(name: str, value: object) -> None:
    assert problems(replace(name, value), EVENT, IMAGES) == {}


def test_a_dense_operator_has_no_rank_to_exceed() -> None:
    config = dataclasses.replace(SMALL, model=ModelConfig(operator=OperatorConfig(kind="time_dense", rank=1000)))
    assert problems(config, EVENT, IMAGES) == {}


@pytest.mark.parametrize("conditioner", ["conv", "unet"])
@pytest.mark.parametrize("event", [(1, 7, 8), (1, 8, 7)])
def test_convolutions_need_even_sides(conditioner: str, event: tuple[int, int, int]) -> None:
    found = problems(replace("model.flow.conditioner", conditioner), event, IMAGES)
    sides = f"{event[1]}×{event[2]}"
    assert found == {"model.flow.conditioner": f"{conditioner} needs even image sides, digits is {sides}; use mlp"}
    assert problems(SMALL, event, IMAGES) == {}
    identity = dataclasses.replace(SMALL, model=ModelConfig(flow=FlowConfig(kind="identity", conditioner="conv")))
    assert problems(identity, event, IMAGES) == {}


def flow_problems(event: tuple[int, int, int], **fields: object) -> dict[str, str]:
    flow = FlowConfig(**fields)  # type: ignore[arg-type]
    return problems(dataclasses.replace(SMALL, model=ModelConfig(flow=flow)), event, IMAGES)


def test_levels_must_fit_the_image_and_the_conditioner() -> None:
    assert flow_problems(EVENT, conditioner="conv", levels=3) == {}
    found = flow_problems(EVENT, conditioner="conv", levels=4)
    assert found == {"model.flow.levels": "4 levels halve the image as often; digits's 8×8 allows 1 … 3"}
    assert "allows 1 … 1" in flow_problems((1, 12, 6), conditioner="unet", levels=2)["model.flow.levels"]
    found = flow_problems(EVENT, levels=2)
    assert found == {"model.flow.levels": "2 levels need a conv or unet conditioner; mlp has 1"}


def test_a_unet_needs_channels_to_normalise() -> None:
    assert "at least 2, got 1" in flow_problems(EVENT, conditioner="unet", width=1)["model.flow.width"]
    assert flow_problems(EVENT, conditioner="unet", width=2) == {}


def test_all_problems_are_found_at_once() -> None:
    config = TrialConfig(
        model=ModelConfig(operator=OperatorConfig(rank=100)),
        train=TrainConfig(batch_size=5000, epochs=1),
        evaluate=EvaluateConfig(steps=(2, 1), quality=(), every=2),
    )
    assert problems(config, EVENT, IMAGES).keys() == {
        "model.operator.rank", "train.batch_size", "evaluate.steps", "evaluate.quality", "evaluate.every",
    }  # fmt: skip


def test_a_loss_without_terms_is_a_problem() -> None:
    nothing = LossConfig(flow=0, noise=0, data=0, endpoint=0, likelihood=0)
    config = dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, loss=nothing))
    assert "train.loss" in problems(config, EVENT, IMAGES)


@pytest.mark.parametrize(
    ("flow", "noise_flow", "loss", "trains"),
    [
        ("identity", "same", {"data": 1.0}, False),
        ("identity", "same", {"likelihood": 1.0, "noise": 1.0}, False),
        ("identity", "same", {"flow": 1.0}, True),
        ("identity", "same", {"endpoint": 1.0}, True),
        ("coupling", "identity", {"noise": 1.0}, False),
        ("coupling", "identity", {"data": 1.0}, True),
        ("coupling", "identity", {"likelihood": 1.0}, True),
        ("coupling", "same", {"noise": 1.0}, True),
    ],
)
def test_some_term_must_have_something_to_train(
    flow: str, noise_flow: str, loss: dict[str, float], trains: bool
) -> None:
    weights = {"flow": 0.0, "noise": 0.0, "data": 0.0, "endpoint": 0.0, "likelihood": 0.0} | loss
    model = ModelConfig(flow=FlowConfig(kind=flow), noise_flow=noise_flow)  # type: ignore[arg-type]
    train = dataclasses.replace(SMALL.train, loss=LossConfig(**weights))
    found = problems(dataclasses.replace(SMALL, model=model, train=train), EVENT, IMAGES)
    assert found.keys() == (set() if trains else {"train.loss"})


def test_one_value_cannot_be_coupled() -> None:
    config = dataclasses.replace(SMALL, model=ModelConfig(operator=OperatorConfig(rank=1)))
    assert "at least 2 values an image" in problems(config, (1, 1, 1), IMAGES)["model.flow.kind"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evaluate.end", 2.0), ("evaluate.end", "abc"), ("evaluate.steps", 5), ("evaluate.steps", ["x"]),
        ("evaluate.solver", "nope"), ("train.lr", "high"), ("train.lr", True), ("train.sigma", float("inf")),
        ("model.flow.kind", "bogus"), ("model.flow.depth", 10**9), ("model.flow.depth", 2.0), ("model.flow.bins", 1),
        ("model.flow.attention", 1), ("model.flow.kernel", True), ("seed", -1), ("data", None),
    ],
)  # fmt: skip
def test_values_of_another_type_or_out_of_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        replace(name, value)
