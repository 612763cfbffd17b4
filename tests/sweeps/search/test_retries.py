"""Single trials that are stopped by hand and tried again: what their search is told, and what goes on."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import linsweep as ls
from linearizer_core.experiment.journal import Journal, state_of
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.in_process import InProcess
from sweeps.execution.replay import replayed
from sweeps.execution.task import Task
from sweeps.execution.trial import execute
from sweeps.launch import launch
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import ask_to_retry, ask_to_stop
from sweeps.record.sweep_json import read_record
from sweeps.result import LaunchResult
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from tests.sweeps.offline import offline

SWD = "quality/swd_collapsed"
HERE = Capacity((Node(1, 0),), "here")


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Four configurations by TPE, of which each depends on what those before came to."""
    spec = {
        "name": "tried",
        "data": {"name": "digits", "images": 64},
        "model": {"flow": {"depth": 1, "width": 8}},
        "train": {"epochs": 60, "batch_size": 64},
        "evaluate": {"steps": [1], "quality": ["swd"], "samples": 64, "held_out": 64, "every": 30},
        "search": {
            "trials": 8,
            "space": {"train.lr": {"float": [1e-4, 1e-2], "log": True}},
            "objective": {SWD: "min"},
        },
        "resources": {"checkpoint_seconds": 0, "retries": 0},
        "storage": str(tmp_path / "runs"),
    }
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    return load(str(file))


class Trials:
    """Stands for training, in two epochs: ``happens`` may raise, or ask something of a trial, at the first attempts."""

    def __init__(self, happens: Callable[[Task, int], None]) -> None:
        self.happens = happens
        self.ran: list[str] = []

    def __call__(self, task: Task) -> Iterator[dict[str, Any]]:
        name = task.identity.trial
        self.ran.append(name)
        journal = Journal(task.files.journal)
        journal.trial(task.identity, task.config, task.provenance)
        value = abs(task.config["train"]["lr"] - 3e-3)
        journal.epoch(1, {SWD: value})
        yield {"epoch": 1, SWD: value}
        self.happens(task, self.ran.count(name))
        if task.paths.stop_of(name).exists():
            journal.end("interrupted", 1, "stopped on request")
            yield {"epoch": 1, "state": "interrupted"}
            return
        journal.summary({SWD: value})
        journal.end("finished", 2)
        yield {"epoch": 2, "state": "finished", SWD: value}


def carried_out(sweep: Sweep, happens: Callable[[Task, int], None]) -> tuple[LaunchResult, list[str]]:
    trials = Trials(happens)
    result = launch(sweep, Console(file=io.StringIO()), InProcess(HERE, trials))
    return result, trials.ran


def told(sweep: Sweep) -> dict[str, str]:
    """What the study is told of each configuration: its state."""
    record = read_record(SweepPaths(sweep.folder))
    assert record is not None
    study = replayed(sweep, SweepPaths(sweep.folder), record).schedule.study
    return {trial.user_attrs["trials"][0]: trial.state.name for trial in study.get_trials(deepcopy=False)}


def test_one_trial_is_stopped_and_goes_on_from_its_state(sweep: Sweep) -> None:
    """Real training, stopped by the command while it runs."""
    paths = SweepPaths(sweep.folder)
    sweep = load(sweep.source, ["search.trials=2", "search.space.train.lr={choice: [0.001, 0.002]}"])
    failures: list[BaseException] = []

    def stop() -> None:
        try:
            deadline = time.monotonic() + 120
            while state_of(paths.journal("t000-s0")).epoch < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert ls.stop("tried/t000-s0", storage=paths.storage).trials["stopped"] == 1
        except BaseException as error:  # noqa: BLE001 - raised in the thread that tests
            failures.append(error)

    thread = threading.Thread(target=stop)
    thread.start()
    result = launch(sweep, Console(file=io.StringIO()), InProcess(HERE, execute), fresh=True)
    thread.join()
    assert failures == []
    assert result.trials == {"finished": 1, "stopped": 1}
    stopped = state_of(paths.journal("t000-s0"))
    assert (stopped.state, stopped.reason) == ("stopped", "stopped by hand")
    assert 3 <= stopped.epoch < 60
    assert paths.training_state("t000-s0").exists()
    with pytest.raises(ls.LinsweepError, match="tried/t000-s0: has ended already: stopped by hand"):
        ls.stop("tried/t000-s0", storage=paths.storage)
    ls.retry("tried/t000-s0", storage=paths.storage)
    assert launch(sweep, Console(file=io.StringIO()), InProcess(HERE, execute)).trials == {"finished": 2}
    again = state_of(paths.journal("t000-s0"))
    assert [attempt.event["resumed_epoch"] for attempt in again.attempts] == [0, stopped.epoch]
    assert sorted(again.epochs) == list(range(1, 61))
    assert not paths.training_state("t000-s0").exists()


