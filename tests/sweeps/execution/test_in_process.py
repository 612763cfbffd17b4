"""Sweeps carried out in this process, as Ray would: the same table, retries, early stopping, budgets and interrupts."""

from __future__ import annotations

import bdb
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from linearizer_core.experiment.journal import Journal, state_of
from sweeps.execution.close import LaunchResult
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.in_process import InProcess
from sweeps.execution.stop import Ending
from sweeps.execution.task import Task
from sweeps.launch import launch
from sweeps.record.ledger import Ledger
from sweeps.record.paths import SweepPaths
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError
from tests.sweeps.offline import offline


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


RECORDED = Path(__file__).parents[2] / "records" / "b428e36"
TWO_CORES = Capacity((Node(2, 0),), "here")
SWD = "quality/swd_collapsed"

Results = Iterator[dict[str, Any]]

OF_THEN = ("recipe=learned", "train.detach=false", "evaluate.tempered=true")
"""What a spec of the record's time left unsaid."""


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Sweep]:
    """``tiny(retries=…, …)``: two trials of the recorded spec, whose training is left to the test."""

    def make(**resources: Any) -> Sweep:
        spec = yaml.safe_load((RECORDED / "before.yaml").read_text())
        spec |= {"controls": [], "storage": str(tmp_path / "runs"), "evaluate": {"steps": [1], "quality": ["swd"]}}
        spec["search"] |= {"sampler": "random", "trials": 2, "seeds": [0], "confirm": None, "stop_early": None}
        spec["resources"] |= resources
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(spec))
        return load(str(path), ["name=tiny"])

    return make


class Trials:
    """Stands for training: each attempt writes its journal and gives one result, unless ``happens`` does otherwise."""

    def __init__(self, happens: Callable[[Task, int], None] = lambda task, attempt: None) -> None:
        self.happens = happens
        self.attempts: list[str] = []

    def __call__(self, task: Task) -> Any:
        name = task.identity.trial
        self.attempts.append(name)
        journal = Journal(task.files.journal)
        journal.trial(task.identity, task.config, task.provenance)
        yield {"epoch": 1, SWD: 1.0}
        self.happens(task, self.attempts.count(name))
        if task.paths.stop.exists():
            journal.end("interrupted", 1, "stopped on request")
            yield {"epoch": 1, "state": "interrupted"}
            return
        journal.summary({SWD: 1.0})
        journal.end("finished", 4)
        yield {"epoch": 4, "state": "finished", SWD: 1.0}


