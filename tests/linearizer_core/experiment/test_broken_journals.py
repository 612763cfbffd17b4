"""Broken journals: a bad line costs its own event and no other, and is told of with its place."""

from __future__ import annotations

import doctest
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment import journal, journal_lines
from linearizer_core.experiment.journal import (
    Journal,
    JournalWarning,
    TrialIdentity,
    TrialState,
    fold,
    lines,
    read,
    state_of,
)
from linearizer_core.experiment.journal_lines import LineReader

FD = "quality/classifier_fd_collapsed"
HEAD = {
    "event": "trial", "time": 1.0, "sweep": "demo", "trial": "t000-s0", "kind": "search", "label": None, "number": 0,
    "config_hash": "0" * 12, "seed": 0, "overrides": {"train.lr": 0.1}, "attempt": 1, "resumed_epoch": 0,
    "config": {"train": {"lr": 0.1}}, "provenance": {"git": {"commit": None}},
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    HEAD,
    {"event": "epoch", "time": 2.0, "epoch": 1, "metrics": {FD: 3.0}},
    {"event": "epoch", "time": 3.0, "epoch": 2, "metrics": {FD: 2.0}},
    {"event": "saved", "time": 4.0, "epoch": 2},
    {"event": "epoch", "time": 5.0, "epoch": 3, "metrics": {FD: 1.0}},
    {"event": "artifact", "time": 6.0, "path": "checkpoint"},
    {"event": "curve", "time": 7.0, "metric": "nfe/swd", "steps": [1, 10], "values": [0.5, 0.25]},
    {"event": "summary", "time": 8.0, "metrics": {FD: 0.5}},
    {"event": "end", "time": 9.0, "state": "finished", "reason": None, "epoch": 3},
]
WHOLE = [json.dumps(event).encode() + b"\n" for event in EVENTS]


def told(content: bytes) -> TrialState:
    return fold(lines(Path("t000-s0.jsonl"), content))


def same(found: TrialState, expected: TrialState) -> bool:
    return vars(found) | {"damage": []} == vars(expected) | {"damage": []}


def without(*numbers: int) -> TrialState:
    """What the events come to without those of some lines."""
    return told(b"".join(line for number, line in enumerate(WHOLE) if number not in numbers))


def changed(**fields: Any) -> bytes:
    """The third line with other fields."""
    return json.dumps({**EVENTS[2], **fields}).encode() + b"\n"


def lacking(number: int, field: str) -> bytes:
    return json.dumps({name: value for name, value in EVENTS[number].items() if name != field}).encode() + b"\n"


def test_a_whole_journal_has_no_damage() -> None:
    state = told(b"".join(WHOLE))
    assert (state.state, state.epoch, state.saved, state.metrics, state.damage) == ("finished", 3, 2, {FD: 0.5}, [])
    assert state.rungs == {1: {FD: 3.0}, 2: {FD: 2.0}, 3: {FD: 1.0}}
    assert state.identity is not None
    assert (state.identity.trial, state.identity.overrides) == ("t000-s0", {"train.lr": 0.1})
    assert (list(state.curves), list(state.artifacts)) == (["nfe/swd"], ["checkpoint"])
    assert [attempt.worked for attempt in state.attempts] == [8.0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json\n", "is not a JSON object with an event: not json"),
        (b"\xff\xfe\n", "is not a JSON object with an event: "),
        (b"[" * 100_000 + b"\n", "is not a JSON object with an event: "),
        (b"7\n", "is not a JSON object with an event: 7"),
        (b'{"time": 3.0}\n', "is not a JSON object with an event: "),
        (b'{"event": ["epoch"]}\n', "is not a JSON object with an event: "),
        (b'{"event": "epocch", "time": 3.0}\n', "unknown event 'epocch'"),
        (lacking(2, "time"), "the epoch line lacks 'time'"),
        (lacking(2, "epoch"), "the epoch line lacks 'epoch'"),
        (lacking(2, "metrics"), "the epoch line lacks 'metrics'"),
        (changed(time="now"), "malformed epoch line: time must be UNIX seconds, got 'now'"),
        (changed(time=1e300), "malformed epoch line: time must be UNIX seconds, got 1e+300"),
        (changed(epoch="2"), "malformed epoch line: epoch must be a whole number, got '2'"),
        (changed(epoch=True), "malformed epoch line: epoch must be a whole number, got True"),
        (changed(epoch=10**20), "malformed epoch line: epoch must be a whole number, got 100000000000000000000"),
        (changed(metrics=[1.0]), "malformed epoch line: metrics must be a mapping, got [1.0]"),
        (changed(metrics={FD: "low"}), f"malformed epoch line: {FD} must be a number, got 'low'"),
        (changed(metrics={FD: True}), f"malformed epoch line: {FD} must be a number, got True"),
        (WHOLE[2][:30] + b"\n", 'is not a JSON object with an event: {"event": "epoch", "time": 3.'),
        (b"\0" * 40 + b"\n", "contains NUL bytes, as a power cut during a write leaves them"),
        (WHOLE[2][:30] + b"\0" * 40 + b"\n", "contains NUL bytes, as a power cut during a write leaves them"),
    ],
)
def test_a_bad_line_costs_its_own_event_and_is_named(line: bytes, problem: str) -> None:
    state = told(b"".join([*WHOLE[:2], line, *WHOLE[3:]]))
    assert same(state, without(2))
    (bad,) = map(str, state.damage)
    assert bad.startswith(f"t000-s0.jsonl:3: {problem}")


