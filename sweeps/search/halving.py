"""Asynchronous successive halving (Li et al., 2020, the stopping variant), independent of the order of arrival.

At rungs grace × reductionⁿ a trial goes on only if it is among the best ⌈n / reduction⌉ of the n trials at that rung:
itself and those that had ended when it was planned. Ray's own ASHA compares with whatever has arrived by then, so
the same sweep stops different trials on each run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sweeps.spec.model import StopEarly


class Halving:
    """The rungs of a sweep, and the values that trials had there."""

    def __init__(self, rule: StopEarly, mode: str, epochs: int) -> None:
        self.rungs = rung_epochs(rule, epochs)
        self._reduction = rule.reduction
        self._sign = 1 if mode == "min" else -1
        self._values: dict[str, dict[int, float]] = {}

    def record(self, trial: str, rungs: Mapping[int, float]) -> None:
        """Take over what an earlier launch measured of a trial: epoch → objective."""
        for epoch, value in sorted(rungs.items()):
            self._enter(trial, epoch, value)

    def forget(self, trial: str) -> None:
        """Compare no other trial with this one: its configuration was decided without it."""
        self._values.pop(trial, None)

    def decide(self, trial: str, epoch: int, value: float, competitors: list[str]) -> int | None:
        """The rung at which the trial must stop now, or None; competitors that ended before a rung do not count."""
        rung = self._enter(trial, epoch, value)
        if rung is None:
            return None
        others = [self._values[name][rung] for name in competitors if rung in self._values.get(name, {})]
        better = sum(self._sign * other < self._sign * value for other in others)
        allowed = math.ceil((len(others) + 1) / self._reduction)
        # A NaN ranks below every number, so it never survives competition.
        if math.isnan(value) and others:
            return rung
        return rung if better >= allowed else None

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
