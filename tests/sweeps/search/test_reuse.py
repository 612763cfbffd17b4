"""Identical trials are run once: within a search, and across the sweeps of a storage folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment.evaluation import Curve
from linearizer_core.experiment.journal import Journal, Outcome, read, state_of
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import write_record
from sweeps.search.halving import Competitors, Halving
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.reuse import FinishedTrials, reuse
from sweeps.search.schedule import PlannedTrial, Schedule, make_study
from sweeps.spec.model import Sweep

FD = "quality/classifier_fd_collapsed"
ORIGIN = {
    "git": {"commit": "abc"},
    "packages": {"torch": "2.11", "ray": "2.60"},
    "data_checksum": "d" * 8,
    "processes": {"workers": 1},
}
ToSweep = Callable[..., Sweep]

PLAIN: dict[str, Any] = {"search/stop_early": None, "controls": [], "search/trials": 2}
TWICE = {
    **PLAIN,
    "search/sampler": "random",
    "search/trials": 8,
    "search/space": {"model.flow.depth": {"int": [1, 2]}},
    "search/seeds": [0, 1],
}


def other_sweep(storage: Path, planned: PlannedTrial, origin: dict[str, Any] = ORIGIN, state: Any = "finished") -> Path:
    """A sweep named other with one trial of the same configuration, resumed once, and its artifacts."""
    paths = SweepPaths(storage / "other")
    write_record(paths, {"name": "other", "spec": {}, "provenance": origin})
    path = paths.journal("t007-s0")
    journal = Journal(path)
    who = type(planned.identity)(**{**vars(planned.identity), "sweep": "other", "trial": "t007-s0", "number": 7})
    journal.trial(who, planned.config, origin)
    for epoch, value in ((1, 9.0), (2, 8.0), (3, 7.5)):
        journal.epoch(epoch, {"train/loss": value, FD: value})
    journal.trial(who, planned.config, origin, resumed_epoch=2)
    journal.epoch(3, {"train/loss": 7.0, FD: 7.0})
    files = paths.artifacts("t007-s0")
    (files / "checkpoint").mkdir(parents=True)
    (files / "checkpoint" / "config.json").write_text("{}")
    journal.artifact("checkpoint")
    journal.curve("nfe/swd", Curve([1, 4], [0.5, 0.25]))
    journal.summary({FD: 6.0})
    journal.end(state, 4)
    return path


def first_of(sweep: Sweep) -> PlannedTrial:
    schedule = Schedule(sweep, make_study(sweep), 1, RecordedOutcomes(SweepPaths(Path("/nonexistent")), None, FD))
    planned = schedule.next()
    assert planned is not None
    return planned


def test_a_finished_identical_trial_is_taken_over(sweep: ToSweep, tmp_path: Path) -> None:
    planned = first_of(made := sweep(PLAIN))
    source = other_sweep(tmp_path, planned)
    paths = SweepPaths(tmp_path / made.name)
    found = RecordedOutcomes(paths, None, FD, FinishedTrials(paths, ORIGIN)).look_up(planned, Competitors())
    written = state_of(paths.journal(planned.identity.trial))
    assert found == written.outcome
    assert (written.state, written.metrics[FD], sorted(written.rungs)) == ("finished", 6.0, [1, 2, 3])
    events = list(read(paths.journal(planned.identity.trial)))
    assert [event["event"] for event in events] == [
        "trial", "epoch", "epoch", "epoch", "artifact", "curve", "summary", "end",
    ]  # fmt: skip
    first = events[0]
    assert (first["sweep"], first["trial"], first["number"]) == (made.name, planned.identity.trial, 0)
    assert (first["reused_from"], first["attempt"], first["resumed_epoch"]) == ("other/t007-s0", 1, 0)
    # The third epoch as the attempt that counts trained it.
    assert events[3]["metrics"]["train/loss"] == 7.0
    assert (paths.artifacts(planned.identity.trial) / "checkpoint" / "config.json").read_text() == "{}"
    assert state_of(source).state == "finished"


@pytest.mark.parametrize(
    "origin",
    [
        {**ORIGIN, "git": {"commit": "abd"}},
        {**ORIGIN, "data_checksum": "e" * 8},
        {**ORIGIN, "processes": {"workers": 2}},
        {**ORIGIN, "packages": {"torch": "2.12", "ray": "2.60"}},
    ],
)
def test_another_code_or_data_or_number_of_workers_is_not_the_same(
    sweep: ToSweep, tmp_path: Path, origin: dict[str, Any]
) -> None:
    planned = first_of(made := sweep(PLAIN))
    other_sweep(tmp_path, planned, origin)
    assert FinishedTrials(SweepPaths(tmp_path / made.name), ORIGIN).find(planned) is None


def test_another_ray_is_the_same(sweep: ToSweep, tmp_path: Path) -> None:
    planned = first_of(made := sweep(PLAIN))
    source = other_sweep(tmp_path, planned, {**ORIGIN, "packages": {"torch": "2.11", "ray": "2.61"}})
    assert FinishedTrials(SweepPaths(tmp_path / made.name), ORIGIN).find(planned) == source


@pytest.mark.parametrize("state", ["failed", "stopped", "interrupted"])
def test_what_did_not_finish_is_not_taken_over(sweep: ToSweep, tmp_path: Path, state: str) -> None:
    planned = first_of(made := sweep(PLAIN))
    other_sweep(tmp_path, planned, state=state)
    assert FinishedTrials(SweepPaths(tmp_path / made.name), ORIGIN).find(planned) is None


def test_another_seed_or_configuration_is_not_the_same(sweep: ToSweep, tmp_path: Path) -> None:
    planned = first_of(made := sweep(PLAIN))
    other_sweep(tmp_path, planned)
    finished = FinishedTrials(SweepPaths(tmp_path / made.name), ORIGIN)
    for change in ({"seed": 1}, {"config_hash": "0" * 12}):
        identity = type(planned.identity)(**{**vars(planned.identity), **change})
        assert finished.find(PlannedTrial(identity, planned.config)) is None


def test_what_was_taken_over_is_not_handed_on(sweep: ToSweep, tmp_path: Path) -> None:
    planned = first_of(made := sweep(PLAIN))
    source = other_sweep(tmp_path, planned)
    second = SweepPaths(tmp_path / "second")
    write_record(second, {"name": "second", "spec": {}, "provenance": ORIGIN})
    reuse(second, planned, source)
    assert FinishedTrials(SweepPaths(tmp_path / made.name), ORIGIN).find(planned) == source


def test_a_damaged_sweep_beside_is_no_reason_to_fail(sweep: ToSweep, tmp_path: Path) -> None:
    planned = first_of(made := sweep(PLAIN))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{")
    path = other_sweep(tmp_path, planned)
    (path.parent / "t008-s0.jsonl").write_text("not a journal\n")
    (path.parent / "t009-s0.jsonl").write_text("")
    assert FinishedTrials(SweepPaths(tmp_path / made.name), ORIGIN).find(planned) == path


def test_early_stopping_judges_what_is_taken_over_as_if_it_ran_here(sweep: ToSweep, tmp_path: Path) -> None:
    made = sweep({**PLAIN, "search/stop_early": {"scheduler": "asha", "grace_epochs": 2, "reduction": 2}})
    planned = first_of(made)
    other_sweep(tmp_path, planned)
    paths = SweepPaths(tmp_path / made.name)
    assert made.search.stop_early is not None
    halving = Halving(made.search.stop_early, "min", made.base_leaves["train.epochs"])
    halving.record("better", {2: 1.0, 4: 1.0})
    found = RecordedOutcomes(paths, halving, FD, FinishedTrials(paths, ORIGIN)).look_up(
        planned, Competitors(["better"], 1)
    )
    assert found is not None
    assert (found.state, found.epoch, found.metrics[FD]) == ("stopped", 2, 8.0)
    assert state_of(paths.journal(planned.identity.trial)).reason == "asha: not among the best at epoch 2"
    assert [event["event"] for event in read(paths.journal("t000-s0"))] == ["trial", "epoch", "epoch", "end"]


class Search:
    """A search carried out on journals, its trials ending in the order that they are given out."""

    def __init__(self, sweep: Sweep, paths: SweepPaths, states: Callable[[PlannedTrial], Any]) -> None:
        self.schedule = Schedule(sweep, make_study(sweep), 4, RecordedOutcomes(paths, None, FD))
        self.ran: list[PlannedTrial] = []
        waiting: list[PlannedTrial] = []
        while True:
            while len(waiting) < 3 and (planned := self.schedule.next()) is not None:
                waiting.append(planned)
            if not waiting:
                break
            planned = waiting.pop(0)
            self.ran.append(planned)
            journal = Journal(paths.journal(planned.identity.trial))
            journal.trial(planned.identity, planned.config, ORIGIN)
            value = planned.identity.overrides["model.flow.depth"] + 0.1 * (planned.identity.seed or 0)
            journal.epoch(1, {FD: value})
            state = states(planned)
            if state == "finished":
                journal.summary({FD: value})
            journal.end(state, 1)
            self.schedule.take_outcome(planned.identity.trial, state_of(journal.path))


def told(search: Search) -> list[Any]:
    return [(trial.number, trial.params, trial.values, trial.state) for trial in search.schedule.study.trials]


def test_a_point_that_is_drawn_twice_is_run_once_a_seed(sweep: ToSweep, tmp_path: Path) -> None:
    made, paths = sweep(TWICE), SweepPaths(tmp_path / "demo")
    search = Search(made, paths, lambda planned: "finished")
    assert search.schedule.complete
    # Two depths at two seeds.
    assert len(search.ran) == 4
    assert len(list(paths.journals.glob("*.jsonl"))) == 16
    assert len(search.schedule.reused) == 12
    for trial in search.schedule.study.trials:
        assert trial.values == [pytest.approx(trial.params["model.flow.depth"] + 0.05)]
    again = Search(made, paths, lambda planned: "finished")
    assert again.ran == []
    assert again.schedule.complete
    assert told(again) == told(search)


def test_the_duplicate_of_one_that_failed_is_another_try(sweep: ToSweep, tmp_path: Path) -> None:
    made, paths = sweep({**TWICE, "search/seeds": [0]}), SweepPaths(tmp_path / "demo")
    failed: list[str] = []

    def states(planned: PlannedTrial) -> str:
        if not failed:
            failed.append(planned.identity.trial)
            return "failed"
        return "finished"

    search = Search(made, paths, states)
    assert search.schedule.complete
    depth = search.ran[0].identity.overrides["model.flow.depth"]
    same: list[Outcome] = [
        state_of(paths.journal(f"t{number:03d}-s0"))
        for number, told in enumerate(search.schedule.study.trials)
        if told.params["model.flow.depth"] == depth
    ]
    assert [each.state for each in same].count("failed") == 1
    assert len(same) > 2
