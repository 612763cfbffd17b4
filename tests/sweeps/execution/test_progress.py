"""What is shown of a running sweep, and which trials take time."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from ray.tune.experiment import Trial
from rich.console import Console

from linearizer_core.experiment.journal import Journal, TrialIdentity
from sweeps.execution.bridge import Bridge
from sweeps.execution.jobs import Jobs
from sweeps.execution.progress import Progress
from sweeps.execution.ray_tune import HalvingScheduler, ScheduleSearcher
from sweeps.execution.task import Task
from sweeps.record.paths import SweepPaths
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.schedule import Schedule, make_study
from sweeps.spec.model import Sweep

FD = "quality/classifier_fd_collapsed"
ToSweep = Callable[..., Sweep]


class Shown:
    """A sweep of which nothing has begun, told to its progress as Tune tells it."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.paths = SweepPaths(folder / "demo")
        self.paths.root.mkdir()
        schedule = Schedule(sweep, make_study(sweep), 2, RecordedOutcomes(self.paths, None, FD))
        root = str(self.paths.root)
        self.bridge = Bridge(
            schedule, None, self.paths,
            lambda planned: Task(planned.identity, planned.config, root, {}, 1, 1, 0.0, 30.0, 600.0),
        )  # fmt: skip
        self.console = Console(file=io.StringIO(), width=200, color_system=None)
        self.progress = Progress(schedule, self.paths, sweep.base_leaves["train.epochs"], self.console)
        jobs = Jobs(self.bridge, self.progress)
        self.searcher = ScheduleSearcher(jobs)
        self.scheduler = HalvingScheduler(jobs)

    def add(self, name: str) -> Trial:
        assert self.searcher.suggest(name) is not None
        trial = cast(Trial, SimpleNamespace(trial_id=name, status=Trial.PENDING))
        self.scheduler.on_trial_add(None, trial)
        return trial

    def identity(self, trial: Trial) -> TrialIdentity:
        return self.bridge.running[trial.trial_id].identity

    @property
    def said(self) -> str:
        return str(self.console.file.getvalue())  # type: ignore[attr-defined]

    def view(self) -> str:
        console = Console(file=io.StringIO(), width=200, color_system=None)
        console.print(self.progress._render())
        return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def shown(sweep: ToSweep, tmp_path: Path) -> Shown:
    return Shown(sweep({"search/stop_early": None, "controls": []}), tmp_path)


def test_a_trial_takes_time_while_it_has_its_place_and_not_while_it_waits(shown: Shown) -> None:
    counts = []
    first, second = shown.add("a"), shown.add("b")
    for trial, status in [
        (first, Trial.PENDING), (first, Trial.RUNNING), (second, Trial.RUNNING), (first, Trial.PENDING),
        (first, Trial.RUNNING), (second, Trial.TERMINATED),
    ]:  # fmt: skip
        trial.status = status
        counts.append(shown.progress.running())
    assert counts == [0, 1, 2, 1, 2, 2]
    shown.searcher.on_trial_complete("b")
    assert shown.progress.running() == 1


def test_a_trial_that_is_tried_again_is_shown_from_the_start_and_ends_once(shown: Shown) -> None:
    trial = shown.add("a")
    identity = shown.identity(trial)
    trial.status = Trial.RUNNING
    shown.scheduler.on_trial_result(None, trial, {"epoch": 3, FD: 2.5})
    assert "epoch 3/" in shown.view()
    assert "classifier_fd_collapsed 2.5" in shown.view()
    assert "1 running, 0 finished" in shown.view()
    trial.status = Trial.PENDING
    assert "0 running, 1 waiting, 0 finished" in shown.view()
    assert "epoch" not in shown.view()
    shown.scheduler.on_trial_add(None, trial)
    trial.status = Trial.RUNNING
    assert "epoch 0/" in shown.view()
    journal = Journal(shown.paths.journal(identity.trial))
    journal.trial(identity, {}, {})
    journal.summary({FD: 2.0})
    journal.end("finished", 4)
    for _ in range(2):
        shown.searcher.on_trial_complete("a")
    assert shown.said.count(identity.trial) == 1
    assert "finished" in shown.said
    assert f"{FD} 2" in shown.said


def test_a_trial_that_never_began_ends_without_a_word(shown: Shown) -> None:
    shown.add("a")
    shown.searcher.on_trial_complete("a")
    assert shown.said == ""
    assert shown.progress.running() == 0
