"""How trials that end in every way are recorded and told, and what early stopping remembers of them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.tune.experiment import Trial

from linearizer_core.experiment.journal import Journal, read, state_of
from sweeps.execution.bridge import Bridge
from sweeps.execution.jobs import Jobs
from sweeps.execution.progress import Progress
from sweeps.execution.ray_tune import HalvingScheduler, why_failed
from sweeps.execution.task import Task
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import request_stop
from sweeps.search.halving import Competitors, Halving, why_stopped
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.schedule import PlannedTrial, Schedule, make_study
from sweeps.spec.model import Sweep

FD = "quality/classifier_fd_collapsed"
ORIGIN = {"git": {"commit": "abc"}}
ToSweep = Callable[..., Sweep]


class Running:
    """A sweep with its first trial running as Tune's trial "tune"."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.paths = SweepPaths(folder / "demo")
        self.paths.root.mkdir()
        self.schedule = Schedule(sweep, make_study(sweep), 2, RecordedOutcomes(self.paths, None, FD))
        self.bridge = Bridge(self.schedule, None, self.paths, self._task)
        assert self.bridge.start("tune") is not None
        self.planned = self.bridge.running["tune"]
        self.path = self.paths.journal(self.planned.identity.trial)

    def _task(self, planned: PlannedTrial) -> Task:
        return Task(planned.identity, planned.config, str(self.paths.root), ORIGIN, 1, 1, 0.0, 30.0, 600.0)

    def begin(self) -> Journal:
        journal = Journal(self.path)
        journal.trial(self.planned.identity, self.planned.config, ORIGIN)
        journal.epoch(1, {FD: 2.0})
        return journal

    @property
    def over(self) -> bool:
        return self.planned.identity.trial in self.schedule._by_trial[self.planned.identity.trial].outcomes

    @property
    def ends(self) -> list[tuple[str, str | None]]:
        return [(event["state"], event["reason"]) for event in read(self.path) if event["event"] == "end"]


@pytest.fixture
def trial(sweep: ToSweep, tmp_path: Path) -> Running:
    return Running(sweep({"search/stop_early": None, "controls": []}), tmp_path)


def test_one_that_raised_is_not_over_before_it_is_given_up(trial: Running) -> None:
    trial.begin().end("interrupted", 1, "OSError: gone")
    # The launch ends while the trial waits for its retry.
    request_stop(trial.paths, "linsweep stop")
    trial.bridge.end("tune")
    assert not trial.over
    assert trial.ends == [("interrupted", "OSError: gone")]


def test_one_that_is_given_up_has_failed_for_its_own_reason(trial: Running) -> None:
    trial.begin().end("interrupted", 1, "OSError: gone")
    trial.bridge.error("tune", "its process died")
    trial.bridge.end("tune")
    assert trial.over
    assert state_of(trial.path).state == "failed"
    assert trial.ends[-1] == ("failed", "OSError: gone")


FULL = "OSError: [Errno 28] No space left on device: 'runs/demo/artifacts/t000-s0/curves.csv'"


@pytest.mark.parametrize(("said", "told"), [(FULL, "its process died"), ("ValueError: no", FULL)])
def test_one_that_a_full_disk_ended_goes_on_with_the_next_launch(trial: Running, said: str, told: str) -> None:
    """Whoever says it; and nothing new starts."""
    trial.begin().end("interrupted", 1, said)
    trial.bridge.error("tune", told)
    trial.bridge.end("tune")
    assert not trial.over
    assert trial.ends == [("interrupted", said)]
    assert trial.bridge.trouble == FULL.partition("] ")[2]
    assert trial.bridge.running == {}
    assert trial.bridge.start("another") is None


def test_an_end_that_a_full_disk_does_not_take_is_left_to_the_next_launch(
    trial: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "t000-s0.jsonl")

    trial.begin()
    trial.bridge.error("tune", "its process died")
    monkeypatch.setattr(Journal, "end", full)
    trial.bridge.end("tune")
    assert not trial.over
    assert trial.bridge.trouble == "No space left on device: 't000-s0.jsonl'"


def test_one_that_was_tried_again_and_then_asked_to_stop_is_not_over(trial: Running) -> None:
    journal = trial.begin()
    trial.bridge.error("tune", "its process died")
    assert trial.bridge.wait("tune") == trial.planned.identity
    journal.end("interrupted", 1, "linsweep stop")
    trial.bridge.end("tune")
    assert not trial.over
    assert trial.ends == [("interrupted", "linsweep stop")]


def test_one_that_was_tried_again_and_then_stopped_early_was_stopped_why_stopped(trial: Running) -> None:
    trial.begin()
    trial.bridge.error("tune", "its process died")
    trial.bridge.wait("tune")
    trial.bridge._stops["tune"] = why_stopped(1)
    trial.bridge.end("tune")
    assert trial.over
    assert trial.ends == [("stopped", why_stopped(1))]


