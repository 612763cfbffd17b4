"""Successive halving, worked by hand."""

from __future__ import annotations

import math

import pytest

from sweeps.search.halving import Halving, rung_epochs
from sweeps.spec.model import StopEarly

NAN = math.nan


def halving(mode: str = "min", *, grace: int = 1, reduction: int = 3, epochs: int = 10) -> Halving:
    return Halving(StopEarly(grace_epochs=grace, reduction=reduction), mode, epochs)


def with_values(rule: Halving, values: list[float], epoch: int = 1) -> list[str]:
    """Competitors that had these values at an epoch; their names."""
    names = [f"t{i}" for i in range(len(values))]
    for name, value in zip(names, values, strict=True):
        rule.record(name, {epoch: value})
    return names


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "rungs"),
    [
        (1, 3, 10, [1, 3, 9]),
        (1, 3, 9, [1, 3]),
        (4, 3, 30, [4, 12]),
        (20, 2, 80, [20, 40]),
        (20, 2, 81, [20, 40, 80]),
        (5, 2, 5, []),
        (5, 2, 6, [5]),
    ],
)
def test_rungs_are_below_the_last_epoch(grace: int, reduction: int, epochs: int, rungs: list[int]) -> None:
    assert rung_epochs(StopEarly(grace_epochs=grace, reduction=reduction), epochs) == rungs


@pytest.mark.parametrize(
    ("others", "reduction", "value", "goes_on"),
    [
        # With n trials at the rung, itself among them, the best ⌈n / reduction⌉ go on.
        ([], 3, 9.0, True),  # n = 1: one of one
        ([1.0], 3, 2.0, False),  # n = 2: one of two, and the other is better
        ([1.0], 3, 0.5, True),
        ([1.0, 2.0], 3, 1.5, False),  # n = 3: one goes on
        ([1.0, 2.0, 3.0], 3, 1.5, True),  # n = 4: two go on
        ([1.0, 2.0, 3.0], 3, 2.5, False),
        ([1.0, 2.0, 3.0], 2, 2.5, False),  # n = 4: two go on
        ([1.0, 2.0, 3.0, 4.0], 2, 2.5, True),  # n = 5: three go on
        ([1.0, 2.0, 3.0, 4.0], 2, 3.5, False),
        ([1.0], 2, 1.0, True),  # a tie is not worse
        ([1.0, 1.0, 1.0, 1.0, 1.0], 3, 1.0, True),
        ([0.5, 0.5, 1.0, 1.0, 1.0], 3, 1.0, False),  # n = 6: two go on, two are better
        ([NAN], 3, 9.0, True),  # something is better than nothing
        ([NAN, NAN, 1.0], 3, 2.0, True),  # n = 4: two go on, one is better
        ([], 3, NAN, True),  # alone
        ([NAN], 3, NAN, False),
        ([9.0], 2, NAN, False),
        ([math.inf], 2, math.inf, True),
        ([1.0], 2, math.inf, False),
    ],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_go_on(mode: str, others: list[float], reduction: int, value: float, goes_on: bool) -> None:
    sign = 1 if mode == "min" else -1
    rule = halving(mode, reduction=reduction)
    names = with_values(rule, [sign * other for other in others])
    assert rule.decide("mine", 1, sign * value, names) == (None if goes_on else 1)


def test_competitors_that_ended_before_the_rung_do_not_count() -> None:
    rule = halving(reduction=2)
    rule.record("short", {1: 0.0})
    rule.record("long", {1: 5.0, 2: 5.0})
    assert rule.decide("mine", 1, 1.0, ["short", "long"]) is None  # n = 3: two go on, one is better
    assert rule.decide("mine", 2, 6.0, ["short", "long"]) == 2  # n = 2: one goes on, long is better
    assert rule.decide("other", 2, 4.0, ["short", "unheard of"]) is None  # n = 1


def test_only_the_named_competitors_count() -> None:
    rule = halving()
    names = with_values(rule, [0.0, 0.0, 0.0])
    assert rule.decide("mine", 1, 1.0, []) is None
    assert rule.decide("other", 1, 1.0, names) == 1


def test_between_rungs_nothing_is_decided() -> None:
    rule = halving(grace=2, reduction=2, epochs=8)  # rungs 2 and 4
    rule.record("other", {2: 2.0, 4: 0.0})
    assert [rule.decide("mine", epoch, 1.0, ["other"]) for epoch in (1, 2, 3, 4, 5, 6, 7)] == [
        None, None, None, 4, None, None, None,
    ]  # fmt: skip


def test_an_evaluation_past_a_rung_is_the_first_one_at_it() -> None:
    rule = halving(grace=2, reduction=2, epochs=10)  # rungs 2, 4 and 8
    rule.record("other", {5: 1.0})
    # It was at rung 4 at epoch 5, at rung 2 as well, and never at 8.
    assert rule.decide("mine", 3, 2.0, ["other"]) == 2
    assert rule.decide("second", 9, 0.5, ["other", "mine"]) is None
    assert rule.decide("third", 9, 2.0, ["other", "second"]) == 8


def test_a_rung_is_decided_once() -> None:
    rule = halving(grace=2, reduction=2)
    names = with_values(rule, [0.0], epoch=2)
    assert rule.decide("mine", 2, 1.0, names) == 2
    assert rule.decide("mine", 3, 1.0, names) is None


def test_recorded_rungs_are_not_decided_again() -> None:
    rule = halving(grace=1, reduction=2, epochs=5)  # rungs 1, 2 and 4
    names = with_values(rule, [0.0], epoch=4)
    rule.record("mine", {1: 3.0, 2: 3.0})
    assert rule.decide("mine", 2, 3.0, names) is None
    assert rule.decide("mine", 4, 3.0, names) == 4
