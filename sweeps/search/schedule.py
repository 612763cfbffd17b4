"""The trials of a sweep, their order, and what the study is told about them.

The order of events that Optuna sees does not depend on which trial happens to end first: configurations are told in
order, and configuration n is asked for exactly when the first n - lookahead + 1 have been told. So the same spec
gives the same trials every time, and an interrupted sweep continues by replaying its journals: trials that have ended
are told again instead of run again.

A configuration that diverged would diverge again: it is told as complete with a value worse than all others, so that
the sampler learns from it. One that failed for another reason (its process died, or it raised) is told as failed, from
which the sampler learns nothing.
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
from analysis.statistics.racing import Standing, race
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.configuration import config_hash
from linearizer_core.experiment.journal import ENDED, Outcome, TrialIdentity
from linearizer_core.experiment.journal_lines import Kind
from linearizer_core.experiment.nested import with_leaves
from sweeps.record.sweep_json import RULES
from sweeps.search.drawn import Drawn, Learnt, Point
from sweeps.search.halving import Competitors, why_decided
from sweeps.spec.model import Sweep
from sweeps.spec.samplers import sampler_of
from sweeps.spec.space import enumerate_points, suggest

NOTHING = Drawn()
"""The start of a new search."""

LEARNT = "learnt_from"
"""User attribute of a study's trial: the configuration of another sweep that it comes from; it did not run here."""

DIVERGED = "diverged"
"""User attribute of a study's trial that diverged: it is told as complete, with made-up values."""


class ReplayError(LinsweepError, RuntimeError):
    """The record was made with another version of the sampler, so the sweep cannot be continued."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to run: its identity and its resolved configuration, nested."""

    identity: TrialIdentity
    config: Mapping[str, Any]


class Outcomes(Protocol):
    """The journals as a schedule queries them."""

    def look_up(self, planned: PlannedTrial, competitors: Competitors, /) -> Outcome | None:
        """The outcome of a trial, given its competitors in early stopping; None if nothing is recorded.

        Raises ``ReplayError`` if the record belongs to another configuration.
        """

    def of_duplicate(self, planned: PlannedTrial, duplicate: str, /) -> Outcome:
        """The outcome of a trial from that of its duplicate; it is recorded for the trial too."""

    def of_decided(self, trial: PlannedTrial | TrialIdentity, reason: str, /) -> Outcome:
        """The outcome of a trial whose configuration was decided without it; it is recorded for the trial.

        A trial that has not begun is given as a ``PlannedTrial``.
        """


_Place = tuple[int, bool, int, float, int]

NOWHERE: _Place = (1, False, 0, 0.0, 0)
"""The place of a configuration that the study does not count as complete: after all others."""


@dataclass
class _Configuration:
    """A point of the space with a trial per seed; it holds only their identities, since configurations are large."""

    number: int
    overrides: dict[str, Any]
    trials: list[TrialIdentity]
    told_before: int
    asked: optuna.Trial | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    place: _Place | None = None

    @property
    def done(self) -> bool:
        return len(self.outcomes) == len(self.trials)

    def take(self, trial: str, outcome: Outcome) -> None:
        """Take the outcome of one of the trials; its place among the others is then unknown."""
        self.outcomes[trial] = outcome
        self.place = None

    def mean(self, key: str) -> float:
        return statistics.fmean(outcome.metrics[key] for outcome in self.outcomes.values())

    @property
    def decider(self) -> tuple[TrialIdentity, Outcome] | None:
        """The first seed, in their order, that is known to have been stopped early or to have diverged."""
        for identity in self.trials:
            outcome = self.outcomes.get(identity.trial)
            if outcome is not None and (outcome.state == "stopped" or outcome.diverged):
                return identity, outcome
        return None