def test_an_end_that_could_not_be_written_can_be_written_again(trial: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.begin().end("failed", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "take_outcome", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            trial.bridge.end("tune")
    assert trial.bridge.wait("tune") == trial.planned.identity
    trial.bridge.end("tune")
    assert trial.over
    assert trial.bridge.running == {}


def test_one_whose_process_died_has_failed_for_that(trial: Running) -> None:
    trial.begin()
    trial.bridge.error("tune", "its process died")
    trial.bridge.end("tune")
    assert trial.over
    assert trial.ends == [("failed", "its process died")]


@pytest.mark.parametrize("locked", [False, True])
def test_one_that_never_began_is_recorded_as_one_that_did(trial: Running, locked: bool) -> None:
    if locked:
        trial.path.parent.mkdir()
        trial.path.touch()
    trial.bridge.error("tune", "ModuleNotFoundError: no module")
    trial.bridge.end("tune")
    assert trial.over
    events = list(read(trial.path))
    assert [event["event"] for event in events] == ["trial", "end"]
    assert (events[0]["trial"], events[0]["provenance"]) == (trial.planned.identity.trial, ORIGIN)
    assert trial.ends == [("failed", "ModuleNotFoundError: no module")]


def test_one_that_waits_for_its_place_leaves_nothing(trial: Running) -> None:
    trial.path.parent.mkdir()
    trial.path.touch()
    trial.bridge.end("tune")
    assert not trial.over
    assert trial.path.read_text() == ""


def test_one_that_is_ended_at_the_deadline_goes_on_another_time(trial: Running) -> None:
    trial.begin()
    request_stop(trial.paths, "budget.hours = 1 spent")
    trial.bridge.end("tune")
    assert not trial.over
    assert trial.ends == [("interrupted", "budget.hours = 1 spent")]


def test_nothing_starts_once_the_sweep_is_asked_to_stop(trial: Running) -> None:
    request_stop(trial.paths, "linsweep stop")
    assert trial.bridge.start("another") is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "its process died"),
        (ActorDiedError(), "its process died"),
        (
            ActorDiedError(RayTaskError("f", "Traceback:\n  line\nImportError: no x\n", ImportError("no x"))),
            "ImportError: no x",
        ),
        (RayTaskError("f", "Traceback:\n  line\nValueError: no good\n", ValueError("no good")), "ValueError: no good"),
        (ValueError("no\n good "), "good"),
    ],
)
def test_why_a_trial_failed(error: Exception | None, said: str) -> None:
    assert why_failed(error) == said


@pytest.mark.parametrize(
    ("epochs", "saved", "kept"),
    [
        # The launch may have died before it decided on what epoch 10 gave.
        (10, None, False),
        # The trial trained on, so it was told to.
        (11, None, True),
        # It saved its state after that epoch, which it does when it goes on or is asked to stop.
        (10, 10, True),
        (10, 5, False),
    ],
)
def test_early_stopping_remembers_what_it_decided(
    sweep: ToSweep, tmp_path: Path, epochs: int, saved: int | None, kept: bool
) -> None:
    edits: dict[str, Any] = {
        "controls": [],
        "train/epochs": 40,
        "evaluate/every": 10,
        "search/stop_early": {"scheduler": "asha", "grace_epochs": 10, "reduction": 3},
    }
    made = sweep(edits)
    paths = SweepPaths(tmp_path / "demo")
    planned = Schedule(made, make_study(made), 2, RecordedOutcomes(paths, None, FD)).next()
    assert planned is not None
    journal = Journal(paths.journal(planned.identity.trial))
    journal.trial(planned.identity, planned.config, ORIGIN)
    for epoch in range(1, epochs + 1):
        journal.epoch(epoch, {"train/loss": 1.0, **({FD: 7.0} if epoch % 10 == 0 else {})})
        if epoch == saved:
            journal.saved(epoch)
    assert made.search.stop_early is not None
    halving = Halving(made.search.stop_early, "min", 40)
    found = RecordedOutcomes(paths, halving, FD).look_up(planned, Competitors())
    assert found is not None
    assert state_of(journal.path).saved == (saved or 0)
    assert halving._values.get(planned.identity.trial, {}) == ({10: 7.0} if kept else {})


def test_one_whose_process_had_died_before_is_handed_out_once_more_and_not_for_ever(trial: Running) -> None:
    retries = trial.schedule.sweep.model.resources.retries
    for attempt in range(retries + 1):
        trial.bridge.error("tune", "its process died")
        trial.bridge.give_back("tune")
        trial.bridge.end("tune")
        if attempt < retries:
            assert not trial.over
            assert not trial.path.exists()
            assert not trial.schedule.exhausted
            assert trial.bridge.start("tune") is not None
            assert trial.bridge.running["tune"] == trial.planned
    assert trial.over
    assert trial.ends == [("failed", "its process died")]


def test_what_tune_gives_up_while_it_waits_is_given_back(trial: Running) -> None:
    jobs = Jobs(trial.bridge, cast(Progress, None))
    jobs._open["tune"] = {trial.planned.identity.trial: "tune"}
    scheduler = HalvingScheduler(jobs)
    for status, again in [(Trial.RUNNING, False), (Trial.ERROR, False), (Trial.PENDING, True)]:
        gone = cast(Trial, SimpleNamespace(trial_id="tune", status=status))
        scheduler.on_trial_error(None, gone)
        assert ("tune" not in trial.bridge.running) is again