def test_the_search_is_told_and_what_it_has_drawn_stays(sweep: Sweep) -> None:
    def stops(task: Task, attempt: int) -> None:
        if task.identity.trial in ("t001-s0", "t003-s0"):
            ask_to_stop(task.paths, "t001-s0" if task.identity.trial == "t001-s0" else "t004-s0")

    result, ran = carried_out(sweep, stops)
    # The fifth was asked to stop while it waited: it never ran.
    assert "t004-s0" not in ran
    assert len(ran) == 7
    assert result.trials == {"finished": 6, "stopped": 2}
    assert (told(sweep)["t001-s0"], told(sweep)["t004-s0"]) == ("PRUNED", "FAIL")
    paths = SweepPaths(sweep.folder)
    assert list(paths.requests.iterdir()) == []
    points = {path.stem: state_of(path).head["overrides"] for path in paths.journals.glob("t*.jsonl")}  # type: ignore[index]
    ask_to_retry(paths, "t001-s0")
    result, ran = carried_out(sweep, lambda task, attempt: None)
    assert ran == ["t001-s0"]
    assert result.trials == {"finished": 7, "stopped": 1}
    assert told(sweep)["t001-s0"] == "COMPLETE"
    # A longer search goes on from there, with what it had drawn when it knew no better.
    longer = load(sweep.source, ["search.trials=10"])
    assert carried_out(longer, lambda task, attempt: None)[1] == ["t008-s0", "t009-s0"]
    assert {name: state_of(paths.journal(name)).head["overrides"] for name in points} == points  # type: ignore[index]


def test_one_that_failed_goes_again_in_the_launch_that_runs(sweep: Sweep) -> None:
    def happens(task: Task, attempt: int) -> None:
        if (task.identity.trial, attempt) == ("t002-s0", 1):
            raise OSError("the network is away")
        if task.identity.trial == "t005-s0":
            ls.retry("tried/t002-s0", storage=task.paths.storage)

    result, ran = carried_out(sweep, happens)
    assert ran == [*(f"t{number:03d}-s0" for number in range(8)), "t002-s0"]
    assert (result.state, result.trials) == ("finished", {"finished": 8})
    assert carried_out(sweep, happens)[1] == []


def test_what_cannot_be_tried_again_is_refused(
    sweep: Sweep, run_cli: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(task: Task, attempt: int) -> None:
        if task.identity.trial == "t000-s0":
            raise OSError("the network is away")

    carried_out(load(sweep.source, ["search.trials=2"]), fails)
    storage = ["--storage", str(sweep.folder.parent)]
    assert run_cli("retry", "tried/t001-s0", *storage) == 2
    assert "tried/t001-s0: has finished; linsweep reproduce runs it again" in capsys.readouterr().err
    assert run_cli("retry", "tried/t009-s0", *storage) == 2
    assert "no trial t009-s0" in capsys.readouterr().err
    assert run_cli("retry", "tried/t000-s0", *storage) == 0
    assert "tried/t000-s0 will be retried with linsweep resume tried" in capsys.readouterr().out
    assert SweepPaths(sweep.folder).retry_of("t000-s0").exists()
