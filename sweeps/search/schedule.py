"""Which trials a sweep consists of, in which order, and what the study is told of them.

The order of events that Optuna sees does not depend on which trial happens to end first: configurations are told in
their order, and configuration n is asked for when exactly the first n - lookahead + 1 have been told. So the same
spec gives the same trials every time, and a sweep that was cut short is continued by replaying its journals: what has
an end is told again instead of run again.

A configuration whose numbers went astray would do so again: it is told as complete with a value worse than all, so that
the sampler learns from it. One of which a process died, or that raised, is told as failed, which teaches nothing.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from analysis.configuration.constraints import parse_constraint
from analysis.statistics.racing import Standing, race
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.configuration import config_hash
from linearizer_core.experiment.journal import ENDED, Outcome, TrialIdentity
from linearizer_core.experiment.journal_lines import Kind
from linearizer_core.experiment.nested import with_leaves
from sweeps.record.sweep_json import RULES
from sweeps.search.drawn import Drawn, Learnt, Point
from sweeps.search.halving import why_decided
from sweeps.spec.model import Sweep
from sweeps.spec.samplers import sampler_of
from sweeps.spec.space import enumerate_points, suggest

NOTHING = Drawn()
"""What a search begins with that is its spec's first."""

LEARNT = "learnt_from"
"""User attribute of a study's trial: the configuration of another sweep that it is, which no trial of this one ran."""

DIVERGED = "diverged"
"""User attribute of a study's trial: it is told as complete, and its values are made up."""


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

    def of_decided(self, trial: PlannedTrial | TrialIdentity, reason: str, /) -> Outcome:
        """What a trial comes to whose configuration has been decided without it, which is recorded for it.

        One that has not begun is given as it was planned.
        """


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

    @property
    def decider(self) -> tuple[TrialIdentity, Outcome] | None:
        """The first of the seeds, in their order, of which it is known that it was stopped early or diverged."""
        for identity in self.trials:
            outcome = self.outcomes.get(identity.trial)
            if outcome is not None and (outcome.state == "stopped" or outcome.diverged):
                return identity, outcome
        return None