@pytest.mark.parametrize(
    ("number", "changes", "problem"),
    [
        (6, {"values": [0.5]}, "malformed curve line: 2 steps but 1 values"),
        (6, {"steps": [1.5, 10]}, "malformed curve line: steps must be a whole number, got 1.5"),
        (6, {"metric": 3}, "malformed curve line: metric must be text, got 3"),
        (5, {"path": None}, "malformed artifact line: path must be text, got None"),
        (3, {"epoch": -1}, "malformed saved line: epoch must be a whole number, got -1"),
        (7, {"metrics": None}, "malformed summary line: metrics must be a mapping, got None"),
        (8, {"state": "done"}, "malformed end line: state must be one of finished, stopped, failed, interrupted, got "),
        (8, {"reason": 3}, "malformed end line: reason must be text, got 3"),
    ],
)
def test_fields_of_a_wrong_type_cost_the_event(number: int, changes: dict[str, Any], problem: str) -> None:
    line = json.dumps({**EVENTS[number], **changes}).encode() + b"\n"
    state = told(b"".join([*WHOLE[:number], line, *WHOLE[number + 1 :]]))
    assert same(state, without(number))
    (bad,) = map(str, state.damage)
    assert bad.startswith(f"t000-s0.jsonl:{number + 1}: {problem}")


def test_without_its_trial_line_a_journal_tells_of_no_trial() -> None:
    for first in (b"", json.dumps({**HEAD, "kind": "test"}).encode() + b"\n", lacking(0, "seed")):
        state = told(first + b"".join(WHOLE[1:]))
        assert same(state, TrialState())
        # Of all that does not count one line is told of.
        orphan = f"t000-s0.jsonl:{2 if first else 1}: a journal begins with a trial line, got 'epoch'; events before"
        assert [str(bad).startswith(orphan) for bad in state.damage] == ([False, True] if first else [True])


@pytest.mark.parametrize("cut", [5, 25, 60])
def test_a_write_that_failed_half_way_costs_its_event_and_not_the_next(cut: int) -> None:
    state = told(b"".join([*WHOLE[:2], WHOLE[2][:cut] + WHOLE[3], *WHOLE[4:]]))
    assert same(state, without(2))
    assert [bad.number for bad in state.damage] == [3]
    assert state.damage[0].problem.startswith("contains something besides an event: ")


def test_two_events_on_a_line_are_both_read() -> None:
    state = told(b"".join([*WHOLE[:2], WHOLE[2][:-1] + WHOLE[3], *WHOLE[4:]]))
    assert same(state, without())
    assert [bad.problem for bad in state.damage] == ["2 events on one line"]


def test_the_line_after_a_hole_of_nuls_is_read() -> None:
    state = told(b"".join([*WHOLE[:2], b"\0" * 64, *WHOLE[3:]]))
    assert same(state, without(2))
    assert [bad.number for bad in state.damage] == [3]


def test_a_mark_of_the_byte_order_blank_lines_and_carriage_returns_cost_nothing() -> None:
    content = b"\xef\xbb\xbf" + b"\n \n".join(WHOLE).replace(b"\n", b"\r\n")
    assert told(content).damage == []
    assert same(told(content), without())


def test_a_line_that_is_repeated_counts_once() -> None:
    state = told(b"".join([WHOLE[0], *WHOLE[:3], WHOLE[0], *WHOLE[2:]]))
    assert same(state, without())
    assert [(bad.number, bad.problem) for bad in state.damage] == [
        (2, "repeats the line before it"), (5, "repeats the trial line of an attempt")
    ]  # fmt: skip


@pytest.mark.parametrize("length", [1, 30, 75])
def test_a_last_line_that_is_cut_off_does_not_count(length: int) -> None:
    state = told(b"".join(WHOLE[:-1]) + WHOLE[-1][:length])
    assert same(state, without(8))
    assert state.state is None
    assert list(map(str, state.damage)) == ["t000-s0.jsonl:9: is cut off, or being written"]
    state = told(b"".join(WHOLE)[:-20] + b"\0" * 20)
    assert same(state, without(8))
    assert list(map(str, state.damage)) == ["t000-s0.jsonl:9: NUL bytes, as a power cut leaves them"]


def test_python_s_words_for_what_is_not_finite_are_read() -> None:
    for values in ('"Infinity"', "Infinity"):
        state = told(WHOLE[0] + f'{{"event": "summary", "time": 2.0, "metrics": {{"a": {values}}}}}\n'.encode())
        assert (state.metrics, state.damage) == ({"a": float("inf")}, [])


