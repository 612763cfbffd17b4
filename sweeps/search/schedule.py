"""Which trials a sweep consists of, in which order, and what the study is told of them.

The order of events that Optuna sees does not depend on which trial happens to end first: configurations are told in
their order, and configuration n is asked for when exactly the first n - lookahead + 1 have been told. So the same
spec gives the same trials every time, and a sweep that was cut short is continued by replaying its journals: what has
an end is told again instead of run again.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from analysis.configuration.constraints import parse_constraint
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.configuration import config_hash
from linearizer_core.experiment.journal import ENDED, Outcome, TrialIdentity
from linearizer_core.experiment.journal_lines import Kind
from linearizer_core.experiment.nested import with_leaves
from sweeps.spec.model import Sweep
from sweeps.spec.space import suggest

STARTUP_TRIALS = 5
"""Random points before TPE models anything. Not a function of the number of trials, so that a sweep can be extended."""


class ReplayError(LinsweepError, RuntimeError):
    """The record was made by another version of the sampler, so the sweep cannot be continued from it."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to run: its identity and its resolved configuration, nested."""

    identity: TrialIdentity
    config: Mapping[str, Any]


class Outcomes(Protocol):
    """What a schedule asks of the journals."""

    def look_up(self, planned: PlannedTrial, competitors: list[str], /) -> Outcome | None:
        """What a trial came to, given the trials that early stopping compares it with; None where nothing is recorded.

        Raises ``ReplayError`` when the record is that of another configuration.
        """

    def of_duplicate(self, planned: PlannedTrial, duplicate: str, /) -> Outcome:
        """What a trial comes to by what a duplicate of it came to, which is recorded for it as well."""


@dataclass
class _Configuration:
    """A point of the space with its trials, one a seed: who they are, the resolved values would fill the memory."""

    number: int
    overrides: dict[str, Any]
    trials: list[TrialIdentity]
    told_before: int
    asked: optuna.Trial | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return len(self.outcomes) == len(self.trials)

    def mean(self, key: str) -> float:
        return statistics.fmean(outcome.metrics[key] for outcome in self.outcomes.values())


