"""What a trial would be refused for is refused before any trial runs: seeds, confirmations, profiles, every point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sweeps.spec.model import Sweep
from sweeps.spec.points import MOST_CORNERS, corners, tried
from sweeps.spec.space import Dimension

Refusal = Callable[..., list[str]]
ToSweep = Callable[..., Sweep]
SPACE = "search/space"
PLAIN: dict[str, Any] = {"search/stop_early": None, "controls": []}


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"search/seed": 2**32}, "search.seed: must be less than 4294967296, got 4294967296"),
        ({"search/seeds": [-1]}, "search.seeds[0]: must be greater than or equal to 0, got -1"),
        ({"search/seeds": [0, 2**63]}, f"search.seeds[1]: must be less than {2**63}, got {2**63}"),
        (
            {"search/confirm": {"top": 1, "seeds": [3, -5]}},
            "search.confirm.seeds[1]: must be greater than or equal to 0, got -5",
        ),
        ({"search/confirm": {"top": 1, "seeds": [3, 3]}}, "search.confirm.seeds: lists a seed twice: [3, 3]"),
        (
            {"search/confirm": {"top": 11, "seeds": [3]}},
            "search.confirm.top: 11 exceeds the search's 10 configurations; use 1 … 10",
        ),
    ],
)
def test_seeds_and_confirmations_are_refused_with_their_bounds(
    refusal: Refusal, edits: Mapping[str, Any], said: str
) -> None:
    assert refusal(edits) == [said]


@pytest.mark.parametrize("edits", [{"search/seed": 2**32 - 1}, {"search/seeds": [0, 2**63 - 1]}])
def test_seeds_at_their_bounds_are_taken(sweep: ToSweep, edits: Mapping[str, Any]) -> None:
    assert sweep(edits).trials


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({"train.lrr": 0.1}, "profiles.odd.train.lrr: unknown key; did you mean train.lr?"),
        ({"train.epochs": 0}, "profiles.odd.train.epochs: must be greater than or equal to 1, got 0"),
        ({"train.batch_size": 5000}, "profiles.odd.train.batch_size: 5000 exceeds the 1079 training images of digits"),
        ({"data.name": "mnist", "search.seeds": [-1]}, "profiles.odd.search.seeds[0]: must be greater than or "),
    ],
)
def test_profiles_are_checked_before_they_are_chosen(refusal: Refusal, leaves: Mapping[str, Any], said: str) -> None:
    (problem,) = refusal({"profiles": {"odd": leaves, "fine": {"model.flow.depth": 1}}})
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        # A value between two good ends.
        ({"model.flow.kernel": {"int": [1, 7]}}, "search.space.model.flow.kernel: 2: must be 1, 3, 5 or 7, got 2"),
        # Each alone is right: two levels need a network that is no mlp, and a kind that has levels.
        (
            {"model.flow.conditioner": {"choice": ["conv", "mlp"]}, "model.flow.levels": {"int": [1, 2]}},
            "search.space.model.flow.levels: 2: an mlp conditioner has 1 level, got 2; use a conv or unet conditioner",
        ),
        (
            {"train.batch_size": {"int": [200, 600]}, "train.steps": {"int": [1, 4]}},
            "search.space.train.steps: 4 with train.batch_size: 600: 4 steps exceed a pass over digits, which takes 1",
        ),
        # A conditional corner: only where the operator is of that kind.
        (
            {
                "model.operator.kind": {"choice": ["time_lowrank", "time_dense"]},
                "model.operator.rank": {"int": [1, 65], "when": {"model.operator.kind": "time_lowrank"}},
            },
            "search.space.model.operator.rank: 65: rank 65 exceeds the data's dimension 64",
        ),
    ],
)
def test_every_point_is_judged(refusal: Refusal, space: Mapping[str, Any], said: str) -> None:
    problems = refusal({**PLAIN, SPACE: space})
    assert len(problems) == 1, problems
    assert problems[0].startswith(said)


def test_two_axes_that_are_wrong_together_alone(refusal: Refusal) -> None:
    space = {
        "model.flow.frame": {"choice": ["pixels", "principal"]},
        "model.noise_flow": {"choice": ["identity", "shared"]},
        "train.lr": {"float": [0.001, 0.01]},
    }
    (problem,) = refusal({**PLAIN, SPACE: space})
    assert problem == (
        "search.space.model.noise_flow: shared with model.flow.frame: principal: "
        "shared needs frame: pixels, since noise does not have the images' principal axes"
    )


def test_a_batch_of_a_range_that_workers_cannot_share(refusal: Refusal) -> None:
    edits = {**PLAIN, "resources/workers": 2, SPACE: {"train.batch_size": {"int": [64, 256], "log": True}}}
    (problem,) = refusal(edits)
    assert problem.startswith("search.space.train.batch_size: 65 images cannot be divided equally among 2 workers")


def test_corners_are_all_combinations_or_all_pairs() -> None:
    few = {name: Dimension.model_validate({"int": [0, 1]}) for name in "abc"}
    assert len(list(corners(few, {}))) == 8
    many = {f"x{i:02d}": Dimension.model_validate({"int": [0, 1]}) for i in range(12)}
    points = list(corners(many, {}))
    pairs = {(a, b, p[a], p[b]) for p in points for a in p for b in p if a < b}
    assert len(pairs) == 4 * 12 * 11 / 2
    assert len(points) < 12 * 11 / 2 * MOST_CORNERS


def test_corners_keep_to_conditions() -> None:
    space = {
        "kernel": Dimension.model_validate({"choice": [3, 5], "when": {"net": "conv"}}),
        "net": Dimension.model_validate({"choice": ["mlp", "conv"]}),
    }
    found = sorted(map(str, corners(space, {"net": "mlp", "kernel": 3})))
    assert found == sorted(map(str, [{"net": "mlp"}, {"net": "conv", "kernel": 3}, {"net": "conv", "kernel": 5}]))


def test_of_long_ranges_the_ends_are_tried() -> None:
    assert tried(Dimension.model_validate({"int": [1, 4]})) == (1, 2, 3, 4)
    assert tried(Dimension.model_validate({"int": [1, 1000]})) == (1, 2, 999, 1000)
    assert tried(Dimension.model_validate({"int": [1, 1000], "log": True})) == (1, 2, 999, 1000)
    low, between, high = tried(Dimension.model_validate({"float": [0.5, 1.0]}))
    assert (low, high) == (0.5, 1.0)
    assert 0.5 < float(between) < 1.0
    low, between, high = tried(Dimension.model_validate({"float": [1e-300, 1e300], "log": True}))
    assert 1e-300 < float(between) < 1e300
    assert tried(Dimension.model_validate({"int": [1, 10**9]})) == (1, 2, 10**9 - 1, 10**9)


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        # Both ends are whole numbers, and nearly nothing between them is.
        ({"float": [1.0, 3.0]}, "search.space.model.flow.depth: 1.763932: must be a valid integer, got a number"),
        ({"int": [1, 10**26]}, "search.space.model.flow.depth: bounds of an int must lie within ±2^53, got [1, "),
        ({"int": [1, 3], "when": {"model.flow.kernel": []}}, "when: model.flow.kernel lists no value"),
        ({"int": [1, 2, 3]}, "search.space.model.flow.depth.int: must have at most 2 items"),
        ({"int": [1]}, "search.space.model.flow.depth.int[1]: is required"),
        ({"float": 3}, "search.space.model.flow.depth.float: must be a list, got 3"),
        ({"choice": [1, True]}, "search.space.model.flow.depth: True: must be a number, got true (YAML"),
    ],
)
def test_what_only_the_ends_of_a_dimension_would_allow_is_refused(
    refusal: Refusal, dimension: Mapping[str, Any], said: str
) -> None:
    found = refusal({**PLAIN, SPACE: {"model.flow.depth": dimension}})
    assert len(found) == 1, found
    assert said in found[0]


def test_a_grid_that_is_too_long_is_refused_at_once(refusal: Refusal) -> None:
    fine = {"float": [0.0001, 1.0], "step": 0.0001}
    edits = {**PLAIN, "search/sampler": "grid", SPACE: {"train.lr": fine, "train.sigma": fine}}
    assert refusal(edits) == [
        "search.space: the grid has 100000000 points; the limit is 100000. Use larger steps, "
        "fewer values, or another sampler"
    ]