class Schedule:
    """Hands out a sweep's trials and takes their outcomes.

    ``outcomes`` knows what earlier launches recorded. A sampler may draw a point twice; the same configuration at the
    same seed gives the same result and runs once. ``lookahead`` is how many configurations may be open at once.

    With early stopping, a search has the same result as if the seeds of a configuration ran one after the other: the
    first that is stopped or diverges decides, and later ones do not begin. Those that have begun meanwhile stop at
    their next result and do not count, so the result does not depend on which of them had begun.
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
        # As drawn at that time: a value that is rounded differently is another configuration.
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
        """The points that are not drawn by a sampler, by number: earlier ones, ``search.first``, and a grid's."""
        listed = [(number, dict(point)) for number, point in self._drawn.points.items()]
        more = self.sweep.first_points()
        if self.sweep.search.sampler == "grid":
            sums = enumerate_points(self.sweep.search.space, self.sweep.base_leaves, as_sums=True)
            more += list(sums) if self._as_sums else self.sweep.grid()
        known = {_as_key(point) for _, point in listed}
        for point in more:
            if _as_key(point) not in known:
                known.add(_as_key(point))
                listed.append((self._drawn.following + len(listed) - len(self._drawn.points), point))
        return listed

    @property
    def total(self) -> int:
        """How many trials the sweep will have if it is not cut short; in a race, as far as known."""
        return self.sweep.trials + self._raced

    def has_next(self) -> bool:
        """Whether a trial can run now; takes recorded outcomes along the way."""
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
        """The next trial to run; None if there is none or it depends on trials that are still running."""
        return self._waiting.pop(0) if self.has_next() else None

    def next_if(self, takes: Callable[[PlannedTrial], bool]) -> PlannedTrial | None:
        """The next trial that has to run, where ``takes`` is true of it; otherwise None, and it stays the next."""
        return self._waiting.pop(0) if self.has_next() and takes(self._waiting[0]) else None

    def take_back(self, planned: PlannedTrial) -> None:
        """Hand a trial out again, before all others."""
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
        """Whether the trial belongs to the sweep as planned so far."""
        return trial in self._by_trial

    def take_outcome(self, trial: str, outcome: Outcome) -> None:
        """Take the outcome of a trial, whose state must be final.

        If an earlier seed has decided its configuration, the recorded outcome is that decision instead.
        """
        configuration = self._by_trial[trial]
        configuration.take(trial, outcome)
        self._decide(configuration)
        for duplicate in self._duplicates.pop(trial, ()):
            self._enqueue(duplicate)

    def skip(self, planned: PlannedTrial) -> None:
        """End a trial that was handed out before its configuration was ``decided`` without it."""
        reason = self.decided(planned.identity.trial)
        assert reason is not None, f"{planned.identity.trial} is not decided"
        self.take_outcome(planned.identity.trial, self._recorded.of_decided(planned, reason))

    def decided(self, trial: str) -> str | None:
        """Why a trial must not go on, if an earlier seed has decided its configuration; else None."""
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
        """End the seeds of a configuration that was decided without them; running ones are asked to stop."""
        for identity in configuration.trials:
            reason = self.decided(identity.trial)
            if reason is None:
                continue
            waiting = next((planned for planned in self._waiting if planned.identity == identity), None)
            if waiting is not None:
                self._waiting.remove(waiting)
                self.not_begun.append(identity.trial)
            if waiting is not None or identity.trial in configuration.outcomes:
                configuration.take(identity.trial, self._recorded.of_decided(waiting or identity, reason))
                for duplicate in self._duplicates.pop(identity.trial, ()):
                    self._enqueue(duplicate)

    def competitors(self, trial: str) -> Competitors:
        """The trials of the same seed that had ended when this one was planned: its competitors in early stopping."""
        mine = self._by_trial[trial]
        seed = next(identity.seed for identity in mine.trials if identity.trial == trial)
        return Competitors(self._of_seed.setdefault(seed, []), mine.told_before)

    def best(self) -> list[TrialIdentity]:
        """The trials of the best finished configuration by the first objective; empty if there is none."""
        best = self._best()
        return best.trials if best else []

    def best_value(self) -> float | None:
        """The first objective of the best finished configuration, as the mean over its seeds."""
        best = self._best()
        return best.mean(next(iter(self.sweep.search.objective))) if best else None

    def _best(self) -> _Configuration | None:
        # The view of a running sweep asks for it twice a second: only what has changed since is computed.
        best = min(self._searched, key=self._place, default=None)
        return best if best is not None and self._place(best)[0] == 0 else None

    def _ranked(self) -> list[_Configuration]:
        """The configurations that the study counts as complete: those within the constraints first, then by the first
        objective."""
        return [each for each in sorted(self._searched, key=self._place) if self._place(each)[0] == 0]

    def _place(self, configuration: _Configuration) -> _Place:
        """Where a configuration stands: (0, …) if the study counts it as complete, the smallest being the best."""
        if not configuration.done:
            return NOWHERE
        if configuration.place is None:
            configuration.place = self._placed(configuration) if self._finished(configuration) else NOWHERE
        return configuration.place

    def _placed(self, configuration: _Configuration) -> _Place:
        key, mode = next(iter(self.sweep.search.objective.items()))
        return (
            0,
            any(excess > 0 for excess in self._excesses(configuration).values()),
            # One that left a race early has fewer seeds, and its mean may be better by chance.
            -len(configuration.trials),
            configuration.mean(key) if mode == "min" else -configuration.mean(key),
            configuration.number,
        )

    def _finished(self, configuration: _Configuration) -> bool:
        """Whether a configuration has its own values at every seed."""
        return not self._diverged(configuration) and self._verdict(configuration)["state"] == TrialState.COMPLETE

    def _excesses(self, configuration: _Configuration) -> dict[str, float]:
        """By how much a configuration violates each constraint (≤ 0: satisfied); an unmeasured metric violates it."""
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
        """Queue a trial, or give it the outcome of its duplicate in the search."""
        identity = planned.identity
        first = identity.trial
        if identity.kind == "search":
            first = self._first.setdefault((identity.config_hash, identity.seed), identity.trial)
        ended = self._by_trial[first].outcomes.get(first)
        # A trial that crashed or raised may have failed for external reasons, so its duplicate gets another try.
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
        """Plan the search's next configuration; False if that must wait or there are no more."""
        place = len(self._searched)
        if place >= self.sweep.configurations or not self._tell_first(place - self.lookahead + 1):
            return False
        asked: optuna.Trial | None = None
        number = self._drawn.following + place - len(self._drawn.points)
        if place < len(self._listed):
            number, overrides = self._listed[place]
        else:
            with warnings.catch_warnings():
                # Diverged configurations have infinite values: GP treats them as the worst finite one, with a warning.
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
        """The standing of the race; None if there is no race or nobody is in it."""
        rule = self.sweep.search.race
        if rule is None:
            return None
        key, mode = next(iter(self.sweep.search.objective.items()))
        once = {each.trials[0].config_hash: each for each in reversed(self._searched)}  # drop points drawn twice
        runners = [
            each
            for each in self._searched
            if each is once[each.trials[0].config_hash] and each.done and self._finished(each)
        ]
        # A configuration that violates a constraint can be the best only if all do.
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
        """Plan one more seed of each configuration that may still be the best; False if that must wait or is done.

        The study is not told: what the search draws depends only on the seeds that every configuration has.
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
        """Plan the confirmation runs once the search is over; False if there is nothing to plan."""
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
        """Tell the study about the first ``count`` configurations; False if one of them is still running."""
        while self._told < count:
            if self._told >= len(self._searched) or not self._searched[self._told].done:
                return False
            self._tell(self._searched[self._told])
            self._told += 1
        return True

    def _tell(self, configuration: _Configuration) -> None:
        """Tell the study the mean over seeds, or the worst value; PRUNED if a seed was stopped, FAIL if one failed."""
        attributes: dict[str, Any] = {"trials": [identity.trial for identity in configuration.trials]}
        if self._diverged(configuration):
            attributes[DIVERGED] = True
        verdict = self._verdict(configuration)
        # Early in training only the objective is measured, so a stopped trial says nothing about constraints.
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
        configuration.asked = None  # it holds a second copy of the study's data

    def _distributions(self, point: Point) -> dict[str, optuna.distributions.BaseDistribution]:
        """The distributions of a point's values; for a grid, the listed values."""
        space = self.sweep.search.space
        if self.sweep.search.sampler != "grid":
            return {name: space[name].distribution() for name in point}
        listed = {name: space[name].values(self._as_sums) or () for name in point}
        return {name: optuna.distributions.CategoricalDistribution(values) for name, values in listed.items()}

    def _learn(self, learnt: Learnt) -> None:
        """Tell the study about another sweep's configuration, marked as such."""
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
        """What the study is told; a diverged configuration gets infinite values, since the worst so far may be good."""
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
        """The outcomes that count for a configuration; a seed that was stopped stands for all of them."""
        outcomes = [configuration.outcomes[identity.trial] for identity in configuration.trials]
        stopped = [outcome for outcome in outcomes if outcome.state == "stopped"]
        # Values from different epochs cannot be averaged.
        return stopped[:1] if stopped and self.rules >= 2 else outcomes

    def _diverged(self, configuration: _Configuration) -> bool:
        """Whether a seed diverged, in training or where the objective was measured."""
        if self.rules < 2:
            return False
        measured = [outcome.metrics[key] for outcome in self._counted(configuration) if outcome.state != "failed"
                    for key in self.sweep.search.objective if key in outcome.metrics]  # fmt: skip
        diverged = any(outcome.diverged for outcome in configuration.outcomes.values())
        return diverged or not all(map(math.isfinite, measured))


def _as_key(point: Point) -> tuple[tuple[str, Any], ...]:
    """A point as a hashable key."""
    return tuple(sorted(point.items()))


def _excess(constraint: str, value: float | None) -> float:
    """By how much a value violates a constraint; infinite if it was not measured."""
    operator, bound = parse_constraint(constraint)
    if value is None or math.isnan(value):
        return math.inf
    return value - bound if operator == "<=" else bound - value


def make_study(sweep: Sweep, drawn: Drawn = NOTHING) -> optuna.Study:
    """The study of a sweep, in memory and empty, with its sampler seeded by ``search.seed``.

    A search that has grown gets another seed: with the same one it would draw the first points again.
    """
    search = sweep.search
    seed = (search.seed + drawn.following) % 2**32
    return optuna.create_study(
        study_name=sweep.name,
        sampler=sampler_of(sweep, seed),
        directions=["minimize" if mode == "min" else "maximize" for mode in search.objective.values()],
    )