class Schedule:
    """Hands out a sweep's trials and takes their outcomes.

    ``outcomes`` knows what earlier launches recorded. A sampler may draw a point twice: the same configuration at the
    same seed gives the same, and is run once. ``lookahead`` is how many configurations may be open at once.

    With early stopping a search comes to what its seeds would come to one after another: of a configuration, the first
    that is stopped, or diverges, decides, and those after it are not begun. Those that have begun meanwhile stop at
    their next result, and nothing of them counts, so that it does not matter which had.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: optuna.Study,
        lookahead: int,
        outcomes: Outcomes,
        rules: int = RULES,
        drawn: Drawn = NOTHING,
    ) -> None:
        self.sweep = sweep
        self.study = study
        self.lookahead = lookahead
        self.rules = rules
        self._recorded = outcomes
        self._worst = [math.inf if mode == "min" else -math.inf for mode in sweep.search.objective.values()]
        # As they were drawn then: a value that is written otherwise is another configuration.
        self._as_sums = rules < 2
        self._drawn = drawn
        self._listed = self._list()
        self._searched: list[_Configuration] = []
        self._of_seed: dict[int | None, list[str]] = {}
        self._others: dict[str, _Configuration] = {}
        self._waiting: list[PlannedTrial] = []
        self._by_trial: dict[str, _Configuration] = {}
        self._first: dict[tuple[str, int | None], str] = {}
        self._duplicates: dict[str, list[PlannedTrial]] = {}
        self._told = 0
        self._confirming = False
        self._raced = 0
        self._exhausted = False
        self.reused: list[str] = []
        self.not_begun: list[str] = []
        for learnt in drawn.learnt:
            self._learn(learnt)
        self._add_controls()

    def _list(self) -> list[tuple[int, dict[str, Any]]]:
        """The points that no sampler draws, by number: those of before, ``search.first``, and all others of a grid."""
        listed = [(number, dict(point)) for number, point in self._drawn.points.items()]
        more = self.sweep.first_points()
        if self.sweep.search.sampler == "grid":
            sums = enumerate_points(self.sweep.search.space, self.sweep.base_leaves, as_sums=True)
            more += list(sums) if self._as_sums else self.sweep.grid()
        known = {_place(point) for _, point in listed}
        for point in more:
            if _place(point) not in known:
                known.add(_place(point))
                listed.append((self._drawn.following + len(listed) - len(self._drawn.points), point))
        return listed

    @property
    def total(self) -> int:
        """How many trials the sweep will have, if nothing cuts it short; in a race, as far as that is known."""
        return self.sweep.trials + self._raced

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
            if not self._ask() and not self._go_on_racing() and not self._confirm():
                return False

    def next(self) -> PlannedTrial | None:
        """The next trial that has to run, or None while it depends on trials that are still running."""
        return self._waiting.pop(0) if self.has_next() else None

    def take_back(self, planned: PlannedTrial) -> None:
        """Hand a trial out once more, before all others."""
        self._waiting.insert(0, planned)
        self._decide(self._by_trial[planned.identity.trial])

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
        """Take the outcome of a trial, whose state must be one that a trial stays in.

        Where its configuration has been decided by a seed before it, the outcome is that, whatever it came to.
        """
        configuration = self._by_trial[trial]
        configuration.outcomes[trial] = outcome
        self._decide(configuration)
        for duplicate in self._duplicates.pop(trial, ()):
            self._enqueue(duplicate)

    def skip(self, planned: PlannedTrial) -> None:
        """End a trial that had been handed out when its configuration was ``decided`` without it."""
        reason = self.decided(planned.identity.trial)
        assert reason is not None, f"{planned.identity.trial} is not decided"
        self.take_outcome(planned.identity.trial, self._recorded.of_decided(planned, reason))

    def decided(self, trial: str) -> str | None:
        """Why a trial is not to go on, where a seed before it has decided its configuration."""
        if self.rules < 2 or self.sweep.search.stop_early is None:
            return None
        configuration = self._by_trial[trial]
        names = [identity.trial for identity in configuration.trials]
        decider = configuration.decider
        if decider is None or decider[0].kind != "search" or names.index(trial) <= names.index(decider[0].trial):
            return None
        identity, outcome = decider
        return why_decided(identity.seed, outcome.epoch, outcome.diverged)

    def _decide(self, configuration: _Configuration) -> None:
        """End the seeds of a configuration that has been decided without them; those that run are asked to stop."""
        for identity in configuration.trials:
            reason = self.decided(identity.trial)
            if reason is None:
                continue
            waiting = next((planned for planned in self._waiting if planned.identity == identity), None)
            if waiting is not None:
                self._waiting.remove(waiting)
                self.not_begun.append(identity.trial)
            if waiting is not None or identity.trial in configuration.outcomes:
                configuration.outcomes[identity.trial] = self._recorded.of_decided(waiting or identity, reason)
                for duplicate in self._duplicates.pop(identity.trial, ()):
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
            configuration for configuration in self._searched if configuration.done and self._finished(configuration)
        ]
        return sorted(
            complete,
            key=lambda configuration: (
                any(excess > 0 for excess in self._excesses(configuration).values()),
                # Who has left a race has fewer seeds: a mean of few may be better by chance.
                -len(configuration.trials),
                sign * configuration.mean(key),
                configuration.number,
            ),
        )

    def _finished(self, configuration: _Configuration) -> bool:
        """Whether a configuration has values of its own, of every seed."""
        return not self._diverged(configuration) and self._verdict(configuration)["state"] == TrialState.COMPLETE

    def _excesses(self, configuration: _Configuration) -> dict[str, float]:
        """By how much a configuration breaks each constraint (≤ 0: it keeps to it); unmeasured means broken."""
        excesses = {}
        if self._diverged(configuration):
            return dict.fromkeys(self.sweep.search.constraints, math.inf)
        for key, text in self.sweep.search.constraints.items():
            measured = all(key in outcome.metrics for outcome in configuration.outcomes.values())
            excesses[key] = _excess(text, configuration.mean(key) if measured else None)
        return excesses

    def _plan(
        self, kind: Kind, prefix: str, number: int, overrides: dict[str, Any], seeds: tuple[int, ...], label: str | None
    ) -> _Configuration:
        trials = [self._planned(kind, prefix, number, overrides, seed, label) for seed in seeds]
        configuration = _Configuration(number, overrides, [planned.identity for planned in trials], self._told)
        self._by_trial |= {planned.identity.trial: configuration for planned in trials}
        for planned in trials:
            self._enqueue(planned)
        self._decide(configuration)
        return configuration

    def _planned(
        self, kind: Kind, prefix: str, number: int, overrides: dict[str, Any], seed: int, label: str | None
    ) -> PlannedTrial:
        config = self.sweep.resolve(overrides)
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
        return PlannedTrial(identity, with_leaves(config, {"seed": seed}))

    def _enqueue(self, planned: PlannedTrial) -> None:
        """Let a trial run when its turn comes, or have what a duplicate of it in the search comes to."""
        identity = planned.identity
        first = identity.trial
        if identity.kind == "search":
            first = self._first.setdefault((identity.config_hash, identity.seed), identity.trial)
        ended = self._by_trial[first].outcomes.get(first)
        # One that died or raised may have done so through no fault of its configuration: its duplicate is another try.
        died = ended is not None and ended.state == "failed" and not (ended.diverged and self.rules >= 2)
        if first == identity.trial or died:
            self._waiting.append(planned)
        elif ended:
            self.reused.append(identity.trial)
            self.take_outcome(identity.trial, self._recorded.of_duplicate(planned, first))
        else:
            self._duplicates.setdefault(first, []).append(planned)

    def _add_controls(self) -> None:
        numbers = self._drawn.controls
        for place, control in enumerate(self.sweep.model.controls):
            number = place if numbers is None else numbers[control.name]
            seeds = self.sweep.search.first_seeds
            self._others[control.name] = self._plan("control", "c", number, dict(control.set), seeds, control.name)

    def _ask(self) -> bool:
        """Plan the next configuration of the search; False while that must wait, or when there are no more."""
        place = len(self._searched)
        if place >= self.sweep.configurations or not self._tell_first(place - self.lookahead + 1):
            return False
        asked: optuna.Trial | None = None
        number = self._drawn.following + place - len(self._drawn.points)
        if place < len(self._listed):
            number, overrides = self._listed[place]
        else:
            with warnings.catch_warnings():
                # What diverged has infinite values: GP takes them for the worst that there are, with a warning.
                warnings.filterwarnings("ignore", "Clip non-finite", UserWarning)
                asked = self.study.ask()
                overrides = suggest(self.sweep.search.space, asked, self.sweep.base_leaves, self._as_sums)
        configuration = self._plan("search", "t", number, overrides, self.sweep.search.first_seeds, None)
        configuration.asked = asked
        self._searched.append(configuration)
        for identity in configuration.trials:
            self._of_seed.setdefault(identity.seed, []).append(identity.trial)
        return True

    def _standing(self) -> Standing | None:
        """How the race stands; None without one, and where nobody is in it."""
        rule = self.sweep.search.race
        if rule is None:
            return None
        key, mode = next(iter(self.sweep.search.objective.items()))
        once = {each.trials[0].config_hash: each for each in reversed(self._searched)}  # a point that is drawn twice
        runners = [
            each
            for each in self._searched
            if each is once[each.trials[0].config_hash] and each.done and self._finished(each)
        ]
        # What breaks a constraint is only the best where all do.
        kept = [each for each in runners if not any(excess > 0 for excess in self._excesses(each).values())]
        values = {
            each.number: [each.outcomes[identity.trial].metrics[key] for identity in each.trials]
            for each in kept or runners
        }
        return race(values, rule.at_least, rule.at_most, mode) if values else None

    def _race_is_over(self) -> bool:
        standing = self._standing()
        return all(each.done for each in self._searched) and (standing is None or standing.decided)

    def _go_on_racing(self) -> bool:
        """Plan one more seed of each configuration that may still be the best; False where that must wait, or no more.

        The study knows nothing of it: what the search draws depends on the seeds that all configurations have.
        """
        if not self._tell_first(self.sweep.configurations) or not all(each.done for each in self._searched):
            return False
        standing = self._standing()
        if standing is None or standing.decided:
            return False
        seed = standing.seeds
        for each in [each for each in self._searched if each.number in standing.left and len(each.trials) == seed]:
            planned = self._planned("search", "t", each.number, each.overrides, seed, None)
            each.trials.append(planned.identity)
            self._by_trial[planned.identity.trial] = each
            self._raced += 1
            self._enqueue(planned)
        return True

    def _confirm(self) -> bool:
        """Plan the confirmation runs once the search is over; False when there is nothing to plan."""
        if not self._tell_first(self.sweep.configurations) or not self._race_is_over():
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
        """Tell the study the mean over seeds, or the worst; PRUNED where a seed was stopped, FAIL where one died."""
        attributes: dict[str, Any] = {"trials": [identity.trial for identity in configuration.trials]}
        if self._diverged(configuration):
            attributes[DIVERGED] = True
        verdict = self._verdict(configuration)
        # Early in training nothing but the objective is measured: a stopped trial says nothing of constraints.
        complete = verdict["state"] == TrialState.COMPLETE
        constraints = self._excesses(configuration) if complete else {}
        asked = configuration.asked
        if asked is None:
            told = optuna.create_trial(
                params=configuration.overrides,
                distributions=self._distributions(configuration.overrides),
                constraints=constraints,
                user_attrs=attributes,
                **verdict,
            )
            self.study.add_trial(told)
            return
        for name, value in attributes.items():
            asked.set_user_attr(name, value)
        for key, excess in constraints.items():
            asked.set_constraint(key, excess)
        for step, value in verdict.get("intermediate_values", {}).items():
            asked.report(value, step)
        self.study.tell(asked, values=verdict.get("values"), state=verdict["state"])
        configuration.asked = None  # it holds a second copy of what the study has

    def _distributions(self, point: Point) -> dict[str, optuna.distributions.BaseDistribution]:
        """What the values of a point are drawn from; of a grid they are as they are listed."""
        space = self.sweep.search.space
        if self.sweep.search.sampler != "grid":
            return {name: space[name].distribution() for name in point}
        listed = {name: space[name].values(self._as_sums) or () for name in point}
        return {name: optuna.distributions.CategoricalDistribution(values) for name, values in listed.items()}

    def _learn(self, learnt: Learnt) -> None:
        """Tell the study of a configuration of another sweep, marked as such."""
        search = self.sweep.search
        told = optuna.create_trial(
            params=dict(learnt.point),
            distributions=self._distributions(learnt.point),
            values=[learnt.metrics[key] for key in search.objective],
            constraints={key: _excess(text, learnt.metrics.get(key)) for key, text in search.constraints.items()},
            user_attrs={LEARNT: learnt.source},
        )
        self.study.add_trial(told)

    def _verdict(self, configuration: _Configuration) -> dict[str, Any]:
        """What the study is told: values worse than all for what diverged; the worst so far may be a good one."""
        keys = list(self.sweep.search.objective)
        counted = self._counted(configuration)
        states = {outcome.state for outcome in counted}
        if self._diverged(configuration):
            return {"state": TrialState.COMPLETE, "values": list(self._worst)}
        unmeasured = any(math.isnan(outcome.metrics.get(key, math.nan)) for key in keys for outcome in counted)
        if "failed" in states or ("stopped" in states and len(keys) > 1) or unmeasured:
            return {"state": TrialState.FAIL}
        if "stopped" in states:
            epoch = min(outcome.epoch for outcome in counted)
            value = statistics.fmean(outcome.metrics[keys[0]] for outcome in counted)
            return {"state": TrialState.PRUNED, "intermediate_values": {epoch: value}}
        return {"state": TrialState.COMPLETE, "values": [configuration.mean(key) for key in keys]}

    def _counted(self, configuration: _Configuration) -> list[Outcome]:
        """The outcomes that say how a configuration is: that of a seed which was stopped stands for all."""
        outcomes = [configuration.outcomes[identity.trial] for identity in configuration.trials]
        stopped = [outcome for outcome in outcomes if outcome.state == "stopped"]
        # Values of different epochs have no mean.
        return stopped[:1] if stopped and self.rules >= 2 else outcomes

    def _diverged(self, configuration: _Configuration) -> bool:
        """Whether a seed's numbers went astray, in training or where the objective was measured."""
        if self.rules < 2:
            return False
        measured = [outcome.metrics[key] for outcome in self._counted(configuration) if outcome.state != "failed"
                    for key in self.sweep.search.objective if key in outcome.metrics]  # fmt: skip
        diverged = any(outcome.diverged for outcome in configuration.outcomes.values())
        return diverged or not all(map(math.isfinite, measured))


def _place(point: Point) -> tuple[tuple[str, Any], ...]:
    """A point as something that can be looked up."""
    return tuple(sorted(point.items()))


def _excess(constraint: str, value: float | None) -> float:
    """By how much a value breaks a constraint; what was not measured breaks it without bound."""
    operator, bound = parse_constraint(constraint)
    if value is None or math.isnan(value):
        return math.inf
    return value - bound if operator == "<=" else bound - value


def make_study(sweep: Sweep, drawn: Drawn = NOTHING) -> optuna.Study:
    """The study of a sweep, in memory and empty, with its sampler seeded by ``search.seed``.

    One that takes up what was ``drawn`` has another seed: from the same one it would draw the first points again.
    """
    search = sweep.search
    seed = (search.seed + drawn.following) % 2**32
    return optuna.create_study(
        study_name=sweep.name,
        sampler=sampler_of(sweep, seed),
        directions=["minimize" if mode == "min" else "maximize" for mode in search.objective.values()],
    )