def carried_out(sweep: Sweep, trials: Trials) -> tuple[LaunchResult, str]:
    """How the launch ended, and what it printed."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    result = launch(sweep, console, InProcess(TWO_CORES, trials))
    return result, console.file.getvalue()  # type: ignore[attr-defined]


def ends(folder: Path) -> dict[str, tuple[str | None, int, dict[str, float]]]:
    """How each trial ended: its state, its last epoch, and its metrics but for what depends on the machine."""
    found = {}
    for path in sorted((folder / "journal").glob("*.jsonl")):
        result = state_of(path)
        metrics = {key: value for key, value in result.metrics.items() if not key.startswith(("cost/", "system/"))}
        found[path.stem] = result.state, result.epoch, metrics
    return found


def test_the_record_is_the_one_that_ray_gave(tmp_path: Path) -> None:
    sweep = load(str(RECORDED / "before.yaml"), [*OF_THEN, f"storage={tmp_path / 'runs'}"])
    # A sweep that began then goes on by the rules of then: the seeds of a configuration know nothing of each other.
    sweep.folder.mkdir(parents=True)
    shutil.copy(RECORDED / "runs/before/sweep.json", sweep.folder)
    result = launch(sweep, Console(file=io.StringIO()), InProcess(TWO_CORES), fresh=True)
    expected = json.loads((RECORDED / "runs/before/sweep.json").read_text())
    assert [identity.trial for identity in result.best] == expected["best"]
    assert result.best_value == pytest.approx(expected["best_value"], abs=1e-3)
    assert json.loads((sweep.folder / "sweep.json").read_text())["rules"] == 1
    ours, theirs = ends(sweep.folder), ends(RECORDED / "runs/before")
    assert list(ours) == list(theirs)
    for trial, (state, epoch, metrics) in theirs.items():
        assert ours[trial][:2] == (state, epoch)
        # What is exact but for rounding, in dB, is another on every kind of processor.
        exact = {key: value for key, value in metrics.items() if key.endswith("_psnr") and value > 90}
        rest = {key: value for key, value in metrics.items() if key not in exact}
        assert {key: ours[trial][2][key] for key in rest} == pytest.approx(rest, abs=1e-3, rel=1e-3, nan_ok=True), trial
        assert {key: ours[trial][2][key] for key in exact} == pytest.approx(exact, abs=15), trial
        # What was not recorded then is what families share the name of, and how sure a distance is.
        added = ours[trial][2].keys() - metrics.keys()
        assert all(key.endswith(("_sampled", "_error", "_infinite")) for key in added), trial


def test_an_exception_keeps_its_traceback_and_the_trial_is_tried_again(tiny: Callable[..., Sweep]) -> None:
    def happens(task: Task, attempt: int) -> None:
        if task.identity.trial == "t000-s0" and attempt == 1:
            raise ValueError("no good")

    trials = Trials(happens)
    result, said = carried_out(tiny(retries=1), trials)
    assert result.state == "finished"
    assert trials.attempts == ["t000-s0", "t000-s0", "t001-s0"]
    assert f'File "{__file__}", line ' in said
    assert "ValueError: no good" in said


def test_one_that_raises_as_often_as_it_may_has_failed_and_the_sweep_goes_on(tiny: Callable[..., Sweep]) -> None:
    def happens(task: Task, attempt: int) -> None:
        if task.identity.trial == "t000-s0":
            raise ValueError("no good")

    trials = Trials(happens)
    result, _ = carried_out(tiny(retries=2), trials)
    assert trials.attempts == ["t000-s0"] * 3 + ["t001-s0"]
    assert result.trials == {"failed": 1, "finished": 1}
    assert result.failure == "t000-s0: ValueError: no good"


def test_one_that_raises_before_its_journal_begins_says_why(tiny: Callable[..., Sweep]) -> None:
    def broken(task: Task) -> Any:
        raise ModuleNotFoundError("no module named missing")
        yield {}

    sweep = tiny(retries=0)
    result = launch(sweep, Console(file=io.StringIO()), InProcess(TWO_CORES, broken))
    assert (result.state, result.trials) == ("failed", {"failed": 2})
    assert result.failure == "t000-s0: ModuleNotFoundError: no module named missing"
    reason = state_of(SweepPaths(sweep.folder).journal("t001-s0")).reason
    assert reason == "ModuleNotFoundError: no module named missing"


def test_a_signal_lets_the_trial_save_its_state_and_the_next_launch_goes_on(tiny: Callable[..., Sweep]) -> None:
    first = Trials(lambda task, attempt: os.kill(os.getpid(), signal.SIGINT))
    sweep = tiny()
    result, said = carried_out(sweep, first)
    assert (result.state, result.reason, result.trials) == ("interrupted", "interrupted", {"interrupted": 1})
    assert "stopping: running trials save their state" in said
    second = Trials()
    result, _ = carried_out(sweep, second)
    assert result.state == "finished"
    assert second.attempts == ["t000-s0", "t001-s0"]


def test_two_signals_end_it_there_and_then(tiny: Callable[..., Sweep]) -> None:
    def happens(task: Task, attempt: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    sweep = tiny()
    with pytest.raises(KeyboardInterrupt):
        carried_out(sweep, Trials(happens))
    assert state_of(SweepPaths(sweep.folder).journal("t000-s0")).state == "interrupted"


def test_a_debugger_that_is_left_interrupts_and_the_next_launch_goes_on(tiny: Callable[..., Sweep]) -> None:
    def quits(task: Task, attempt: int) -> None:
        raise bdb.BdbQuit

    sweep, first, second = tiny(retries=2), Trials(quits), Trials()
    with pytest.raises(KeyboardInterrupt):
        carried_out(sweep, first)
    assert first.attempts == ["t000-s0"]
    assert state_of(SweepPaths(sweep.folder).journal("t000-s0")).state == "interrupted"
    result, _ = carried_out(sweep, second)
    assert (result.state, second.attempts) == ("finished", ["t000-s0", "t001-s0"])


def test_a_budget_that_is_not_heeded_any_more_is_said(
    tiny: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = Ending.over

    def broken(ending: Ending) -> bool:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("the ledger cannot be written")
        return over(ending)

    def until_the_watch_has_ended(task: Task, attempt: int) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(thread.name == "ending" for thread in threading.enumerate()):
            time.sleep(0.01)

    monkeypatch.setattr(Ending, "over", broken)
    trials = Trials(until_the_watch_has_ended)
    with pytest.raises(OSError, match="the ledger cannot be written"):
        carried_out(tiny(), trials)
    assert trials.attempts == ["t000-s0"]


def test_a_spent_budget_ends_it(tiny: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = tiny()
    sweep = load(sweep.source, ["name=tiny", "budget.hours=1.0e-9"])
    trials = Trials()
    result, _ = carried_out(sweep, trials)
    assert (result.state, result.reason) == ("interrupted", "budget.hours = 1e-09 spent")
    assert trials.attempts == []


def test_what_is_spent_is_in_the_ledger(tiny: Callable[..., Sweep]) -> None:
    sweep = tiny()
    carried_out(sweep, Trials())
    (spent,) = Ledger.read(SweepPaths(sweep.folder)).launches
    assert spent.ended
    assert spent.seconds > 0


def test_several_workers_are_refused(tiny: Callable[..., Sweep]) -> None:
    sweep = tiny(workers=2)
    with pytest.raises(InputError, match=r"resources\.workers: is 2, .*--set resources\.workers=1"):
        launch(sweep, Console(file=io.StringIO()), InProcess(TWO_CORES))
    assert not sweep.folder.exists()


def test_a_cluster_is_refused(run_cli: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("launch", "quickstart", "--debug", "--address", "auto") == 2
    assert "--debug: runs the trials in this process; leave out --address" in capsys.readouterr().err


def test_it_needs_no_ray(tmp_path: Path) -> None:
    code = "import sys, sweeps.launch, sweeps.execution.in_process; print(*sorted({'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
