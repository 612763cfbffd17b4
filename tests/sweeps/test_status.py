"""How a sweep stands, from its record alone; and what stops one."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import analysis
from linearizer_core.experiment.journal import Journal, JournalWarning, TrialIdentity
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.plan import make_plan
from sweeps.execution.stop import Ending, interrupted_by_sigterm, stop_reason, stopping_on_signals
from sweeps.record.ledger import Ledger, Meter, Spent
from sweeps.record.opening import opened
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import request_stop
from sweeps.record.sweep_json import check_to_go_on, read_record, write_record
from sweeps.record.writers import running
from sweeps.result import LaunchResult
from sweeps.result import render as render_result
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.schedule import PlannedTrial, Schedule, make_study
from sweeps.sides import side_of
from sweeps.spec.load import recorded
from sweeps.spec.model import Budget, Resources, Sweep
from sweeps.spec.validation import InputError
from sweeps.status import render, status_of

FD = "quality/classifier_fd_collapsed"
ToSweep = Callable[..., Sweep]


@pytest.fixture
def made(sweep: ToSweep, tmp_path: Path) -> Sweep:
    return sweep(
        {
            "storage": str(tmp_path / "runs"),
            "controls": [],
            "search/stop_early": None,
            "search/trials": 4,
            "budget": {"hours": 2, "gpu_hours": 8},
            "resources/gpus_per_worker": 1,
        }
    )


@pytest.fixture
def paths(made: Sweep) -> SweepPaths:
    """Two trials finished, one of them reused, one interrupted, one not begun; a launch that died."""
    paths = SweepPaths(made.folder)
    plan = make_plan(made, Capacity((Node(2, 2),), "here"))
    write_record(paths, opened(made, plan.lookahead, None, False, Console(file=io.StringIO())))
    schedule = Schedule(made, make_study(made), 3, RecordedOutcomes(paths, None, FD))
    for state in ("finished", "finished", None):
        planned = schedule.next()
        assert planned is not None
        _journal(paths, planned, state, taken_over=planned.identity.number == 1)
    spent = Spent(0, time.time(), seconds=900, trial_seconds=1800, gpu_seconds=1800)
    Ledger(paths, [replace(spent, ended=True), spent]).write()
    return paths


def _journal(paths: SweepPaths, planned: PlannedTrial, state: Any, taken_over: bool) -> None:
    journal = Journal(paths.journal(planned.identity.trial))
    journal.trial(planned.identity, planned.config, {})
    if taken_over:
        path = paths.journal(planned.identity.trial)
        path.write_text(path.read_text().replace('"attempt": 1', '"attempt": 1, "reused_from": "other/t000-s0"'))
    journal.epoch(1, {FD: 3.0})
    if state:
        journal.summary({FD: 3.0})
        journal.end(state, 1)


def test_a_launch_that_died(paths: SweepPaths) -> None:
    status = status_of(paths.root)
    assert (status.state, status.reason) == ("interrupted", "its launch died")
    assert dict(status.trials) == {"finished": 2, "interrupted": 1}
    assert (status.reused, status.total) == (1, 4)
    assert (status.hours, status.gpu_hours) == (0.5, 1.0)
    # One trial was run in half an hour, and three have to be.
    assert (status.projected, status.projected_gpu) == (1.5, 3.0)
    assert status.unsent == sum(path.stat().st_size for path in paths.journals.iterdir())


def test_status_tables_and_comparisons_agree_on_a_launch_that_died(paths: SweepPaths) -> None:
    def states() -> set[tuple[str, ...]]:
        record = analysis.load(paths.root)
        trials = dict(zip(record.runs["trial"], record.runs["state"], strict=True))
        in_status = [state for state in status_of(paths.root).trials if state != "finished"]
        sides = side_of("demo", lambda _: paths.root), side_of("demo/t002-s0", lambda _: paths.root)
        return {
            (status_of(paths.root).state, *in_status),
            (record.sweeps[0].state, trials["t002-s0"]),
            (sides[0].state, sides[1].state),
        }

    assert states() == {("interrupted", "interrupted")}
    assert analysis.load(paths.root).sweeps[0].document["reason"] == "its launch died"
    with paths.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert states() == {("running", "running")}
    assert states() == {("interrupted", "interrupted")}


def test_without_locks_tables_take_the_word_of_the_record(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    paths.lock.touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert analysis.load(paths.root).sweeps[0].state == "running"


def test_what_a_user_reads(paths: SweepPaths, made: Sweep) -> None:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(render(status_of(paths.root)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{made.name}" in text
    assert "interrupted (its launch died)" in text
    assert "2 of 4 ended (2 finished, 1 of them reused from identical trials), 1 interrupted" in text
    assert "30 min spent, about 1 h 30 min in total, cap 2 h" in text
    assert "1 spent, about 3 in total, cap 8" in text


def test_a_launch_that_runs_and_one_that_stops(paths: SweepPaths) -> None:
    assert not running(paths)
    with paths.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert running(paths)
        assert status_of(paths.root).state == "running"
        assert status_of(paths.root).trials["running"] == 1
        request_stop(paths, "linsweep stop")
        request_stop(paths, "another reason")
        assert (status_of(paths.root).state, status_of(paths.root).reason) == ("stopping", "linsweep stop")
    assert not running(paths)


def test_a_sweep_is_looked_at_where_its_data_are_not(paths: SweepPaths) -> None:
    record = read_record(paths)
    assert record is not None
    record["spec"]["data"] |= {"name": "folder", "root": "/gone"}
    write_record(paths, record)
    assert status_of(paths.root).total == 4


def test_a_broken_sweep_does_not_hide_the_others(
    paths: SweepPaths, run_cli: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = paths.storage / "aaa"
    broken.mkdir()
    (broken / "sweep.json").write_text("{")
    assert run_cli("status", "--storage", str(paths.storage)) == 2
    said = capsys.readouterr()
    assert "its launch died" in said.out
    assert said.err.startswith(f"{broken}/sweep.json: is not a sweep's record")
    assert said.err.count("\n") == 1


def test_a_record_that_was_renamed_is_gone_on_with_in_its_folder(
    paths: SweepPaths, run_cli: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = paths.root.rename(paths.storage / "demo-old")
    folders: list[Path] = []

    def launch(sweep: Sweep, *_: object) -> None:
        folders.append(sweep.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.launch.launch", launch)
    assert run_cli("resume", "demo-old", "--storage", str(paths.storage)) == 130
    assert folders == [renamed]


def test_what_is_no_trials_journal_is_not_counted(paths: SweepPaths) -> None:
    before = status_of(paths.root)
    (paths.journals / "._t000-s0.jsonl").write_bytes(b"\0\5\x16\7 Mac OS X")
    paths.journal("t099-s0").write_bytes(b"")  # of a trial that died before its first line
    (paths.journals / "t000-s0 (1).jsonl").write_bytes(paths.journal("t000-s0").read_bytes())
    paths.journal("t098-s0").mkdir()
    paths.journal("t097-s0").symlink_to("nowhere")
    with pytest.warns(JournalWarning, match="ignored"):
        found = status_of(paths.root)
    assert (found.trials, found.reused, found.projected) == (before.trials, before.reused, before.projected)
    assert found.unsent == before.unsent


@pytest.mark.parametrize("name", ["name", "state", "axes", "objective", "started"])
def test_a_record_without_what_every_reader_asks_for_is_named(
    paths: SweepPaths, run_cli: Callable[..., int], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    record = json.loads(paths.sweep_json.read_text())
    del record[name]
    paths.sweep_json.write_text(json.dumps(record))
    for command in ("status", "compare", "table"):
        assert run_cli(command, "demo", "--storage", str(paths.storage)) == 2
        assert f"{paths.sweep_json}: lacks '{name}'" in capsys.readouterr().err


def test_folders_in_the_place_of_files_are_one_line(
    paths: SweepPaths, run_cli: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    paths.lock.unlink(missing_ok=True)
    paths.lock.mkdir()
    assert run_cli("status", "demo", "--storage", str(paths.storage)) == 1
    assert capsys.readouterr().err == f"status: {paths.lock}: Is a directory\n"
    assert run_cli("resume", "demo", "--storage", str(paths.storage), "--set", "resources.gpus_per_worker=0") == 2
    assert f"{paths.lock} cannot be written: Is a directory" in capsys.readouterr().err


def test_a_record_can_do_without_what_it_came_to(paths: SweepPaths) -> None:
    record = json.loads(paths.sweep_json.read_text())
    for name in ("reason", "ended", "best", "best_value"):
        del record[name]
    paths.sweep_json.write_bytes(b"\xef\xbb\xbf" + json.dumps(record).encode())
    assert status_of(paths.root).total == 4


@pytest.mark.parametrize("field", ["id", "lookahead", "fresh", "provenance"])
def test_a_launch_does_not_go_on_from_a_record_that_lacks_what_it_needs(paths: SweepPaths, field: str) -> None:
    record = read_record(paths)
    assert record is not None
    check_to_go_on(paths, record)
    del record[field]
    with pytest.raises(InputError, match=f"{field}.*: is missing or invalid, so the sweep cannot continue"):
        check_to_go_on(paths, record)
    with pytest.raises(InputError, match="rules: is missing or invalid, so the sweep cannot continue"):
        check_to_go_on(paths, {**read_record(paths), "rules": 99})  # type: ignore[dict-item]


def test_a_folder_without_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sweep"):
        status_of(tmp_path)


def test_a_recorded_sweep_is_the_one_that_was_launched(paths: SweepPaths, made: Sweep, tmp_path: Path) -> None:
    record = read_record(paths)
    assert record is not None
    again = recorded(record, paths.root)
    assert again.resolved == made.resolved
    more = recorded(record, paths.root, ["budget.hours=9"])
    assert more.model.budget.hours == 9
    # Wherever the folder is now, the sweep goes on in it.
    moved = paths.root.rename(tmp_path / made.name)
    assert recorded(record, moved).folder == moved
    with pytest.raises(InputError, match=r"sweep\.json: budget\.hours: "):
        recorded(record, moved, ["budget.hours=0"])


def ending(paths: SweepPaths, budget: Budget, count: list[int]) -> Ending:
    return Ending(paths, budget, Meter(Ledger.read(paths), Resources()), lambda: count[0])


def test_running_trials_are_waited_for(paths: SweepPaths) -> None:
    count = [2]
    end = ending(paths, Budget(), count)
    assert not end.over()
    request_stop(paths, "linsweep stop")
    assert not end.over()
    assert end.reason == "linsweep stop"
    count[0] = 0
    assert end.over()


def test_they_are_not_waited_for_for_ever(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.execution.stop.STOP_SECONDS", 0.05)
    end = ending(paths, Budget(), [1])
    request_stop(paths, "linsweep stop")
    assert not end.over()
    time.sleep(0.06)
    assert end.over()


def test_a_spent_budget_asks_the_trials_to_stop(paths: SweepPaths) -> None:
    count = [1]
    end = ending(paths, Budget(hours=0.5), count)
    assert not end.over()
    assert stop_reason(paths) == end.reason == "budget.hours = 0.5 spent"
    count[0] = 0
    assert end.over()


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(paths: SweepPaths, number: signal.Signals) -> None:
    told: list[bool] = []
    with stopping_on_signals(paths, lambda: told.append(True)):
        os.kill(os.getpid(), number)
        assert told == [True]
        assert stop_reason(paths) == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.usefixtures("handlers")
def test_before_any_trial_runs_one_signal_is_enough() -> None:
    with interrupted_by_sigterm(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
def test_outside_the_main_thread_signals_stay_as_they_are(paths: SweepPaths) -> None:
    def launched() -> dict[int, Any]:
        with interrupted_by_sigterm(), stopping_on_signals(paths, lambda: None):
            return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(launched).result() == before


def test_how_a_launch_ended_names_the_best_as_tables_do(made: Sweep) -> None:
    best = [TrialIdentity("demo", f"t006-s{seed}", "search", None, 6, "h", seed, {"train.lr": 0.01}) for seed in (0, 1)]
    seconds = {"references": 0.2, "start": 12.0, "trials": 200.0}
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(render_result(LaunchResult(made, "finished", None, best, 8.7, {"finished": 2}, 0, seconds=seconds)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "best: t006  lr=0.01  quality/classifier_fd_collapsed = 8.7" in text
    assert "took 3 min 32 s: start 12 s, trials 3 min 20 s" in text
