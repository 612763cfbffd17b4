"""Successive halving, worked by hand."""

from __future__ import annotations

import math
import random

import pytest

from sweeps.search.halving import Competitors, Halving, rung_epochs
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


def decide(rule: Halving, trial: str, epoch: int, value: float, others: list[str]) -> int | None:
    return rule.decide(trial, epoch, value, Competitors(others, len(others)))


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
    assert decide(rule, "mine", 1, sign * value, names) == (None if goes_on else 1)


def test_competitors_that_ended_before_the_rung_do_not_count() -> None:
    rule = halving(reduction=2)
    rule.record("short", {1: 0.0})
    rule.record("long", {1: 5.0, 2: 5.0})
    assert decide(rule, "mine", 1, 1.0, ["short", "long"]) is None  # n = 3: two go on, one is better
    assert decide(rule, "mine", 2, 6.0, ["short", "long"]) == 2  # n = 2: one goes on, long is better
    assert decide(rule, "other", 2, 4.0, ["short", "unheard of"]) is None  # n = 1


def test_only_the_named_competitors_count() -> None:
    rule = halving()
    names = with_values(rule, [0.0, 0.0, 0.0])
    assert decide(rule, "mine", 1, 1.0, []) is None
    assert decide(rule, "other", 1, 1.0, names) == 1


def test_between_rungs_nothing_is_decided() -> None:
    rule = halving(grace=2, reduction=2, epochs=8)  # rungs 2 and 4
    rule.record("other", {2: 2.0, 4: 0.0})
    assert [decide(rule, "mine", epoch, 1.0, ["other"]) for epoch in (1, 2, 3, 4, 5, 6, 7)] == [
        None, None, None, 4, None, None, None,
    ]  # fmt: skip


def test_an_evaluation_past_a_rung_is_the_first_one_at_it() -> None:
    rule = halving(grace=2, reduction=2, epochs=10)  # rungs 2, 4 and 8
    rule.record("other", {5: 1.0})
    # It was at rung 4 at epoch 5, at rung 2 as well, and never at 8.
    assert decide(rule, "mine", 3, 2.0, ["other"]) == 2
    assert decide(rule, "second", 9, 0.5, ["other", "mine"]) is None
    assert decide(rule, "third", 9, 2.0, ["other", "second"]) == 8


def test_a_rung_is_decided_once() -> None:
    rule = halving(grace=2, reduction=2)
    names = with_values(rule, [0.0], epoch=2)
    assert decide(rule, "mine", 2, 1.0, names) == 2
    assert decide(rule, "mine", 3, 1.0, names) is None


def test_recorded_rungs_are_not_decided_again() -> None:
    rule = halving(grace=1, reduction=2, epochs=5)  # rungs 1, 2 and 4
    names = with_values(rule, [0.0], epoch=4)
    rule.record("mine", {1: 3.0, 2: 3.0})
    assert decide(rule, "mine", 2, 3.0, names) is None
    assert decide(rule, "mine", 4, 3.0, names) == 4


def by_hand(values: dict[str, float], mine: float, names: list[str], reduction: int, sign: int) -> bool:
    """Whether a trial with a value goes on, by comparing it with each of the others."""
    others = [values[name] for name in names if name in values]
    better = sum(sign * other < sign * mine for other in others)
    if math.isnan(mine):
        return not others
    return better < math.ceil((len(others) + 1) / reduction)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_list_that_grows_is_compared_with_as_one_that_is_walked_through(mode: str) -> None:
    draw = random.Random(0)
    sign = 1 if mode == "min" else -1
    rule = halving(mode)
    names: list[str] = []
    values: dict[str, float] = {}
    outcomes = set()
    for number in range(400):
        name = f"t{number}"
        # Trials are planned when others still run, so a later one may have fewer competitors than one before it.
        count = max(0, len(names) - draw.randrange(8))
        mine = draw.choice([draw.random(), draw.randrange(3) / 2, NAN, math.inf, -math.inf])
        expected = by_hand(values, mine, names[:count], 3, sign)
        outcomes.add(expected)
        assert rule.decide(name, 1, mine, Competitors(names, count)) == (None if expected else 1)
        if draw.random() < 0.9:
            values[name] = mine
        else:
            rule.forget(name)
        names.append(name)
        if number == 300:
            rule.forget("t7")  # which has been compared with
            values.pop("t7", None)
    assert outcomes == {True, False}


def test_many_competitors_are_not_walked_through() -> None:
    rule, names, count = halving(), list[str](), Counted()
    for number in range(2000):
        rule.decide(f"t{number}", 1, count.of(number / 7 % 1), Competitors(names, number))
        names.append(f"t{number}")
    # A walk compares each with all before it: two million times.
    assert count.compared < 2000 * 2 * math.log2(2000)


class Counted:
    """Numbers that count how often they are compared."""

    def __init__(self) -> None:
        self.compared = 0

    def of(self, value: float) -> float:
        counter = self

        class Number(float):
            def __lt__(self, other: float) -> bool:
                counter.compared += 1
                return float(self) < float(other)

            def __rmul__(self, other: float) -> Number:
                return Number(other * float(self))

        return Number(value)
