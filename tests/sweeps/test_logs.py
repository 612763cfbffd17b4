"""A trial's journal, told in plain lines."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from linearizer_core.experiment.evaluation import Curve
from linearizer_core.experiment.journal import JournalWarning
from sweeps.logs import LogLine, Logs
from sweeps.record.lookup import find_trial
from sweeps.spec.validation import InputError

Cli = Callable[..., int]
Record = Any
FD = "quality/classifier_fd_collapsed"


@pytest.fixture(autouse=True)
def _here(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.paths.storage.parent)


@contextmanager
def carried_out(record: Record) -> Iterator[None]:
    """A launch of the sweep is up."""
    with record.paths.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def texts(lines: Iterator[LogLine] | Logs) -> list[str]:
    return [line.text for line in lines]


def test_a_whole_trial(record: Record) -> None:
    journal = record.begin()
    journal.epoch(1, {"train/loss": 0.5, "train/flow": 0.25, "system/cpu_cores": 2.0, FD: 12.345678})
    journal.warning("the state of the training\ncould not be saved")
    journal.saved(1)
    journal.artifact("checkpoint")
    journal.curve("nfe/swd", Curve([1, 10], [2.0, 1.0]))
    journal.summary({FD: 8.0, "cost/params": 26696.0, "linearity/noise_ks": float("inf")})
    journal.end("finished", 3)
    log = Logs(record.paths, "t000-s0")
    assert texts(log) == [
        "search trial t000-s0 of demo: lr=0.003, seed 0",
        f"epoch 1 of 3  loss 0.5  {FD} 12.35",
        "warning: the state of the training could not be saved",
        "saved its state after epoch 1",
        "wrote checkpoint",
        "nfe/swd: 2 at 1, 1 at 10",
        f"{FD} = 8",
        "cost/params = 2.67e+04",
        "linearity/noise_ks = inf",
        "finished after epoch 3",
    ]
    assert log.ending is None


def test_of_many_metrics_the_main_ones_are_shown(
    run_cli: Cli, record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many = {f"quality/swd_k{k}": 1.0 * k for k in range(20)}
    journal = record.begin()
    journal.summary({"cost/params": 5.0, **many, FD.replace("quality", "test"): 9.0, FD: 8.0})
    journal.end("finished", 3)
    log = Logs(record.paths, "t000-s0")
    assert texts(log)[1:] == [
        f"{FD} = 8", f"{FD.replace('quality', 'test')} = 9", "cost/params = 5", "and 20 more metrics; --all shows them",
        "finished after epoch 3",
    ]  # fmt: skip
    monkeypatch.chdir(record.paths.storage.parent)
    assert run_cli("logs", "demo/t000-s0", "--all") == 0
    out = capsys.readouterr().out
    assert "quality/swd_k19 = 19" in out
    assert "more metrics" not in out


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("stopped", "asha: not among the best", "stopped after epoch 2: asha: not among the best"),
        ("failed", "diverged: the loss is\nnan", "failed after epoch 2: diverged: the loss is nan"),
    ],
)
def test_how_it_ended_and_why(record: Record, state: Any, reason: str, said: str) -> None:
    record.begin().end(state, 2, reason)
    log = Logs(record.paths, "t000-s0")
    assert texts(log)[-1] == said
    assert log.ending is None


def test_further_attempts_and_reused_results(record: Record) -> None:
    record.begin().end("interrupted", 2, "stopped on request")
    record.begin()
    path = record.paths.journal("t001-s0")
    record.begin("t001-s0", number=1)
    path.write_text(path.read_text().replace('"attempt": 1', '"attempt": 1, "reused_from": "other/t004-s0"'))
    assert texts(Logs(record.paths, "t000-s0"))[1:] == [
        "interrupted after epoch 2: stopped on request",
        "attempt 2 starts from scratch",
    ]
    (told,) = texts(Logs(record.paths, "t001-s0"))
    assert told.endswith("lr=0.003, seed 0; not run: it reuses the result of other/t004-s0")


def test_what_to_do_about_a_trial_without_an_end(record: Record) -> None:
    journal = record.begin()
    log = Logs(record.paths, "t000-s0")
    assert log.ending == "not ended (its launch died); to continue: linsweep resume demo"
    with carried_out(record):
        assert log.ending == "running; to follow it: linsweep logs demo/t000-s0 -f"
        journal.end("interrupted", 1, "RuntimeError: no memory")
        assert log.ending == "waiting to continue; to follow it: linsweep logs demo/t000-s0 -f"
    assert log.ending == "not ended (RuntimeError: no memory); to continue: linsweep resume demo"


def test_following_gives_each_line_once_and_ends_with_the_trial(record: Record) -> None:
    journal = record.begin()
    found: list[str] = []
    begun, three = threading.Event(), threading.Event()

    def follow() -> None:
        for line in Logs(record.paths, "t000-s0").follow(period=0.01):
            found.append(line.text)
            begun.set()
            if len(found) == 3:
                three.set()

    with carried_out(record):
        thread = threading.Thread(target=follow)
        thread.start()
        assert begun.wait(20)
        journal.epoch(1, {})
        journal.epoch(2, {})
        assert three.wait(20)
        journal.end("failed", 2, "no memory")
        thread.join(20)
    assert not thread.is_alive()
    assert found[1:] == ["epoch 1 of 3", "epoch 2 of 3", "failed after epoch 2: no memory"]


def test_a_line_that_is_being_written_is_told_when_it_is_whole(record: Record) -> None:
    journal = record.begin()
    path = record.paths.journal("t000-s0")
    journal.epoch(1, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with carried_out(record):
        lines = Logs(record.paths, "t000-s0").follow(period=0.01)
        assert next(lines).event == "trial"
        path.write_bytes(whole)
        assert next(lines).text == "epoch 1 of 3"


def test_following_ends_where_no_launch_is_up(record: Record) -> None:
    record.begin().epoch(1, {})
    assert texts(Logs(record.paths, "t000-s0").follow())[1:] == ["epoch 1 of 3"]


def test_a_damaged_line_costs_itself_and_is_told(
    run_cli: Cli, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = record.begin()
    with record.paths.journal("t000-s0").open("a") as file:
        file.write('{"event": "epoch", "time": 1.0}\n')
    journal.end("finished", 3)
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:2: the epoch line lacks 'epoch'"):
        assert len(texts(Logs(record.paths, "t000-s0"))) == 2
    assert run_cli("logs", "demo/t000-s0") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].endswith("  finished after epoch 3")
    assert said.err.startswith("warning: runs/demo/journal/t000-s0.jsonl:2: the epoch line lacks 'epoch'")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("demo", "demo: give the sweep and the trial, as SWEEP/TRIAL"),
        ("runs/demo/", "runs/demo: give the sweep and the trial, as SWEEP/TRIAL"),
        ("t000-s0", "t000-s0: give the sweep and the trial, as SWEEP/TRIAL"),
        ("demmo/t000-s0", "demmo: no sweep of this name in runs; did you mean demo?"),
        ("demo/t00-s0", "demo/t00-s0: no trial t00-s0 in runs/demo; did you mean t000-s0?"),
        ("demo/t101", "demo/t101: has 3 trials, one per seed; give one of t101-s0, t101-s2, t101-s10\n"),
        ("demo/../../x", "demo/../..: no sweep of this name in runs; "),
    ],
)
def test_a_trial_that_is_not_there(record: Record, name: str, said: str) -> None:
    record.begin()
    for seed in (0, 2, 10):
        record.paths.journal(f"t101-s{seed}").touch()
    with pytest.raises(InputError) as caught:
        find_trial(name, record.paths.storage.relative_to(record.paths.storage.parent))
    assert f"{caught.value}\n".startswith(said)


def test_a_configuration_with_one_trial_names_it(
    run_cli: Cli, record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record.begin().end("finished", 3)
    record.paths.journal("r000").touch()
    monkeypatch.chdir(record.paths.storage.parent)
    assert run_cli("logs", "demo/t000") == 0
    assert "search trial t000-s0 of demo" in capsys.readouterr().out
    assert run_cli("retry", "demo/t000") == 2
    assert capsys.readouterr().err.startswith("demo/t000: has not ended; ")