class Schedule:
    """Hands out a sweep's trials and takes their outcomes.

    ``outcomes`` knows what earlier launches recorded. A sampler may draw a point twice: the same configuration at the
    same seed gives the same, and is run once. ``lookahead`` is how many configurations may be open at once.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: optuna.Study,
        lookahead: int,
        outcomes: Outcomes,
    ) -> None:
        self.sweep = sweep
        self.study = study
        self.lookahead = lookahead
        self._recorded = outcomes
        self._grid = sweep.grid() if sweep.search.sampler == "grid" else None
        self._searched: list[_Configuration] = []
        self._of_seed: dict[int | None, list[str]] = {}
        self._others: dict[str, _Configuration] = {}
        self._waiting: list[PlannedTrial] = []
        self._by_trial: dict[str, _Configuration] = {}
        self._first: dict[tuple[str, int | None], str] = {}
        self._duplicates: dict[str, list[PlannedTrial]] = {}
        self._told = 0
        self._confirming = False
        self._exhausted = False
        self.reused: list[str] = []
        self._add_controls()

    @property
    def total(self) -> int:
        """How many trials the sweep will have, if nothing cuts it short."""
        return self.sweep.trials

    def has_next(self) -> bool:
        """Whether a trial can run now; takes what is recorded on the way to it."""
        while True:
            while self._waiting:
                trial = self._waiting[0].identity.trial
                outcome = self._recorded.look_up(self._waiting[0], self.competitors(trial))
                if outcome is None or outcome.state not in ENDED:
                    return True
                self._waiting.pop(0)
                self.reused.append(trial)
                self.take_outcome(trial, outcome)
            if not self._ask() and not self._confirm():
                return False

    def next(self) -> PlannedTrial | None:
        """The next trial that has to run, or None while it depends on trials that are still running."""
        return self._waiting.pop(0) if self.has_next() else None

    def take_back(self, planned: PlannedTrial) -> None:
        """Hand a trial out once more, before all others."""
        self._waiting.insert(0, planned)

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been handed out."""
        return self._exhausted and not self._waiting

    @property
    def complete(self) -> bool:
        """Whether every trial has been handed out and has ended."""
        return self.exhausted and all(configuration.done for configuration in self._by_trial.values())

    def has(self, trial: str) -> bool:
        """Whether the trial is one of the sweep's, as far as it is planned."""
        return trial in self._by_trial

    def take_outcome(self, trial: str, outcome: Outcome) -> None:
        """Take the outcome of a trial, whose state must be one that a trial stays in."""
        self._by_trial[trial].outcomes[trial] = outcome
        for duplicate in self._duplicates.pop(trial, ()):
            self._enqueue(duplicate)

    def competitors(self, trial: str) -> list[str]:
        """The trials that ended before this one was planned, at its own seed: what early stopping compares it with."""
        mine = self._by_trial[trial]
        seed = next(identity.seed for identity in mine.trials if identity.trial == trial)
        return self._of_seed.get(seed, [])[: mine.told_before]

    def best(self) -> list[TrialIdentity]:
        """The trials of the best finished configuration by the first objective; empty while there is none."""
        ranked = self._ranked()
        return ranked[0].trials if ranked else []

    def best_value(self) -> float | None:
        """The first objective of the best finished configuration, the mean over its seeds."""
        ranked = self._ranked()
        return ranked[0].mean(next(iter(self.sweep.search.objective))) if ranked else None

    def _ranked(self) -> list[_Configuration]:
        """Configurations that the study counts as complete, those that keep to the constraints first, then by the first
        objective."""
        key, mode = next(iter(self.sweep.search.objective.items()))
        sign = 1 if mode == "min" else -1
        complete = [
            configuration
            for configuration in self._searched
            if configuration.done and self._verdict(configuration)["state"] == TrialState.COMPLETE
        ]
        return sorted(
            complete,
            key=lambda configuration: (
                any(excess > 0 for excess in self._excesses(configuration).values()),
                sign * configuration.mean(key),
                configuration.number,
            ),
        )

    def _excesses(self, configuration: _Configuration) -> dict[str, float]:
        """By how much a configuration breaks each constraint (≤ 0: it keeps to it); unmeasured means broken."""
        excesses = {}
        for key, text in self.sweep.search.constraints.items():
            operator, bound = parse_constraint(text)
            measured = all(key in outcome.metrics for outcome in configuration.outcomes.values())
            excess = configuration.mean(key) - bound if measured else math.nan
            excesses[key] = math.inf if math.isnan(excess) else excess if operator == "<=" else -excess
        return excesses

    def _plan(
        self, kind: Kind, prefix: str, number: int, overrides: dict[str, Any], seeds: tuple[int, ...], label: str | None
    ) -> _Configuration:
        config = self.sweep.resolve(overrides)
        trials = []
        for seed in seeds:
            identity = TrialIdentity(
                sweep=self.sweep.name,
                trial=f"{prefix}{number:03d}-s{seed}",
                kind=kind,
                label=label,
                number=number,
                config_hash=config_hash(config),
                seed=seed,
                overrides=overrides,
            )
            trials.append(PlannedTrial(identity, with_leaves(config, {"seed": seed})))
        configuration = _Configuration(number, overrides, [planned.identity for planned in trials], self._told)
        self._by_trial |= {planned.identity.trial: configuration for planned in trials}
        for planned in trials:
            self._enqueue(planned)
        return configuration

    def _enqueue(self, planned: PlannedTrial) -> None:
        """Let a trial run when its turn comes, or have what a duplicate of it in the search comes to."""
        identity = planned.identity
        first = identity.trial
        if identity.kind == "search":
            first = self._first.setdefault((identity.config_hash, identity.seed), identity.trial)
        ended = self._by_trial[first].outcomes.get(first)
        # One that failed may have done so through no fault of its configuration: its duplicate is another try.
        if first == identity.trial or (ended and ended.state == "failed"):
            self._waiting.append(planned)
        elif ended:
            self.reused.append(identity.trial)
            self.take_outcome(identity.trial, self._recorded.of_duplicate(planned, first))
        else:
            self._duplicates.setdefault(first, []).append(planned)

    def _add_controls(self) -> None:
        for number, control in enumerate(self.sweep.model.controls):
            seeds = self.sweep.search.seeds
            self._others[control.name] = self._plan("control", "c", number, dict(control.set), seeds, control.name)

    def _ask(self) -> bool:
        """Plan the next configuration of the search; False while that must wait, or when there are no more."""
        number = len(self._searched)
        if number >= self.sweep.configurations or not self._tell_first(number - self.lookahead + 1):
            return False
        asked: optuna.Trial | None = None
        if self._grid is not None:
            overrides = self._grid[number]
        else:
            asked = self.study.ask()
            overrides = suggest(self.sweep.search.space, asked, self.sweep.base_leaves)
        configuration = self._plan("search", "t", number, overrides, self.sweep.search.seeds, None)
        configuration.asked = asked
        self._searched.append(configuration)
        for identity in configuration.trials:
            self._of_seed.setdefault(identity.seed, []).append(identity.trial)
        return True

    def _confirm(self) -> bool:
        """Plan the confirmation runs once the search is over; False when there is nothing to plan."""
        if not self._tell_first(self.sweep.configurations):
            return False
        confirm = self.sweep.search.confirm
        if confirm is None or self._confirming:
            self._exhausted = True
            return False
        self._confirming = True
        for configuration in self._ranked()[: confirm.top]:
            self._others[f"confirm {configuration.number}"] = self._plan(
                "confirm", "k", configuration.number, configuration.overrides, confirm.seeds, None
            )
        self._exhausted = not self._waiting
        return bool(self._waiting)

    def _tell_first(self, count: int) -> bool:
        """Tell the study of the first ``count`` configurations; False when one of them is still running."""
        while self._told < count:
            if self._told >= len(self._searched) or not self._searched[self._told].done:
                return False
            self._tell(self._searched[self._told])
            self._told += 1
        return True

    def _tell(self, configuration: _Configuration) -> None:
        """Tell the study: the mean over seeds, PRUNED where a seed was stopped early, FAIL where one failed."""
        names = [identity.trial for identity in configuration.trials]
        verdict = self._verdict(configuration)
        # Early in training nothing but the objective is measured: a stopped trial says nothing of constraints.
        complete = verdict["state"] == TrialState.COMPLETE
        constraints = self._excesses(configuration) if complete else {}
        if self._grid is not None:
            distributions: dict[str, optuna.distributions.BaseDistribution] = {
                name: optuna.distributions.CategoricalDistribution(self.sweep.search.space[name].values() or ())
                for name in configuration.overrides
            }
            told = optuna.create_trial(
                params=configuration.overrides,
                distributions=distributions,
                constraints=constraints,
                user_attrs={"trials": names},
                **verdict,
            )
            self.study.add_trial(told)
            return
        asked = configuration.asked
        assert asked is not None
        asked.set_user_attr("trials", names)
        for key, excess in constraints.items():
            asked.set_constraint(key, excess)
        for step, value in verdict.get("intermediate_values", {}).items():
            asked.report(value, step)
        self.study.tell(asked, values=verdict.get("values"), state=verdict["state"])
        configuration.asked = None  # it holds a second copy of what the study has

    def _verdict(self, configuration: _Configuration) -> dict[str, Any]:
        states = {outcome.state for outcome in configuration.outcomes.values()}
        keys = list(self.sweep.search.objective)
        if (
            "failed" in states
            or ("stopped" in states and len(keys) > 1)
            or not all(
                not math.isnan(outcome.metrics.get(key, math.nan))
                for key in keys
                for outcome in configuration.outcomes.values()
            )
        ):
            return {"state": TrialState.FAIL}
        means = [configuration.mean(key) for key in keys]
        if "stopped" in states:
            epoch = min(outcome.epoch for outcome in configuration.outcomes.values())
            return {"state": TrialState.PRUNED, "intermediate_values": {epoch: means[0]}}
        return {"state": TrialState.COMPLETE, "values": means}


def make_study(sweep: Sweep) -> optuna.Study:
    """The study of a sweep, in memory and empty, with its sampler seeded by ``search.seed``."""
    search = sweep.search
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=search.seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=any(dimension.when for dimension in search.space.values()),
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=search.seed),
        "grid": lambda: optuna.samplers.RandomSampler(seed=search.seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=search.seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=search.seed),
    }  # fmt: skip
    with warnings.catch_warnings():
        # ``group`` is how TPE models conditional spaces, and the only way; Optuna calls it experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = samplers[search.sampler]()
    return optuna.create_study(
        study_name=sweep.name,
        sampler=sampler,
        directions=["minimize" if mode == "min" else "maximize" for mode in search.objective.values()],
    )
