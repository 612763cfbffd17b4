"""Problems in the user's terms, and pydantic models that say what the dataclasses say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from pydantic import ValidationError

from linearizer_core.experiment.configuration import TrialConfig, to_mapping
from linearizer_core.experiment.nested import flatten, with_leaves
from sweeps.spec.validation import (
    BOUNDS,
    InputError,
    Problem,
    dotted,
    model_of,
    nearest,
    problems_of,
    suggestion,
    without,
)

MODEL = model_of(TrialConfig)

SAID = {
    "ge": "must be greater than or equal to",
    "gt": "must be greater than",
    "le": "must be less than or equal to",
    "lt": "must be less than",
}
BEYOND = {"ge": -1, "gt": 0, "le": 1, "lt": 0}
"""What added to a bound makes a value that the bound refuses."""


def bounded(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, str, float]]:
    """Every bound in the metadata: dotted name, which bound, its value."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from bounded(hints[field.name], f"{prefix}{field.name}.")
        for name in BOUNDS:
            if name in field.metadata:
                yield f"{prefix}{field.name}", name, field.metadata[name]


def complaints(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        MODEL.model_validate(values)
    return [str(problem) for problem in problems_of(caught.value, MODEL)]


def test_the_model_has_the_defaults_of_the_dataclass() -> None:
    assert MODEL.model_validate({}).model_dump(mode="json") == to_mapping(TrialConfig())


def test_bounds_were_found() -> None:
    assert ("train.lr", "gt", 0) in set(bounded(TrialConfig))


@pytest.mark.parametrize(("key", "bound", "limit"), list(bounded(TrialConfig)))
def test_every_bound_of_the_dataclass_is_enforced(key: str, bound: str, limit: float) -> None:
    value = limit + BEYOND[bound]
    assert complaints(with_leaves({}, {key: value})) == [f"{key}: {SAID[bound]} {limit}, got {value}"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train": 3}, "train: must be a mapping of keys to values, got 3"),
        ({"model": {"flow": {"kernel": 4}}}, "model.flow.kernel: must be 1, 3, 5 or 7, got 4"),
        ({"model": {"flow": {"depht": 4}}}, "model.flow.depht: unknown key; did you mean model.flow.depth?"),
        ({"evaluate": {"quality": ["fid"]}}, "evaluate.quality[0]: must be 'swd', 'classifier_fd', "),
        ({"evaluate": {"steps": [1, "x"]}}, "evaluate.steps[1]: must be a valid integer"),
        ({"train": {"epochs": 2.5}}, "train.epochs: must be a valid integer, got a number with a fractional part"),
        ({"train": {"lr": None}}, "train.lr: must be a valid number, got None"),
    ],
)
def test_complaints_are_in_the_users_terms(values: dict[str, Any], said: str) -> None:
    (found,) = complaints(values)
    assert found.startswith(said)


def test_a_sequence_is_called_a_list() -> None:
    assert complaints({"evaluate": {"steps": 5}}) == ["evaluate.steps: must be a list, got 5"]


def test_all_complaints_come_at_once() -> None:
    values = {"train": {"lr": 0, "epochs": 0}, "seed": -1, "familly": "diffusion"}
    assert [text.partition(":")[0] for text in complaints(values)] == ["train.epochs", "train.lr", "seed", "familly"]


@pytest.mark.parametrize(
    ("name", "match"), [("train.epoch", "train.epochs"), ("TPE", None), ("random", "random"), ("zzz", None)]
)
def test_nearest(name: str, match: str | None) -> None:
    assert nearest(name, ["train.epochs", "random", "grid"]) == match


def test_a_suggestion_is_one_name_or_all() -> None:
    assert suggestion("grit", iter(["random", "grid"])) == "did you mean grid?"
    assert suggestion("zzz", iter(["random", "grid"])) == "known: random, grid"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ((), ""),
        (("a",), "a"),
        (("a", "b", 0), "a.b[0]"),
        (("a", 1, "b"), "a[1].b"),
        (("s", "x.y", "int", 1), "s.x.y.int[1]"),
    ],
)
def test_dotted(location: tuple[int | str, ...], text: str) -> None:
    assert dotted(location) == text


def test_an_input_error_names_its_source_in_every_line() -> None:
    error = InputError("a.yaml", [Problem("train.lr", "is wrong"), Problem("", "is empty")])
    assert str(error) == "a.yaml: train.lr: is wrong\na.yaml: is empty"


def test_flatten_and_with_leaves_are_inverse() -> None:
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}
    leaves = {"a": 1, "b.c": [1, 2], "b.d.e": None}
    assert flatten(nested) == leaves
    assert with_leaves({}, leaves) == nested


def test_with_leaves_leaves_its_argument_alone() -> None:
    before = {"a": {"b": 1}, "c": 2}
    assert with_leaves(before, {"a.b": 3, "c.d": 4, "e.f": 5}) == {"a": {"b": 3}, "c": {"d": 4}, "e": {"f": 5}}
    assert before == {"a": {"b": 1}, "c": 2}


@pytest.mark.parametrize(
    ("location", "left"),
    [
        (("a", "b"), {"a": {"c": [1, {"d": 2}]}}),
        (("a", "c", 0), {"a": {"b": 0, "c": [{"d": 2}]}}),
        (("a", "c", 1, "d"), {"a": {"b": 0, "c": [1, {}]}}),
        (("a", "c", 7), {"a": {"b": 0, "c": [1, {"d": 2}]}}),
        (("x", "y"), {"a": {"b": 0, "c": [1, {"d": 2}]}}),
        (("a", "b", "deeper"), {"a": {"c": [1, {"d": 2}]}}),
    ],
)
def test_without(location: tuple[int | str, ...], left: dict[str, Any]) -> None:
    values = {"a": {"b": 0, "c": [1, {"d": 2}]}}
    assert without(values, location) == left
    assert values == {"a": {"b": 0, "c": [1, {"d": 2}]}}
