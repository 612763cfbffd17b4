"""Which trials of a sweep train together, in one process, as one batched network."""

from __future__ import annotations

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.plugged import trial_config
from linearizer_core.experiment.together import shape_of, why_apart
from sweeps.search.schedule import PlannedTrial
from sweeps.spec.model import Sweep

LARGEST = 16
"""Trials that ``together: auto`` trains at once at most: each has its weights, gradients and optimiser in memory."""


class Grouping:
    """Which trials of a sweep may share one of so many ``places``, as ``resources.together`` says.

    With ``auto`` these are the seeds of a configuration, as many as keep every slot busy. A number is how many at most,
    and takes configurations that differ in nothing but seed and learning rate as well.
    """

    def __init__(self, sweep: Sweep, places: int) -> None:
        search, wanted = sweep.search, sweep.model.resources.together
        self.why_not = _why_not(sweep)
        """Why no trials train together, None if some may."""
        self._sweep = sweep
        self._only_seeds = wanted == "auto"
        beside = sweep.configurations + len(sweep.model.controls)

        def most(seeds: int, configurations: int) -> int:
            if self.why_not is not None:
                return 1
            return wanted if isinstance(wanted, int) else min(seeds, LARGEST, -(-configurations * seeds // places))

        self.size = most(len(search.first_seeds), beside)
        """How many trials of the search share a slot, where as many wait."""
        self._confirmed = most(len(search.confirm.seeds), search.confirm.top) if search.confirm else self.size

    def most(self, planned: PlannedTrial) -> int:
        """How many trials may train together with one, itself included."""
        return self._confirmed if planned.identity.kind == "confirm" else self.size

    def alike(self, one: PlannedTrial, other: PlannedTrial) -> bool:
        """Whether two trials may train together."""
        configurations = {(each.identity.kind, each.identity.number) for each in (one, other)}
        if self._only_seeds and len(configurations) > 1:
            return False
        config = trial_config(one.config)
        return why_apart(config) is None and shape_of(config) == shape_of(trial_config(other.config))

    @property
    def in_words(self) -> str | None:
        """What the plan says of it; None where nothing was asked for."""
        search = self._sweep.search
        if self._sweep.model.resources.together == "off":
            return None
        if self.why_not is not None:
            return f"no: {self.why_not}"
        what = "seeds of a configuration" if self._only_seeds else "trials that differ in seed and train.lr alone"
        confirmed = f" ({self._confirmed} of a confirmation)" if self._confirmed != self.size else ""
        text = f"up to {self.size} {what}{confirmed} in one process; each ends and is recorded by itself"
        apart = [(why_apart(config), name) for name, config in _configurations(self._sweep)]
        text += "".join(f"; not {name}: {why}" for why, name in apart if why)
        if search.race is not None and self._only_seeds:
            text += f"; a race adds seeds after the first {len(search.first_seeds)} one at a time, each by itself"
        return text


def _why_not(sweep: Sweep) -> str | None:
    resources, search = sweep.model.resources, sweep.search
    if resources.together == "off":
        return "resources.together is off"
    if sweep.function is not None:
        return "what a function does cannot be batched"
    if resources.workers > 1:
        return f"{resources.workers} workers share each trial"
    if sweep.bucket is not None:
        return "each trial writes into the bucket by itself"
    seeds = max(len(search.first_seeds), len(search.confirm.seeds) if search.confirm else 0)
    if resources.together == "auto" and seeds < 2:
        return "auto takes the seeds of a configuration, and each has one"
    reasons = {why_apart(config) for _, config in _configurations(sweep)}
    return None if None in reasons else next(iter(reasons))


def _configurations(sweep: Sweep) -> list[tuple[str, TrialConfig]]:
    """The base configuration and the controls, by what a plan calls them."""
    named = [("the base configuration", {}), *((control.name, control.set) for control in sweep.model.controls)]
    return [(name, sweep.trial_config(overrides, 0)) for name, overrides in named]
