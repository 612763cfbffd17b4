"""The schedule: the same trials in the same order whoever ends first, and nothing run twice."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from linearizer_core.experiment.configuration import config_hash
from linearizer_core.experiment.journal import Journal, Outcome, TrialIdentity, state_of
from sweeps.record.paths import SweepPaths
from sweeps.search.halving import Competitors, Halving
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.schedule import PlannedTrial, ReplayError, Schedule, make_study
from sweeps.spec.model import Sweep

FD, SWD = "quality/classifier_fd_collapsed", "quality/swd_collapsed"
DEPTH, RANK, LR = "model.flow.depth", "model.operator.rank", "train.lr"
ROUNDTRIP = "linearity/roundtrip"
ORDERS = [(workers, seed) for workers in (1, 2, 3, 4) for seed in (0, 1)]

Drive = Callable[..., Any]
ToSweep = Callable[..., Sweep]
Ended = Callable[..., Outcome]

PLAIN: dict[str, Any] = {"search/stop_early": None, "controls": []}
SEEDED = {**PLAIN, "search/seeds": [0, 1, 2]}
CONDITIONAL = {
    **PLAIN,
    "search/space/model.flow.kernel": {"choice": [3, 5], "when": {"model.flow.conditioner": "conv"}},
    "search/space/model.flow.conditioner": {"choice": ["mlp", "conv"]},
}
SAMPLERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=3, n_startup_trials=5, multivariate=True),
    "random": lambda: optuna.samplers.RandomSampler(seed=3),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=3),
    "gp": lambda: optuna.samplers.GPSampler(seed=3),
}


# The order of events


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_at_a_time_it_is_optunas_own_loop(
    sampler: str, sweep: ToSweep, drive: Drive, closed_form: Callable[..., float]
) -> None:
    # GP models from its eleventh trial on.
    done = drive(sweep({**PLAIN, "search/sampler": sampler, "search/seed": 3, "search/trials": 12}))
    study = optuna.create_study(sampler=SAMPLERS[sampler]())

    def objective(trial: optuna.Trial) -> float:
        return closed_form(
            {
                DEPTH: trial.suggest_int(DEPTH, 1, 6),
                RANK: trial.suggest_int(RANK, 4, 64, log=True),
                LR: trial.suggest_float(LR, 0.001, 0.01, log=True),
            }
        )

    study.optimize(objective, n_trials=12)
    assert [point for _, point in done.points] == [trial.params for trial in study.trials]
    assert [trial.values for trial in done.study.trials] == [trial.values for trial in study.trials]
    assert done.schedule.best_value() == study.best_value
    assert done.schedule.best()[0].overrides == study.best_params


@pytest.mark.parametrize("edits", [PLAIN, SEEDED, CONDITIONAL], ids=["plain", "seeds", "conditions"])
def test_the_trials_do_not_depend_on_who_ends_first(sweep: ToSweep, drive: Drive, edits: dict[str, Any]) -> None:
    made = sweep(edits)
    runs = [drive(made, lookahead=3, workers=workers, order=seed) for workers, seed in ORDERS]
    for run in runs:
        assert run.points == runs[0].points
        assert run.told == runs[0].told
        assert run.schedule.exhausted
        assert len(run.names) == run.schedule.total == made.configurations * len(made.search.seeds)


def test_a_configuration_is_asked_for_when_all_but_lookahead_minus_one_are_told(
    sweep: ToSweep, ended: Ended, tmp_path: Path
) -> None:
    made = sweep({**PLAIN, "search/trials": 5})
    study = make_study(made)
    schedule = Schedule(made, study, 3, RecordedOutcomes(SweepPaths(tmp_path), None, FD))
    first = [schedule.next() for _ in range(4)]
    assert [planned.identity.trial if planned else None for planned in first] == ["t000-s0", "t001-s0", "t002-s0", None]
    schedule.take_outcome("t002-s0", ended(1.0))
    schedule.take_outcome("t001-s0", ended(1.0))
    assert not schedule.has_next()  # the first is still running
    schedule.take_outcome("t000-s0", ended(1.0))
    assert schedule.has_next()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING", "RUNNING", "RUNNING"]
    assert not schedule.exhausted


def test_names_numbers_hashes_and_configurations(sweep: ToSweep, drive: Drive) -> None:
    made = sweep(
        {
            "search/stop_early": None,
            "search/trials": 2,
            "search/seeds": [4, 7],
            "search/confirm": {"top": 1, "seeds": [9]},
        }
    )
    done = drive(made)
    assert [(p.identity.kind, p.identity.number, p.identity.seed, p.identity.label) for p in done.planned] == [
        ("control", 0, 4, "g = identity"), ("control", 0, 7, "g = identity"),
        ("search", 0, 4, None), ("search", 0, 7, None), ("search", 1, 4, None), ("search", 1, 7, None),
        ("confirm", done.planned[-1].identity.number, 9, None),
    ]  # fmt: skip
    assert done.names[:6] == ["c000-s4", "c000-s7", "t000-s4", "t000-s7", "t001-s4", "t001-s7"]
    for planned in done.planned:
        assert planned.identity.sweep == "demo"
        assert planned.config["seed"] == planned.identity.seed
        assert (
            made.trial_config(planned.identity.overrides, planned.config["seed"]).train.lr
            == planned.config["train"]["lr"]
        )
    hashes = [planned.identity.config_hash for planned in done.planned]
    assert len(set(hashes)) == 3  # a control, two points; the seeds of each and the confirmation share a hash
    assert hashes[0] == hashes[1]
    assert hashes[6] in (hashes[2], hashes[4])


# What the study is told


def test_the_mean_over_the_seeds_is_told(sweep: ToSweep, drive: Drive, closed_form: Callable[..., float]) -> None:
    done = drive(sweep({**SEEDED, "search/trials": 4}))
    for trial in done.study.trials:
        # Seeds 0, 1 and 2 add 0, 1/8 and 2/8.
        assert trial.value == pytest.approx(closed_form(trial.params) + 0.125)
        assert trial.user_attrs["trials"] == [f"t{trial.number:03d}-s{seed}" for seed in (0, 1, 2)]


@pytest.mark.parametrize(
    ("states", "values", "told"),
    [
        (["finished", "finished"], [1.0, 2.0], ("COMPLETE", [1.5], {})),
        # Values of different epochs have no mean: the first that was stopped stands for the configuration.
        (["finished", "stopped"], [1.0, 2.0], ("PRUNED", [2.0], {4: 2.0})),
        (["stopped", "stopped"], [1.0, 2.0], ("PRUNED", [1.0], {4: 1.0})),
        (["finished", "failed"], [1.0, 2.0], ("FAIL", None, {})),
        (["stopped", "failed"], [1.0, 2.0], ("PRUNED", [1.0], {4: 1.0})),
        (["finished", "finished"], [1.0, math.nan], ("COMPLETE", [math.inf], {})),
        (["stopped", "finished"], [math.nan, 1.0], ("COMPLETE", [math.inf], {})),
        (["finished", "finished"], [1.0, None], ("FAIL", None, {})),
        (["finished", "finished"], [1.0, math.inf], ("COMPLETE", [math.inf], {})),
    ],
)
def test_states(
    sweep: ToSweep, drive: Drive, ended: Ended, states: list[str], values: list[float | None], told: tuple[Any, ...]
) -> None:
    def evaluate(planned: PlannedTrial) -> Outcome:
        seed = planned.identity.seed or 0
        value = values[seed]
        return ended({} if value is None else {FD: value}, states[seed], 4 if states[seed] == "stopped" else 9)

    done = drive(sweep({**PLAIN, "search/trials": 2, "search/seeds": [0, 1]}), evaluate)
    assert [t.user_attrs.get("diverged", False) for t in done.study.trials] == [told[1] == [math.inf]] * 2
    assert [(t.state.name, t.values, t.intermediate_values) for t in done.study.trials] == [told, told]


def test_controls_come_first_and_are_never_told(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    controls = [{"name": name, "set": {"train.sigma": i}} for i, name in enumerate("ab")]
    made = sweep({**SEEDED, "search/seeds": [0, 1], "controls": controls, "search/trials": 3})

    def evaluate(planned: PlannedTrial) -> Outcome:
        return ended(0.0 if planned.identity.kind == "control" else 1.0)

    done = drive(made, evaluate, lookahead=2, workers=2, order=1)
    assert done.names[:5] == ["c000-s0", "c000-s1", "c001-s0", "c001-s1", "t000-s0"]
    assert [planned.identity.label for planned in done.planned[:4]] == ["a", "a", "b", "b"]
    assert [trial.value for trial in done.study.trials] == [1.0, 1.0, 1.0]
    assert done.schedule.best()[0].kind == "search"


@pytest.mark.parametrize(
    ("text", "measured", "excess"),
    [("<= 0.5", 0.75, 0.25), ("<= 0.5", 0.25, -0.25), (">= 0.5", 0.75, -0.25), (">= 0.5", 0.25, 0.25)],
)
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_constraints_reach_the_study(
    sweep: ToSweep, drive: Drive, ended: Ended, sampler: str, text: str, measured: float, excess: float
) -> None:
    edits = {**PLAIN, "search/sampler": sampler, "search/constraints": {ROUNDTRIP: text}, "search/seeds": [0, 1]}
    spread = {0: -0.125, 1: 0.125}
    done = drive(
        sweep({**edits, "search/trials": 2}), lambda p: ended({FD: 1.0, ROUNDTRIP: measured + spread[p.identity.seed]})
    )
    assert [trial.constraints for trial in done.study.trials] == [{ROUNDTRIP: excess}] * 2


def test_constraints_of_a_grid_reach_the_study(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    made = sweep({**GRID, "search/constraints": {ROUNDTRIP: "<= 0.5"}, "search/trials": 1})
    done = drive(made, lambda p: ended({FD: 1.0, ROUNDTRIP: 0.75}))
    assert [trial.constraints for trial in done.study.trials] == [{ROUNDTRIP: 0.25}]
    assert done.study.trials[0].user_attrs == {"trials": ["t000-s0"]}


def test_constraints_decide_what_is_best(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    measured = [(1.0, 0.9), (2.0, 0.6), (4.0, 0.5), (3.0, 0.4)]

    def evaluate(planned: PlannedTrial) -> Outcome:
        value, roundtrip = measured[planned.identity.number]
        return ended({FD: value, ROUNDTRIP: roundtrip})

    edits = {**PLAIN, "search/trials": 4}
    done = drive(sweep({**edits, "search/constraints": {ROUNDTRIP: "<= 0.5"}}), evaluate)
    assert (done.schedule.best_value(), done.schedule.best()[0].trial) == (3.0, "t003-s0")
    assert drive(sweep(edits), evaluate).schedule.best_value() == 1.0
    # Where none keeps to them, the best of those that break them.
    strict = drive(sweep({**edits, "search/constraints": {ROUNDTRIP: "<= 0.1"}}), evaluate)
    assert strict.schedule.best_value() == 1.0


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_a_constraint_that_was_not_measured_is_not_kept(
    sweep: ToSweep, drive: Drive, ended: Ended, sampler: str
) -> None:
    measured = [(1.0, {ROUNDTRIP: math.nan}), (2.0, {}), (3.0, {ROUNDTRIP: 0.25})]

    def evaluate(planned: PlannedTrial) -> Outcome:
        value, more = measured[planned.identity.number]
        return ended({FD: value, **more})

    edits = {**PLAIN, "search/sampler": sampler, "search/trials": 3, "search/constraints": {ROUNDTRIP: "<= 0.5"}}
    done = drive(sweep(edits), evaluate)
    assert done.schedule.best_value() == 3.0
    assert done.study.trials[2].constraints == {ROUNDTRIP: -0.25}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_trials_stopped_before_a_constraint_is_measured(
    sweep: ToSweep, drive: Drive, ended: Ended, sampler: str
) -> None:
    def evaluate(planned: PlannedTrial) -> Outcome:
        if planned.identity.number % 2:
            return ended(1.0, "stopped", 2)
        return ended({FD: 1.0, ROUNDTRIP: 0.25})

    edits = {
        "controls": [],
        "search/sampler": sampler,
        "search/trials": 13,
        "search/constraints": {ROUNDTRIP: "<= 0.5"},
    }
    done = drive(sweep(edits), evaluate)
    assert [trial.state.name for trial in done.study.trials] == ["COMPLETE", "PRUNED"] * 6 + ["COMPLETE"]


@pytest.mark.parametrize("position", range(3))
def test_a_configuration_without_a_value_is_never_the_best(
    sweep: ToSweep, drive: Drive, ended: Ended, position: int
) -> None:
    values = [2.0, 1.0]
    values.insert(position, math.nan)
    done = drive(sweep({**PLAIN, "search/trials": 3}), lambda p: ended(values[p.identity.number]))
    assert done.schedule.best_value() == 1.0
    assert done.schedule.best()[0].number == values.index(1.0)


def test_a_finished_trial_without_the_objective_is_never_the_best(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    done = drive(sweep({**PLAIN, "search/trials": 2}), lambda p: ended({FD: 1.0} if p.identity.number else {}))
    assert done.schedule.best_value() == 1.0


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_only_finished_configurations_can_be_the_best(sweep: ToSweep, drive: Drive, ended: Ended, state: str) -> None:
    done = drive(sweep({**PLAIN, "search/trials": 2}), lambda p: ended(1.0, state))
    assert (done.schedule.best(), done.schedule.best_value()) == ([], None)


def test_max_is_maximised(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    made = sweep({**PLAIN, "search/objective": {"linearity/collapse_psnr": "max"}, "search/trials": 3})
    done = drive(made, lambda p: ended({"linearity/collapse_psnr": float(p.identity.number)}))
    assert done.study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert (done.schedule.best_value(), done.study.best_value) == (2.0, 2.0)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_several_objectives(sweep: ToSweep, drive: Drive, ended: Ended, sampler: str) -> None:
    objectives = {FD: "min", "linearity/collapse_psnr": "max"}
    made = sweep({**PLAIN, "search/sampler": sampler, "search/objective": objectives, "search/trials": 12})

    def evaluate(planned: PlannedTrial) -> Outcome:
        number = planned.identity.number
        metrics = {FD: float(number), "linearity/collapse_psnr": 10.0 * number}
        return ended(metrics if number != 1 else {FD: -1.0})

    done = drive(made, evaluate)
    assert [direction.name for direction in done.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [trial.values for trial in done.study.trials[:3]] == [[0.0, 0.0], None, [2.0, 20.0]]
    assert [trial.state.name for trial in done.study.trials[:2]] == ["COMPLETE", "FAIL"]
    # Each is better than the others in one of the two.
    assert len(done.study.best_trials) == 11
    assert done.schedule.best_value() == 0.0


def test_a_trial_that_was_cut_short_with_several_objectives(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    # Ray Tune ends trials as well, when the hours of the budget are spent.
    made = sweep({**PLAIN, "search/objective": {FD: "min", SWD: "min"}, "search/trials": 2})
    done = drive(made, lambda p: ended({FD: 1.0, SWD: 1.0}, "finished" if p.identity.number else "stopped"))
    assert [trial.state.name for trial in done.study.trials] in (["PRUNED", "COMPLETE"], ["FAIL", "COMPLETE"])


GRID = {
    **PLAIN,
    "search/sampler": "grid",
    "search/trials": None,
    "search/space": {
        "model.flow.conditioner": {"grid": ["mlp", "conv"]},
        "model.flow.kernel": {"grid": [3, 5], "when": {"model.flow.conditioner": "conv"}},
        DEPTH: {"int": [1, 3], "step": 2},
    },
}


def test_a_grid_visits_each_point_once(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    mlp, conv = {"model.flow.conditioner": "mlp"}, {"model.flow.conditioner": "conv"}
    points = [
        {**mlp, DEPTH: 1}, {**mlp, DEPTH: 3},
        {**conv, "model.flow.kernel": 3, DEPTH: 1}, {**conv, "model.flow.kernel": 3, DEPTH: 3},
        {**conv, "model.flow.kernel": 5, DEPTH: 1}, {**conv, "model.flow.kernel": 5, DEPTH: 3},
    ]  # fmt: skip
    states = ["finished", "failed", "stopped", "finished", "finished", "finished"]

    def evaluate(planned: PlannedTrial) -> Outcome:
        return ended(float(planned.identity.number), states[planned.identity.number])

    for workers, order in ORDERS:
        done = drive(sweep(GRID), evaluate, lookahead=3, workers=workers, order=order)
        assert [point for _, point in done.points] == points
        assert [trial.params for trial in done.study.trials] == points
        assert [trial.state.name for trial in done.study.trials] == [
            "COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE", "COMPLETE",
        ]  # fmt: skip
        assert done.schedule.best_value() == 0.0


# Confirmation


def test_the_best_are_confirmed_at_fresh_seeds_after_everything_else(
    sweep: ToSweep, drive: Drive, ended: Ended
) -> None:
    values = [4.0, 2.0, 5.0, 1.0]
    states = ["finished", "finished", "finished", "failed"]

    def evaluate(planned: PlannedTrial) -> Outcome:
        number = planned.identity.number
        return ended(values[number], "finished" if planned.identity.kind == "confirm" else states[number])

    made = sweep({**PLAIN, "search/trials": 4, "search/confirm": {"top": 2, "seeds": [7, 8]}})
    runs = [drive(made, evaluate, lookahead=2, workers=workers, order=seed) for workers, seed in ORDERS]
    for run in runs:
        assert run.names == [f"t00{i}-s0" for i in range(4)] + ["k001-s7", "k001-s8", "k000-s7", "k000-s8"]
        points = dict(run.points)
        assert points["k001-s7"] == points["t001-s0"]
        assert run.schedule.total == len(run.names)
        assert len(run.study.trials) == 4
        assert run.schedule.best()[0].trial == "t001-s0"


def test_when_nothing_finished_nothing_is_confirmed(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    made = sweep({**PLAIN, "search/trials": 2, "search/confirm": {"top": 2, "seeds": [7]}})
    done = drive(made, lambda p: ended(1.0, "failed"))
    assert done.names == ["t000-s0", "t001-s0"]
    assert done.schedule.exhausted


def test_competitors_are_those_that_were_told_when_a_trial_was_planned(sweep: ToSweep, drive: Drive) -> None:
    made = sweep({**SEEDED, "search/seeds": [0, 1], "search/trials": 5})
    schedule = drive(made, lookahead=3, workers=4, order=2).schedule
    # Configuration n was asked for when the first n - 2 had been told.
    assert schedule.competitors("t000-s0").names == []
    assert schedule.competitors("t002-s1").names == []
    assert schedule.competitors("t003-s1").names == ["t000-s1"]
    assert schedule.competitors("t004-s0").names == ["t000-s0", "t001-s0"]


# Going on from the record


@pytest.mark.parametrize(
    "edits",
    [
        PLAIN,
        SEEDED,
        CONDITIONAL,
        {**SEEDED, "search/confirm": {"top": 2, "seeds": [5, 6]}, "controls": [{"name": "c"}]},
        GRID,
    ],
)
def test_a_complete_record_is_told_and_not_run(sweep: ToSweep, drive: Drive, edits: dict[str, Any]) -> None:
    made = sweep(edits)
    first = drive(made, lookahead=2, workers=2)
    again = drive(made, lookahead=2, workers=2, recorded=first.outcomes)
    assert again.planned == []
    assert again.told == first.told
    assert sorted(again.schedule.reused) == sorted(first.names)
    assert again.schedule.exhausted
    assert again.schedule.best() == first.schedule.best()


@pytest.mark.parametrize("edits", [PLAIN, {**SEEDED, "search/trials": 4, "search/confirm": {"top": 1, "seeds": [5]}}])
def test_a_sweep_cut_after_any_trial_ends_in_the_same_trials(
    sweep: ToSweep, drive: Drive, edits: dict[str, Any]
) -> None:
    made = sweep(edits)
    first = drive(made, lookahead=3, workers=3, order=4)
    ended_in_order = list(first.outcomes.items())
    for cut in range(len(ended_in_order)):
        kept = dict(ended_in_order[:cut])
        again = drive(made, lookahead=3, workers=2, order=cut, recorded=kept)
        assert again.told == first.told
        assert sorted(again.schedule.reused) == sorted(kept)
        assert sorted([*again.names, *kept]) == sorted(first.names)


def test_an_interrupted_trial_is_run_again(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    made = sweep({**PLAIN, "search/trials": 3})
    first = drive(made)
    cut = {**first.outcomes, "t001-s0": ended(0.0, "interrupted")}
    again = drive(made, recorded=cut)
    assert again.names == ["t001-s0"]
    assert again.told == first.told


def test_a_sweep_that_is_extended_keeps_its_trials(sweep: ToSweep, drive: Drive) -> None:
    short = drive(sweep({**PLAIN, "search/trials": 7}), lookahead=2)
    long = drive(sweep({**PLAIN, "search/trials": 11}), lookahead=2, recorded=short.outcomes)
    assert [*short.points, *long.points] == drive(sweep({**PLAIN, "search/trials": 11}), lookahead=2).points


class Launch:
    """One launch on real journals, with early stopping, up to where Ray would come in."""

    def __init__(self, sweep: Sweep, paths: SweepPaths, closed_form: Callable[..., float]) -> None:
        self.paths = paths
        self.closed_form = closed_form
        self.epochs: int = sweep.base_leaves["train.epochs"]
        assert sweep.search.stop_early is not None
        self.halving = Halving(sweep.search.stop_early, "min", self.epochs)
        self.study = make_study(sweep)
        self.schedule = Schedule(sweep, self.study, 3, RecordedOutcomes(paths, self.halving, FD))
        self.started: list[str] = []

    def run(self, workers: int, order: int) -> None:
        """Carry out what is missing; an epoch of a trial drawn from ``order`` at a time."""
        draw = random.Random(order)
        running: dict[str, Iterator[None]] = {}
        given: dict[str, PlannedTrial] = {}
        while True:
            while len(running) < workers and (planned := self.schedule.next()) is not None:
                running[planned.identity.trial] = self._train(planned)
                given[planned.identity.trial] = planned
                self.started.append(planned.identity.trial)
            if not running:
                return
            trial = draw.choice(sorted(running))
            if next(running[trial], "ended") == "ended":
                del running[trial]
                if self.schedule.decided(trial):
                    self.schedule.skip(given[trial])
                else:
                    self.schedule.take_outcome(trial, state_of(self.paths.journal(trial)).outcome)

    def _train(self, planned: PlannedTrial) -> Iterator[None]:
        who = planned.identity
        journal = Journal(self.paths.journal(who.trial))
        journal.trial(who, planned.config, {})
        final = self.closed_form(who.overrides, who.seed)
        for epoch in range(1, self.epochs + 1):
            value = final * (1 + 1 / epoch)
            if final > 5.5:
                journal.end("failed", epoch, "diverged: not finite")
                return
            if epoch == self.epochs:
                journal.epoch(epoch, {"train/loss": 1.0})
                journal.summary({FD: final})
                journal.end("finished", epoch)
                return
            journal.epoch(epoch, {"train/loss": 1.0, FD: value})
            rung = None
            if who.kind == "search":
                rung = self.halving.decide(who.trial, epoch, value, self.schedule.competitors(who.trial))
            if rung is not None:
                journal.end("stopped", epoch, f"asha: not among the best at epoch {rung}")
                return
            if self.schedule.decided(who.trial):
                return
            yield

    @property
    def result(self) -> list[tuple[Any, ...]]:
        """What the sweep came to: what the study knows, and how each trial ended."""
        told = [
            (t.params, t.state.name, t.values, t.intermediate_values) for t in self.study.get_trials(deepcopy=False)
        ]
        ends = [(path.stem, state_of(path)) for path in sorted(self.paths.journals.glob("*.jsonl"))]
        return [*told, *((name, end.state, end.reason, end.epoch, end.metrics) for name, end in ends)]


STOPPED = {"search/trials": 9, "search/seed": 1, "search/confirm": {"top": 1, "seeds": [5]}}
STOPPED_SEEDS = {**STOPPED, "search/trials": 8, "search/seed": 3, "search/seeds": [2, 0]}


@pytest.mark.parametrize("edits", [STOPPED, STOPPED_SEEDS], ids=["one seed", "several seeds"])
def test_with_early_stopping_the_trials_do_not_depend_on_who_ends_first(
    sweep: ToSweep, tmp_path: Path, closed_form: Callable[..., float], edits: dict[str, Any]
) -> None:
    made = sweep(edits)
    results = []
    for workers, order in ORDERS:
        launch = Launch(made, SweepPaths(tmp_path / f"{workers}-{order}"), closed_form)
        launch.run(workers, order)
        results.append(launch.result)
    assert all(result == results[0] for result in results)
    states = {entry[1] for entry in results[0]}
    assert {"COMPLETE", "PRUNED", "finished", "stopped"} <= states


@pytest.mark.parametrize("edits", [STOPPED, STOPPED_SEEDS], ids=["one seed", "several seeds"])
def test_with_early_stopping_a_sweep_cut_after_any_line_ends_in_the_same_trials(
    sweep: ToSweep, tmp_path: Path, closed_form: Callable[..., float], edits: dict[str, Any]
) -> None:
    made = sweep(edits)
    whole = Launch(made, SweepPaths(tmp_path / "whole"), closed_form)
    whole.run(3, 0)
    lines = [
        (json.loads(line)["time"], path.name, i, line)
        for path in whole.paths.journals.glob("*.jsonl")
        for i, line in enumerate(path.read_text().splitlines(keepends=True))
    ]
    lines.sort(key=lambda entry: (entry[0], entry[1], entry[2]))
    for cut in range(len(lines)):
        paths = SweepPaths(tmp_path / f"cut-{cut}")
        paths.journals.mkdir(parents=True)
        for _, name, _, line in lines[:cut]:
            with (paths.journals / name).open("a") as file:
                file.write(line)
        finished = {path.stem for path in paths.journals.glob("*.jsonl") if state_of(path).state}
        again = Launch(made, paths, closed_form)
        again.run(2, cut)
        assert again.result == whole.result
        assert set(again.schedule.reused) == finished - set(again.schedule.not_begun)
        assert finished.isdisjoint(again.started)


@pytest.mark.parametrize(("workers", "order"), ORDERS)
def test_a_seed_that_is_stopped_ends_those_after_it(
    sweep: ToSweep, drive: Drive, ended: Ended, workers: int, order: int
) -> None:
    made = sweep({"controls": [], "search/trials": 4, "search/seeds": [5, 3, 4, 9]})

    def evaluate(planned: PlannedTrial) -> Outcome:
        stopped = planned.identity.seed in (3, 9) and planned.identity.number % 2
        return ended(7.0, "stopped", 2) if stopped else ended(1.0 + planned.identity.number)

    done = drive(made, evaluate, lookahead=2, workers=workers, order=order)
    for number, told in enumerate(done.study.trials):
        assert told.state.name == ("PRUNED" if number % 2 else "COMPLETE")
        assert told.intermediate_values == ({2: 7.0} if number % 2 else {})
        names = [f"t00{number}-s{seed}" for seed in (5, 3, 4, 9)]
        reasons = [done.schedule.decided(name) for name in names]
        why = "stopped: seed 3 of its configuration was stopped at epoch 2" if number % 2 else None
        assert reasons == [None, None, why, why]
    # One at a time, those after it are not begun.
    if workers == 1 and order == 0:
        assert done.names == [
            "t000-s5", "t000-s3", "t000-s4", "t000-s9", "t001-s5", "t001-s3",
            "t002-s5", "t002-s3", "t002-s4", "t002-s9", "t003-s5", "t003-s3",
        ]  # fmt: skip
        assert done.schedule.not_begun == ["t001-s4", "t001-s9", "t003-s4", "t003-s9"]
    assert done.schedule.complete


def test_what_a_seed_came_to_does_not_count_where_one_before_it_was_stopped(
    sweep: ToSweep, tmp_path: Path, closed_form: Callable[..., float]
) -> None:
    made = sweep({"controls": [], "search/trials": 1, "search/seeds": [0, 1, 2]})
    launch = Launch(made, SweepPaths(tmp_path / "demo"), closed_form)
    first, *others = [launch.schedule.next() for _ in range(3)]
    assert first is not None
    for planned in others[:1]:
        assert planned is not None
        for _ in launch._train(planned):
            pass
        launch.schedule.take_outcome(planned.identity.trial, state_of(launch.paths.journal("t000-s1")).outcome)
    assert state_of(launch.paths.journal("t000-s1")).state == "finished"
    journal = Journal(launch.paths.journal("t000-s0"))
    journal.trial(first.identity, first.config, {})
    journal.epoch(2, {FD: 9.0})
    journal.end("stopped", 2, "asha: not among the best at epoch 2")
    launch.schedule.take_outcome("t000-s0", state_of(launch.paths.journal("t000-s0")).outcome)
    after = state_of(launch.paths.journal("t000-s1"))
    assert (after.state, after.epoch, after.metrics, after.rungs, after.summary) == ("stopped", 0, {}, {}, None)
    assert after.reason == "stopped: seed 0 of its configuration was stopped at epoch 2"
    assert launch.halving.decide("t009-s1", 2, 99.0, Competitors(["t000-s1"], 1)) is None  # nobody to be compared with
    assert others[1] is not None
    launch.schedule.take_back(others[1])  # its process died before it began
    assert not launch.schedule.has_next()
    assert launch.schedule.complete
    assert [(t.state.name, t.intermediate_values) for t in launch.study.trials] == [("PRUNED", {2: 9.0})]


def test_a_record_of_another_configuration_is_refused(sweep: ToSweep, tmp_path: Path) -> None:
    made = sweep({**PLAIN, "search/trials": 1})
    paths = SweepPaths(tmp_path / "demo")
    record = RecordedOutcomes(paths, None, FD)
    schedule = Schedule(made, make_study(made), 1, record)
    planned = schedule.next()
    assert planned is not None
    other = {**planned.config, "train": {**planned.config["train"], "lr": 0.125}}
    who: Mapping[str, Any] = {**vars(planned.identity), "config_hash": "0" * 12}
    Journal(paths.journal("t000-s0")).trial(type(planned.identity)(**who), other, {})
    with pytest.raises(ReplayError, match=r"t000-s0\.jsonl belongs to another configuration .*\(train\.lr: 0\.125 → "):
        record.look_up(planned, Competitors())


def test_what_is_recorded_is_looked_up(sweep: ToSweep, tmp_path: Path) -> None:
    made = sweep({**PLAIN, "search/trials": 1})
    paths = SweepPaths(tmp_path / "demo")
    record = RecordedOutcomes(paths, None, FD)
    planned = Schedule(made, make_study(made), 1, record).next()
    assert planned is not None
    assert record.look_up(planned, Competitors()) is None
    journal = Journal(paths.journal("t000-s0"))
    journal.trial(planned.identity, planned.config, {})
    journal.epoch(1, {FD: 2.0})
    found = record.look_up(planned, Competitors())
    assert found is not None
    assert (found.state, state_of(paths.journal("t000-s0")).rungs) == (None, {1: {FD: 2.0}})
    journal.summary({FD: 2.0})
    journal.end("finished", 1)
    assert Schedule(made, make_study(made), 1, record).next() is None


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_record_of_before_stepped_values_were_rounded_is_replayed(
    sweep: ToSweep, tmp_path: Path, sampler: str
) -> None:
    """Records without ``rules`` have what Optuna draws: 0.1 + 2 × 0.1 is not 0.3 there."""
    space = {"train.lr": {"float": [0.1, 0.7], "step": 0.1}}
    made = sweep({**PLAIN, "search/sampler": sampler, "search/trials": 7, "search/space": space})
    if sampler == "grid":
        drawn = [min(0.1 + i * 0.1, 0.7) for i in range(7)]
    else:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        drawn = [study.ask().suggest_float("train.lr", 0.1, 0.7, step=0.1) for _ in range(7)]
    sums = {0.1 + 2 * 0.1, 0.1 + 5 * 0.1}
    assert sums == {0.30000000000000004, 0.6}
    assert 0.30000000000000004 in drawn
    paths = SweepPaths(tmp_path / "demo")
    record = RecordedOutcomes(paths, None, FD)
    for number, value in enumerate(drawn):
        config = made.resolve({"train.lr": value})
        trial = f"t{number:03d}-s0"
        who = TrialIdentity("demo", trial, "search", None, number, config_hash(config), 0, {"train.lr": value})
        journal = Journal(paths.journal(trial))
        journal.trial(who, {**config, "seed": 0}, {})
        journal.summary({FD: value})
        journal.end("finished", 9)
    replayed = Schedule(made, make_study(made), 1, record, rules=1)
    assert replayed.next() is None
    assert replayed.complete
    assert [trial.params["train.lr"] for trial in replayed.study.trials] == drawn
    with pytest.raises(ReplayError):
        Schedule(made, make_study(made), 1, record, rules=2).next()
