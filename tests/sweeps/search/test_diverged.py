"""What diverges is told as bad, what died as no result, and both are told apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment.journal import DIVERGED, Journal, Outcome, fold, state_of
from sweeps.record.paths import SweepPaths
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.schedule import PlannedTrial, Schedule, make_study
from sweeps.spec.model import Sweep
from sweeps.tracking.run import update_of

FD, PSNR, ROUNDTRIP = "quality/classifier_fd_collapsed", "linearity/collapse_psnr", "linearity/roundtrip"
PLAIN: dict[str, Any] = {"search/stop_early": None, "controls": []}
LR = "train.lr"

Drive = Callable[..., Any]
ToSweep = Callable[..., Sweep]
Ended = Callable[..., Outcome]

WORST = [math.inf, -math.inf]

WIDE: dict[str, Any] = {
    **PLAIN,
    "search/trials": 40,
    "search/space": {LR: {"float": [1e-4, 1.0], "log": True}, "model.flow.depth": {"int": [1, 8]}},
}


def search(sweep: Sweep, rules: int, evaluate: Callable[[PlannedTrial], Outcome]) -> list[Any]:
    """The trials of a study after a search of one trial at a time, under the rules of some version."""
    study = make_study(sweep)
    schedule = Schedule(sweep, study, 1, RecordedOutcomes(SweepPaths(Path("/nowhere")), None, FD), rules)
    while (planned := schedule.next()) is not None:
        schedule.take_outcome(planned.identity.trial, evaluate(planned))
    return study.trials


def test_tpe_leaves_a_region_that_diverges(sweep: ToSweep, ended: Ended) -> None:
    def evaluate(planned: PlannedTrial) -> Outcome:
        lr = planned.identity.overrides[LR]
        return ended({}, "failed", 1, True) if lr > 0.03 else ended((math.log10(lr) + 1.8) ** 2)

    spent = {rules: [] for rules in (1, 2)}  # type: ignore[var-annotated]
    for rules, counts in spent.items():
        for seed in range(6):
            space = dict(reversed(WIDE["search/space"].items())) if seed % 2 else WIDE["search/space"]
            trials = search(sweep({**WIDE, "search/space": space, "search/seed": seed}), rules, evaluate)
            counts.append(sum(trial.params[LR] > 0.03 for trial in trials[20:]))
    assert max(spent[2]) <= 9, spent
    assert min(spent[1]) >= 14, spent


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "gp"])
def test_a_value_worse_than_all_is_told(sweep: ToSweep, drive: Drive, ended: Ended, sampler: str) -> None:
    values = [None, 3.0, 5.0, None, 9.0, None, 1.0, 2.0, 1.5, 2.5, None, 1.0]

    def evaluate(planned: PlannedTrial) -> Outcome:
        value = values[planned.identity.number]
        # What it had measured before it diverged does not count.
        return ended({FD: 0.1}, "failed", 2, True) if value is None else ended(value)

    done = drive(sweep({**PLAIN, "search/sampler": sampler, "search/trials": 12}), evaluate)
    assert [trial.value for trial in done.study.trials[:6]] == [math.inf, 3.0, 5.0, math.inf, 9.0, math.inf]
    assert {trial.state.name for trial in done.study.trials} == {"COMPLETE"}
    assert [trial.number for trial in done.study.trials if trial.user_attrs.get("diverged")] == [0, 3, 5, 10]
    assert done.schedule.best_value() == 1.0
    assert done.schedule.best()[0].number == 6


def test_a_grid_is_told_as_well(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    grid = {**PLAIN, "search/sampler": "grid", "search/trials": None, "search/space": {LR: {"grid": [1e-3, 1e-2, 0.1]}}}

    def evaluate(planned: PlannedTrial) -> Outcome:
        number = planned.identity.number
        return ended({}, "failed", 1, number == 1) if number else ended(4.0)

    done = drive(sweep(grid), evaluate)
    assert [(t.state.name, t.value) for t in done.study.trials] == [
        ("COMPLETE", 4.0),
        ("COMPLETE", math.inf),
        ("FAIL", None),
    ]
    assert [trial.user_attrs.get("diverged") for trial in done.study.trials] == [None, True, None]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_with_several_objectives_each_is_worse_than_all(
    sweep: ToSweep, drive: Drive, ended: Ended, sampler: str
) -> None:
    edits = {**PLAIN, "search/sampler": sampler, "search/objective": {FD: "min", PSNR: "max"}, "search/trials": 14}

    def evaluate(planned: PlannedTrial) -> Outcome:
        number = planned.identity.number
        if number in (0, 3, 9):
            return ended({}, "failed", 1, True)
        return ended({FD: float(number), PSNR: 10.0 + number})

    done = drive(sweep(edits), evaluate)
    assert [trial.values for trial in done.study.trials[:4]] == [WORST, [1, 11], [2, 12], WORST]
    assert done.schedule.best_value() == 1.0


def test_constraints_count_as_broken(sweep: ToSweep, drive: Drive, ended: Ended) -> None:
    edits = {**PLAIN, "search/trials": 2, "search/constraints": {ROUNDTRIP: "<= 0.5"}}
    kept = {FD: 1.0, ROUNDTRIP: 0.25}
    done = drive(sweep(edits), lambda p: ended(kept, "failed", 1, True) if p.identity.number else ended(kept))
    assert [trial.constraints for trial in done.study.trials] == [{ROUNDTRIP: -0.25}, {ROUNDTRIP: math.inf}]


@pytest.mark.parametrize("died", [0, 1])
def test_one_seed_that_diverges_is_enough(sweep: ToSweep, drive: Drive, ended: Ended, died: int) -> None:
    made = sweep({**PLAIN, "search/trials": 1, "search/seeds": [0, 1, 2]})

    def evaluate(planned: PlannedTrial) -> Outcome:
        seed = planned.identity.seed
        return ended(1.0) if seed == 2 else ended({}, "failed", 1, seed != died)

    done = drive(made, evaluate)
    assert [(trial.state.name, trial.user_attrs.get("diverged")) for trial in done.study.trials] == [("COMPLETE", True)]
    assert len(done.planned) == 3  # without early stopping every trial runs to its end


TWICE = {
    **PLAIN,
    "search/sampler": "random",
    "search/trials": 6,
    "search/space": {"model.flow.depth": {"int": [1, 2]}},
}


@pytest.mark.parametrize(("diverged", "rules", "trained"), [(True, 2, 2), (False, 2, 6), (True, 1, 6)])
def test_a_diverged_duplicate_is_not_trained_again(
    sweep: ToSweep, tmp_path: Path, diverged: bool, rules: int, trained: int
) -> None:
    made, paths = sweep(TWICE), SweepPaths(tmp_path / "demo")
    schedule = Schedule(made, make_study(made), 1, RecordedOutcomes(paths, None, FD), rules)
    ran = 0
    while (planned := schedule.next()) is not None:
        journal = Journal(paths.journal(planned.identity.trial))
        journal.trial(planned.identity, planned.config, {})
        journal.end("failed", 1, f"{DIVERGED}not finite" if diverged else "its process died")
        schedule.take_outcome(planned.identity.trial, state_of(paths.journal(planned.identity.trial)).outcome)
        ran += 1
    assert ran == trained
    assert schedule.complete
    reasons = {state_of(path).diverged for path in paths.journals.glob("*.jsonl")}
    assert reasons == {diverged}


def test_a_record_without_rules_is_told_as_it_was(sweep: ToSweep, ended: Ended) -> None:
    made = sweep({**PLAIN, "search/trials": 3})
    trials = search(made, 1, lambda p: ended({}, "failed", 1, True) if p.identity.number else ended(1.0))
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("state", "reason", "diverged"),
    [
        ("failed", "diverged: in epoch 1: loss is not finite", True),
        ("failed", "its process died", False),
        ("failed", "ValueError: diverged: no", False),
        ("failed", None, False),
        ("interrupted", "diverged: asked to stop", False),
    ],
)
def test_the_journal_tells_them_apart(state: Any, reason: str | None, diverged: bool) -> None:
    end: Mapping[str, Any] = {"event": "end", "time": 1.0, "state": state, "reason": reason, "epoch": 1}
    assert fold([end]).diverged is diverged  # type: ignore[list-item]


@pytest.mark.parametrize(("reason", "told"), [("diverged: in epoch 1", "true"), ("its process died", None)])
def test_mlflow_is_told_them_apart(reason: str, told: str | None) -> None:
    end: Mapping[str, Any] = {"event": "end", "time": 1.0, "state": "failed", "reason": reason, "epoch": 1}
    update = update_of(fold([end]), 0, begins=False)  # type: ignore[list-item]
    assert (update.tags["sweep.state"], update.tags.get("sweep.diverged")) == ("failed", told)
