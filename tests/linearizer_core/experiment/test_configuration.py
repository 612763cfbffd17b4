"""Configurations: round trips through JSON, unknown fields, and values that are not of their type or bounds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
    config_hash,
    from_mapping,
    to_mapping,
)

SMALL = TrialConfig(train=TrainConfig(epochs=4, batch_size=64))
OTHER = TrialConfig(
    model=ModelConfig(
        flow=FlowConfig(kind="identity", depth=3, conditioner="conv", width=5, activation="silu", kernel=5),
        operator=OperatorConfig(kind="time_dense", rank=7),
        noise_flow="shared",
    ),
    data=DataConfig(name="folder", root="somewhere", size=16, images=100),
    family="flow_matching",
    train=TrainConfig(epochs=2, lr=0.25, ema=0.0, time="logit_normal", loss=LossConfig(flow=0.25, likelihood=2.0)),
    evaluate=EvaluateConfig(steps=(1, 5), solver="rk4", quality=("swd", "coverage"), end=0.75, temperature=0.5),
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
        (
            {"sed": 1},
            "TrialConfig has no field sed; its fields are family, recipe, data, model, train, evaluate, seeds, "
            "plugins, callbacks, seed",
        ),
        (
            {"model": {"flow": {"deep": 1, "broad": 2}}},
            "FlowConfig has no field broad, deep; its fields are kind, frame, coordinates, depth",
        ),
        (
            {"train": {"loss": {"lpips": 1.0}}},
            "LossConfig has no field lpips; its fields are flow, noise, data, endpoint",
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
    ("name", "value"),
    [
        ("evaluate.end", 2.0), ("evaluate.end", "abc"), ("evaluate.steps", 5), ("evaluate.steps", ["x"]),
        ("evaluate.solver", "nope"), ("train.lr", "high"), ("train.lr", True), ("train.sigma", float("inf")),
        ("model.flow.kind", "bogus"), ("model.flow.depth", 10**9), ("model.flow.depth", 2.0), ("model.flow.bins", 1),
        ("model.flow.attention", 1), ("model.flow.kernel", True), ("seed", -1), ("data", None),
        ("family", "bogus"), ("recipe", "best"), ("data.name", "imagenet"), ("data.root", 5), ("data.images", -1),
        ("data.size", 2000), ("data.download", "yes"), ("model.flow.coordinates", 1), ("evaluate.held_out", 15),
        ("evaluate.temperature", 0.0), ("evaluate.temperature", "2.5"), ("evaluate.quality", ["swd", "fid"]),
        ("train.time", "cosine"), ("train.distance", "ssim"), ("train.lr", "nan"), ("train.epochs", "3"),
    ],
)  # fmt: skip
def test_values_of_another_type_or_out_of_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        replace(name, value)


@pytest.mark.parametrize(
    ("text", "number"), [("1e-3", 1e-3), ("2.5E-1", 0.25), ("1", 1.0), (" 0.5 ", 0.5), (1, 1), (0.125, 0.125)]
)
def test_numbers_that_yaml_reads_as_text_are_numbers(text: object, number: float) -> None:
    assert replace("train.lr", text).train.lr == number
    assert replace("train.loss.sparsity", text).train.loss.sparsity == number


def test_text_stays_text() -> None:
    assert replace("data.root", "1e-3").data.root == "1e-3"


def test_seeds_of_single_sources_follow_the_trials_seed_unless_they_are_given() -> None:
    follows = from_mapping(TrialConfig, {"seed": 7})
    assert (follows.init_seed, follows.order_seed) == (7, 7)
    given = from_mapping(TrialConfig, {"seed": 7, "seeds": {"init": 1, "order": 2}})
    assert (given.init_seed, given.order_seed) == (1, 2)


def test_configurations_from_before_there_were_such_seeds_keep_their_names() -> None:
    values = to_mapping(TrialConfig())
    before = {name: value for name, value in values.items() if name != "seeds"}
    before["data"] = {name: value for name, value in before["data"].items() if name != "split"}
    assert config_hash(before) == config_hash(values)
    for name, leaf in (("seeds", "init"), ("seeds", "order"), ("seeds", "sampling"), ("data", "split")):
        changed = {**values, name: {**values[name], leaf: 3}}
        assert config_hash(changed) != config_hash(values)
