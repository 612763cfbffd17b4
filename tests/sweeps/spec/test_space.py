"""Dimensions and points of the search space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest

from sweeps.spec.space import Dimension, enumerate_points, ordered, space_problems, suggest

CONDITIONER, KERNEL, DEPTH = "model.flow.conditioner", "model.flow.kernel", "model.flow.depth"
CONV = {CONDITIONER: "conv"}


def space(**dimensions: Mapping[str, Any]) -> dict[str, Dimension]:
    return {name: Dimension.model_validate(values) for name, values in dimensions.items()}


def draw(dimensions: Mapping[str, Dimension], base: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Points that a random sampler with a fixed seed draws."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(dimensions, study.ask(), base) for _ in range(count)]


@pytest.mark.parametrize(
    ("given", "values", "edges"),
    [
        ({"int": [1, 4]}, (1, 2, 3, 4), (1, 4)),
        ({"int": [-1, 7], "step": 4}, (-1, 3, 7), (-1, 7)),
        ({"int": [1, 64], "log": True}, None, (1, 64)),
        ({"float": [0, 1], "step": 0.25}, (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 1.0)),
        ({"float": [0, 0.3], "step": 0.1}, (0.0, 0.1, 0.2, 0.3), (0.0, 0.3)),
        ({"float": [0.5, 1]}, None, (0.5, 1.0)),
        ({"float": [0.5, 1], "log": True}, None, (0.5, 1.0)),
        ({"choice": ["gelu", 3, 0.5, True]}, ("gelu", 3, 0.5, True), ("gelu", 3, 0.5, True)),
        ({"grid": [0.1, 0.01]}, (0.1, 0.01), (0.1, 0.01)),
    ],
)
def test_values_and_edges(given: dict[str, Any], values: tuple[object, ...] | None, edges: tuple[object, ...]) -> None:
    dimension = Dimension.model_validate(given)
    assert dimension.edges() == edges
    found = dimension.values()
    assert found == (None if values is None else pytest.approx(values))
    assert [type(value) for value in found or ()] == [type(value) for value in values or ()]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"int": [1, 6]}, "int 1 … 6"),
        ({"int": [4, 64], "log": True}, "int 4 … 64 log"),
        ({"float": [0.001, 0.5], "step": 0.25}, "float 0.001 … 0.5 step 0.25"),
        ({"choice": ["gelu", 3]}, "choice gelu, 3"),
        (
            {"grid": [3, 5], "when": {CONDITIONER: "conv", DEPTH: [1, 2]}},
            f"grid 3, 5 when {CONDITIONER} = conv, {DEPTH} = 1 or 2",
        ),
    ],
)
def test_describe(given: dict[str, Any], text: str) -> None:
    assert Dimension.model_validate(given).describe() == text


@pytest.mark.parametrize(
    ("when", "leaves", "active"),
    [
        ({}, {}, True),
        (CONV, {CONDITIONER: "conv"}, True),
        (CONV, {CONDITIONER: "mlp"}, False),
        (CONV, {}, False),
        ({DEPTH: [1, 2]}, {DEPTH: 2}, True),
        ({DEPTH: [1, 2]}, {DEPTH: 3}, False),
        ({DEPTH: 1, **CONV}, {DEPTH: 1, CONDITIONER: "mlp"}, False),
        ({DEPTH: 1, **CONV}, {DEPTH: 1, CONDITIONER: "conv"}, True),
    ],
)
def test_a_dimension_is_active_where_all_of_its_condition_holds(
    when: dict[str, Any], leaves: dict[str, Any], active: bool
) -> None:
    assert Dimension.model_validate({"int": [1, 2], "when": when}).active(leaves) is active


def test_conditions_come_after_what_they_speak_of() -> None:
    chain = space(
        c={"int": [1, 2], "when": {"b": 1}},
        b={"int": [1, 2], "when": {"a": 1, "elsewhere": 2}},
        a={"int": [1, 2]},
        d={"int": [1, 2]},
    )
    assert ordered(chain) == ["a", "d", "b", "c"]


@pytest.mark.parametrize(
    ("conditions", "names"),
    [({"a": "b", "b": "a", "c": None}, "a, b"), ({"a": "a"}, "a"), ({"a": "b", "b": "c", "c": "a"}, "a, b, c")],
)
def test_conditions_in_a_circle(conditions: dict[str, str | None], names: str) -> None:
    circle = space(**{n: {"int": [1, 2], "when": {other: 1} if other else {}} for n, other in conditions.items()})
    with pytest.raises(ValueError, match=f"^the conditions of {names} depend on each other in a cycle; drop one$"):
        ordered(circle)


def test_every_point_is_enumerated_once_in_the_order_of_the_file() -> None:
    points = enumerate_points(
        space(a={"int": [1, 2]}, b={"choice": ["x", "y"]}, c={"float": [0, 1], "step": 0.5}), {"a": 9, "b": "z", "c": 9}
    )
    assert list(points) == [
        {"a": 1, "b": "x", "c": 0.0}, {"a": 1, "b": "x", "c": 0.5}, {"a": 1, "b": "x", "c": 1.0},
        {"a": 1, "b": "y", "c": 0.0}, {"a": 1, "b": "y", "c": 0.5}, {"a": 1, "b": "y", "c": 1.0},
        {"a": 2, "b": "x", "c": 0.0}, {"a": 2, "b": "x", "c": 0.5}, {"a": 2, "b": "x", "c": 1.0},
        {"a": 2, "b": "y", "c": 0.0}, {"a": 2, "b": "y", "c": 0.5}, {"a": 2, "b": "y", "c": 1.0},
    ]  # fmt: skip


def test_a_dimension_whose_condition_does_not_hold_is_no_part_of_a_point() -> None:
    # The kernel stands before what it depends on, and its size matters where the conditioner is conv.
    dimensions = space(kernel={"grid": [3, 5], "when": {"conditioner": "conv"}}, conditioner={"grid": ["mlp", "conv"]})
    assert list(enumerate_points(dimensions, {"conditioner": "mlp", "kernel": 3})) == [
        {"conditioner": "mlp"},
        {"kernel": 3, "conditioner": "conv"},
        {"kernel": 5, "conditioner": "conv"},
    ]


def test_a_condition_can_speak_of_a_leaf_that_is_not_searched() -> None:
    dimensions = space(kernel={"grid": [3, 5], "when": {"conditioner": "conv"}}, depth={"grid": [1]})
    assert list(enumerate_points(dimensions, {"conditioner": "mlp"})) == [{"depth": 1}]
    assert list(enumerate_points(dimensions, {"conditioner": "conv"})) == [
        {"kernel": 3, "depth": 1},
        {"kernel": 5, "depth": 1},
    ]


def test_suggestions_stay_in_bounds_and_keep_to_conditions() -> None:
    dimensions = space(
        kernel={"choice": [3, 5], "when": {"conditioner": "conv"}},
        depth={"int": [1, 9], "step": 4},
        rank={"int": [4, 64], "log": True},
        lr={"float": [0.001, 0.1], "log": True},
        sigma={"float": [0, 1], "step": 0.25},
        conditioner={"choice": ["mlp", "conv"]},
    )
    points = draw(dimensions, {"conditioner": "mlp", "kernel": 3}, 300)
    assert {point["depth"] for point in points} == {1, 5, 9}
    assert {point["sigma"] for point in points} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all(isinstance(point["rank"], int) and 4 <= point["rank"] <= 64 for point in points)
    assert all(0.001 <= point["lr"] <= 0.1 for point in points)
    assert {(point["conditioner"], point.get("kernel")) for point in points} == {
        ("mlp", None),
        ("conv", 3),
        ("conv", 5),
    }
    # A point is in the order of the file.
    assert [name for name in dimensions if name in points[0]] == list(points[0])
    # Uniform in the logarithm: half of the draws are below the geometric mean.
    assert 0.4 < sum(point["lr"] < 0.01 for point in points) / 300 < 0.6
    assert 0.4 < sum(point["rank"] < 16 for point in points) / 300 < 0.6


def test_suggestions_are_fixed_by_the_seed() -> None:
    dimensions = space(a={"float": [0, 1]}, b={"int": [1, 9]})
    assert draw(dimensions, {}, 5) == draw(dimensions, {}, 5)


def test_the_study_knows_points_by_their_dotted_names() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    point = suggest(space(a={"int": [1, 9]}, b={"choice": ["x", "y"]}, c={"float": [0.5, 1], "log": True}), trial, {})
    assert trial.params == point
    assert trial.distributions == {
        "a": optuna.distributions.IntDistribution(1, 9),
        "b": optuna.distributions.CategoricalDistribution(("x", "y")),
        "c": optuna.distributions.FloatDistribution(0.5, 1.0, log=True),
    }


@pytest.mark.parametrize("given", [{"int": [1, 6], "step": 2}, {"float": [0, 1], "step": 0.4}])
def test_a_step_that_does_not_divide_the_range_draws_what_is_listed(given: dict[str, Any]) -> None:
    dimensions = space(a=given)
    listed = set(dimensions["a"].values() or ())
    assert {point["a"] for point in draw(dimensions, {}, 40)} == listed


@pytest.mark.parametrize(
    ("sampler", "given", "said"),
    [
        ("grid", {"float": [0.1, 1]}, "sampler: grid needs values that can be listed; use grid: [...], or set a step"),
        (
            "grid",
            {"int": [1, 9], "log": True},
            "sampler: grid needs values that can be listed; use grid: [...], or set a step",
        ),
        ("grid", {"int": [1, 9]}, None),
        ("grid", {"float": [0, 1], "step": 0.5}, None),
        ("grid", {"choice": [1, 2]}, None),
        ("tpe", {"grid": [1, 2]}, "grid: needs sampler: grid; with tpe use choice: [...]"),
        ("random", {"float": [0.1, 1]}, None),
    ],
)
def test_dimensions_fit_the_sampler(sampler: str, given: dict[str, Any], said: str | None) -> None:
    found = [str(problem) for problem in space_problems(space(a=given), sampler)]
    assert found == ([] if said is None else [f"search.space.a: {said}"])


@pytest.mark.parametrize(
    ("bounds", "step", "expected"),
    [
        ([0.0, 0.5], 0.1, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ([0.05, 0.35], 0.1, [0.05, 0.15, 0.25, 0.35]),
        ([1e-5, 5e-5], 1e-5, [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]),
        ([1, 2], 0.25, [1.0, 1.25, 1.5, 1.75, 2.0]),
        ([-0.3, 0.3], 0.3, [-0.3, 0.0, 0.3]),
        ([10, 30], 1e1, [10.0, 20.0, 30.0]),
    ],
)
def test_values_of_a_step_are_as_one_would_write_them(bounds: list[float], step: float, expected: list[float]) -> None:
    dimension = Dimension.model_validate({"float": bounds, "step": step})
    assert list(dimension.values() or ()) == expected
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {dimension.suggest(study.ask(), "x") for _ in range(60)}
    assert drawn == set(expected)