def test_in_pieces_a_journal_comes_to_the_same() -> None:
    retried = [*EVENTS[:5], {**HEAD, "time": 10.0, "attempt": 2, "resumed_epoch": 2}, *EVENTS[5:]]
    content = [json.dumps(event).encode() + b"\n" for event in retried]
    whole = told(b"".join(content))
    assert list(whole.epochs) == [1, 2]
    assert list(whole.trained) == [1, 2, 3]
    reader, state = LineReader(Path("t000-s0.jsonl")), TrialState()
    for line in content:
        assert fold(lines(reader.path, line, reader), state) is state
    assert same(state, whole)
    # Of one piece alone, what it adds is known: what came before is not.
    assert fold(lines(reader.path, b"".join(content[6:]), reader), TrialState(begun=True)).metrics == {FD: 0.5}


def test_every_bad_line_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "t000-s0.jsonl"
    path.write_bytes(b"".join([WHOLE[0], b"?\n", b"!\n"]))
    with pytest.warns(JournalWarning) as caught:
        state = state_of(path)
    assert [str(warning.message) for warning in caught] == [
        f"{path}:2: {state.damage[0].problem}",
        str(state.damage[1]),
    ]
    assert same(state_of(tmp_path / "none.jsonl"), TrialState())


def test_the_examples_in_the_docstrings_run() -> None:
    for module in (journal, journal_lines):
        found = doctest.testmod(module)
        assert (found.failed, found.attempted > 0) == (0, True)


def test_journals_are_read_without_torch() -> None:
    command = (
        "import linearizer_core.experiment.journal, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command], cwd=Path(__file__).parents[3]).returncode == 0


# The writer


WHO = TrialIdentity("demo", "t000-s0", "search", None, 0, "0" * 12, 0)


@pytest.mark.parametrize(
    "left", [b'{"event": "epo', b"\0" * 200, WHOLE[1][:-20] + b"\0" * 20, b"x" * 200_000, WHOLE[1][:-1]]
)
@pytest.mark.parametrize("whole", [b"", WHOLE[0]])
def test_what_a_crash_left_is_cut_before_the_next_line(tmp_path: Path, left: bytes, whole: bytes) -> None:
    path = tmp_path / "t000-s0.jsonl"
    path.write_bytes(whole + left)
    journal = Journal(path)
    journal.trial(WHO, {}, {})
    content = path.read_bytes()
    assert content.startswith(whole)
    assert content.count(b"\n") == len(whole.splitlines()) + 1
    state = state_of(path)  # and nothing is warned of
    assert [attempt.event["attempt"] for attempt in state.attempts] == [1, 2][: content.count(b"\n")]


@pytest.mark.parametrize("fault", ["full", "flush", "neither cut"])
def test_a_write_that_fails_half_way_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    path = tmp_path / "t000-s0.jsonl"
    journal = Journal(path)
    journal.trial(WHO, {}, {})
    before = path.read_bytes()
    write, calls = os.write, 0

    def full(file: int, line: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(file, line[:30])
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync" if fault == "flush" else "write", refuse if fault == "flush" else full)
        if fault == "neither cut":
            patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            journal.end("failed", 1, "lost")
    assert (path.read_bytes() == before) == (fault != "neither cut")
    journal.summary({})
    journal.end("finished", 2)
    assert path.read_bytes().startswith(before)
    assert [event["event"] for event in read(path)] == ["trial", "summary", "end"]
    assert state_of(path).state == "finished"


def test_a_line_is_one_write_and_what_ends_a_trial_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    write, flush = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda *arguments: called.append("write") or write(*arguments))
    monkeypatch.setattr(os, "fsync", lambda *arguments: called.append("flush") or flush(*arguments))
    journal = Journal(tmp_path / "t000-s0.jsonl")
    journal.trial(WHO, {"long": "x" * 100_000}, {})
    journal.epoch(1, {FD: 1.0})
    assert called == ["write", "write"]
    journal.summary({FD: 1.0})
    journal.end("finished", 1)
    assert called[2:] == ["write", "flush"] * 2


def test_on_a_full_disk_the_journal_stays_whole(tmp_path: Path) -> None:
    """A file that may not grow: what the system does then, and no patch."""
    path = tmp_path / "t000-s0.jsonl"
    command = f"""
import resource, signal
from pathlib import Path
from linearizer_core.experiment.journal import Journal, TrialIdentity
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(path)!r}))
journal.trial(TrialIdentity("demo", "t000-s0", "search", None, 0, "0", 0), {{}}, {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 40, -1))
try:
    journal.warning("x" * 100)
except OSError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    journal.end("failed", 0, str(error))
"""
    subprocess.run([sys.executable, "-c", command], cwd=Path(__file__).parents[3], check=True)
    state = state_of(path)
    assert (state.state, state.reason, state.warnings) == ("failed", f"[Errno 27] File too large: {str(path)!r}", {})
