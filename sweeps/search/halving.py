"""Asynchronous successive halving (Li et al., 2020, the stopping variant), independent of the order of arrival.

At rungs grace × reductionⁿ a trial goes on only if it is among the best ⌈n / reduction⌉ of the n trials at that rung:
itself and those that had ended when it was planned. Ray's own ASHA compares with whatever has arrived by then, so
the same sweep stops different trials on each run.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.spec.model import StopEarly


@dataclass(frozen=True)
class Competitors:
    """The first ``count`` of ``trials``, a list that only grows at its end: it is not copied for each of them."""

    trials: Sequence[str] = ()
    count: int = 0

    @property
    def names(self) -> list[str]:
        """The trials that are compared with."""
        return list(self.trials[: self.count])


@dataclass
class _Ranked:
    """The values at one rung of the first trials of a list, sorted as far as they have been compared with.

    Values are signed, the smallest is the best; a trial that did not reach the rung has None. So a comparison takes
    a logarithm of their number rather than a walk over all of them, which made a sweep quadratic.
    """

    trials: Sequence[str]
    values: list[float | None] = field(default_factory=list)
    ranked: list[float] = field(default_factory=list)

    def extend(self, count: int, value_of: Callable[[str], float | None]) -> None:
        """Take in the trials up to ``count``: they have ended, so that their values stay as they are."""
        for trial in self.trials[len(self.values) : count]:
            value = value_of(trial)
            self.values.append(value)
            if value is not None:
                insort(self.ranked, value)

    def compared(self, value: float, count: int) -> tuple[int, int]:
        """How many of the first ``count`` trials reached the rung, and how many of these are better than ``value``."""
        beyond = [each for each in self.values[count:] if each is not None]
        better = bisect_left(self.ranked, value) - sum(each < value for each in beyond)
        return len(self.ranked) - len(beyond), better


class Halving:
    """The rungs of a sweep, and the values that trials had there."""

    def __init__(self, rule: StopEarly, mode: str, epochs: int) -> None:
        self.rungs = rung_epochs(rule, epochs)
        self._reduction = rule.reduction
        self._sign = 1 if mode == "min" else -1
        self._values: dict[str, dict[int, float]] = {}
        # By the list of trials, which each of these keeps alive, and the rung.
        self._ranked: dict[tuple[int, int], _Ranked] = {}
        self._compared: set[str] = set()

    def record(self, trial: str, rungs: Mapping[int, float]) -> None:
        """Take over what an earlier launch measured of a trial: epoch → objective."""
        for epoch, value in sorted(rungs.items()):
            self._enter(trial, epoch, value)

    def forget(self, trial: str) -> None:
        """Compare no other trial with this one: its configuration was decided without it."""
        self._values.pop(trial, None)
        if trial in self._compared:
            self._ranked.clear()
            self._compared.clear()

    def decide(self, trial: str, epoch: int, value: float, competitors: Competitors) -> int | None:
        """The rung at which the trial must stop now, or None; competitors that ended before a rung do not count."""
        rung = self._enter(trial, epoch, value)
        if rung is None:
            return None
        ranked = self._ranked.setdefault((id(competitors.trials), rung), _Ranked(competitors.trials))
        ranked.extend(competitors.count, lambda name: self._signed(name, rung))
        # A NaN ranks below every number, so it never survives competition.
        others, better = ranked.compared(math.inf if math.isnan(value) else self._sign * value, competitors.count)
        if math.isnan(value) and others:
            return rung
        return rung if better >= math.ceil((others + 1) / self._reduction) else None

    def _signed(self, trial: str, rung: int) -> float | None:
        """A trial's value at a rung, the smaller the better, with infinity for a NaN; None if it did not reach it."""
        self._compared.add(trial)
        value = self._values.get(trial, {}).get(rung)
        if value is None:
            return None
        return math.inf if math.isnan(value) else self._sign * value

    def _enter(self, trial: str, epoch: int, value: float) -> int | None:
        """The highest rung that the trial reaches with this evaluation, whose value is kept; None if there is none."""
        entered = None
        values = self._values.setdefault(trial, {})
        for rung in self.rungs:
            if rung <= epoch and rung not in values:
                values[rung] = value
                entered = rung
        return entered


def rung_epochs(rule: StopEarly, epochs: int) -> list[int]:
    """The epochs of the rungs, all before the last epoch."""
    rungs: list[int] = []
    rung = rule.grace_epochs
    while rung < epochs:
        rungs.append(rung)
        rung *= rule.reduction
    return rungs


def decision_epochs(rule: StopEarly, epochs: int, every: int) -> list[int]:
    """The epochs at which trials are stopped: the first evaluation at or after each rung, before the last epoch."""
    first = {-(-rung // every) * every for rung in rung_epochs(rule, epochs)}
    return sorted(epoch for epoch in first if epoch < epochs)


def why_decided(seed: int | None, epoch: int, diverged: bool) -> str:
    """The reason that a trial does not continue or begin once another seed has decided its configuration."""
    return f"stopped: seed {seed} of its configuration {'diverged' if diverged else 'was stopped'} at epoch {epoch}"


def why_stopped(rung: int) -> str:
    """The reason that a journal gives for an early stop."""
    return f"asha: not among the best at epoch {rung}"
