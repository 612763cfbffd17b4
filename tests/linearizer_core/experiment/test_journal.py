"""Journals: what is written is read, whatever happened in between."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from linearizer_core.experiment.evaluation import Curve
from linearizer_core.experiment.journal import Journal, TrialIdentity, TrialState, committed, fold, read, state_of

FD = "quality/classifier_fd_collapsed"
WHO = TrialIdentity("demo", "t003-s1", "search", None, 3, "0123456789ab", 1, {"train.lr": 0.1})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "t003-s1.jsonl"


@pytest.fixture
def journal(path: Path) -> Journal:
    """A journal whose trial has started."""
    made = Journal(path)
    made.trial(WHO, {"train": {"lr": 0.1}}, {"git": {"commit": None}})
    return made


def events(path: Path) -> list[dict[str, object]]:
    """The events without their times, which are checked to be UNIX seconds."""
    found = list(read(path))
    assert all(1.6e9 < event["time"] < 1e10 for event in found)
    return [{name: value for name, value in event.items() if name != "time"} for event in found]


def test_every_event_has_the_fields_of_the_record(journal: Journal, path: Path) -> None:
    journal.epoch(1, {"train/loss": 2.0, FD: 1.5})
    journal.curve("nfe/swd", Curve([1, 10], [0.5, 0.25]))
    journal.summary({FD: 1.0, "cost/params": 12.0})
    journal.warning("the disk is full")
    journal.artifact("checkpoint")
    journal.end("finished", 1)
    assert events(path) == [
        {
            "event": "trial", "sweep": "demo", "trial": "t003-s1", "kind": "search", "label": None, "number": 3,
            "config_hash": "0123456789ab", "seed": 1, "overrides": {"train.lr": 0.1}, "attempt": 1,
            "resumed_epoch": 0, "config": {"train": {"lr": 0.1}}, "provenance": {"git": {"commit": None}},
        },
        {"event": "epoch", "epoch": 1, "metrics": {"train/loss": 2.0, FD: 1.5}},
        {"event": "curve", "metric": "nfe/swd", "steps": [1, 10], "values": [0.5, 0.25]},
        {"event": "summary", "metrics": {FD: 1.0, "cost/params": 12.0}},
        {"event": "warning", "message": "the disk is full"},
        {"event": "artifact", "path": "checkpoint"},
        {"event": "end", "state": "finished", "reason": None, "epoch": 1},
    ]  # fmt: skip


def test_without_a_path_nothing_is_kept(tmp_path: Path) -> None:
    journal = Journal(None)
    journal.trial(TrialIdentity("demo", "t000-s0", "search", None, 0, "0", 0), {}, {})
    journal.end("finished", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_has_not_started_has_no_events(path: Path) -> None:
    assert list(read(path)) == []
    assert (state_of(path).state, state_of(path).epoch, state_of(path).metrics) == (None, 0, {})


def test_another_process_reads_each_line_as_soon_as_it_is_written(journal: Journal, path: Path) -> None:
    for epoch in (1, 2):
        journal.epoch(epoch, {"train/loss": 1.0})
        command = [sys.executable, "-c", f"print(open({str(path)!r}).read(), end='')"]
        seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert seen.endswith("\n")
        assert json.loads(seen.splitlines()[-1])["epoch"] == epoch


@pytest.mark.parametrize(
    "half", ['{"event": "epoch", "epo', '{"event": "epoch", "epoch": 2, "metrics": {}}', '{"a": "\u00e9']
)
def test_a_half_written_last_line_is_ignored_and_then_cut(journal: Journal, path: Path, half: str) -> None:
    journal.epoch(1, {FD: 3.0})
    whole = path.read_bytes()
    path.write_bytes(whole + half.encode()[: -1 if half.endswith("\u00e9") else None])
    assert [event["event"] for event in read(path)] == ["trial", "epoch"]
    Journal(path).end("failed", 1, "died")
    assert path.read_bytes().startswith(whole)
    assert [event["event"] for event in read(path)] == ["trial", "epoch", "end"]


def test_only_a_half_line_is_no_event(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"event": "tri')
    assert list(read(path)) == []
    Journal(path).trial(WHO, {}, {})
    assert [event["attempt"] for event in read(path)] == [1]


def test_values_that_are_not_finite_are_strings_in_the_file_and_numbers_in_the_outcome(
    journal: Journal, path: Path
) -> None:
    journal.epoch(1, {FD: math.nan, "quality/swd_collapsed": -math.inf})
    journal.curve("nfe/swd", Curve([1], [math.inf]))
    text = path.read_text()
    assert f'"metrics": {{"{FD}": "NaN", "quality/swd_collapsed": "-Infinity"}}' in text
    assert '"values": ["Infinity"]' in text
    metrics = state_of(path).metrics
    assert math.isnan(metrics[FD])
    assert metrics["quality/swd_collapsed"] == -math.inf


def test_names_are_kept_in_utf8(path: Path) -> None:
    Journal(path).trial(TrialIdentity("demo", "c000-s0", "control", "g = identité\n", 0, "0", 0), {}, {})
    assert "identité\\n" in path.read_text(encoding="utf-8")
    assert next(read(path))["label"] == "g = identité\n"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("finished", None),
        ("stopped", "asha: not among the best at epoch 2"),
        ("failed", "diverged"),
        ("interrupted", None),
    ],
)
def test_the_outcome_has_the_end(journal: Journal, path: Path, state: str, reason: str | None) -> None:
    journal.epoch(1, {"train/loss": 1.0, FD: 3.0})
    journal.epoch(2, {"train/loss": 1.0, FD: 2.0})
    journal.epoch(3, {"train/loss": 1.0})
    if state == "finished":
        journal.summary({})
    journal.end(state, 3, reason)  # type: ignore[arg-type]
    found = state_of(path)
    assert (found.state, found.reason, found.epoch) == (state, reason, 3)
    assert found.metrics == {FD: 2.0}
    assert found.rungs == {1: {FD: 3.0}, 2: {FD: 2.0}}


def test_a_trial_whose_end_scalars_were_lost_has_not_finished(journal: Journal, path: Path) -> None:
    epochs(journal, 1, 2)
    journal.end("finished", 2)
    for found in (state_of(path), in_pieces(path)):
        assert (found.state, found.reason) == ("interrupted", "its journal has no final metrics")
    journal.trial(WHO, {}, {}, resumed_epoch=0)
    journal.summary({FD: 0.5})
    journal.end("finished", 2)
    for found in (state_of(path), in_pieces(path)):
        assert (found.state, found.metrics) == ("finished", {FD: 0.5})


def test_the_end_scalars_go_before_those_of_the_last_evaluated_epoch(journal: Journal, path: Path) -> None:
    journal.epoch(1, {FD: 3.0, "quality/swd_collapsed": 0.5})
    journal.epoch(2, {"train/loss": 1.0})
    journal.summary({FD: 1.0, "linearity/roundtrip": 0.25})
    journal.end("finished", 2)
    assert state_of(path).metrics == {FD: 1.0, "quality/swd_collapsed": 0.5, "linearity/roundtrip": 0.25}


def test_the_last_line_wins(journal: Journal, path: Path) -> None:
    journal.summary({FD: 1.0})
    journal.summary({FD: 2.0})
    journal.end("failed", 1, "first")
    journal.end("finished", 2)
    found = state_of(path)
    assert (found.metrics, found.state, found.reason, found.epoch) == ({FD: 2.0}, "finished", None, 2)


@pytest.mark.parametrize(
    ("resumed", "rungs"),
    [
        (0, {1: {FD: 7.0}}),
        (2, {1: {FD: 3.0}, 2: {FD: 2.0}}),
    ],
)
def test_a_retried_trial_supersedes_the_epochs_after_its_checkpoint(
    journal: Journal, path: Path, resumed: int, rungs: dict[int, dict[str, float]]
) -> None:
    for epoch, value in ((1, 3.0), (2, 2.0), (3, 1.0)):
        journal.epoch(epoch, {FD: value})
    journal.end("interrupted", 3)
    again = Journal(path)
    again.trial(WHO, {}, {}, resumed_epoch=resumed)
    assert [event["attempt"] for event in read(path) if event["event"] == "trial"] == [1, 2]
    assert state_of(path).state is None
    if resumed == 0:
        again.epoch(1, {FD: 7.0})
    found = state_of(path)
    assert found.rungs == rungs
    assert found.metrics == {FD: rungs[max(rungs)][FD]}
    assert found.epoch == max(rungs)


def test_a_retried_trial_supersedes_the_end_scalars(journal: Journal, path: Path) -> None:
    journal.epoch(1, {FD: 3.0})
    journal.summary({FD: 1.0})  # and the process died before the trial's end
    again = Journal(path)
    again.trial(WHO, {}, {}, resumed_epoch=0)
    again.end("failed", 0, "diverged")
    assert state_of(path).metrics == {}


def epochs(journal: Journal, *numbers: int) -> None:
    """Epochs that were evaluated, each with its number for a value."""
    for number in numbers:
        journal.epoch(number, {FD: float(number)})


def in_pieces(path: Path) -> TrialState:
    """What a journal comes to that is read by single lines, as far as nothing can take them back."""
    state = TrialState()
    for piece in committed(path, 0, size=1):
        fold(piece.events, state)
    return state


def test_a_stopped_trial_that_goes_on_from_a_later_epoch_keeps_those_before(journal: Journal, path: Path) -> None:
    epochs(journal, 1, 2, 3, 4, 5)
    journal.end("stopped", 3)
    assert (list(state_of(path).epochs), state_of(path).metrics) == ([1, 2, 3], {FD: 3.0})
    journal.trial(WHO, {}, {}, resumed_epoch=5)
    epochs(journal, 6)
    journal.summary({})
    journal.end("finished", 6)
    for found in (state_of(path), in_pieces(path)):
        assert (found.state, found.epoch, list(found.epochs)) == ("finished", 6, [1, 2, 3, 4, 5, 6])
        assert found.metrics == {FD: 6.0}


@pytest.mark.parametrize("late", [False, True])
def test_what_comes_after_the_epoch_of_a_stop_does_not_count_before_or_behind_its_line(
    journal: Journal, path: Path, late: bool
) -> None:
    """A worker that is still running writes on behind the line that says that its trial was stopped."""
    epochs(journal, 1, 2, 3)
    if late:
        journal.end("stopped", 3, "rung 3")
    epochs(journal, 4, 5)
    journal.curve("nfe/swd", Curve([1], [0.5]))
    journal.artifact("curves.csv")
    journal.summary({FD: 0.5})
    if not late:
        journal.end("stopped", 3, "rung 3")
    for found in (state_of(path), in_pieces(path)):
        assert (found.state, found.reason, found.epoch) == ("stopped", "rung 3", 3)
        assert (list(found.epochs), found.metrics) == ([1, 2, 3], {FD: 3.0})
        assert (found.summary, found.curves, found.artifacts) == (None, {}, {})


def test_the_end_scalars_of_a_stopped_trial_are_not_those_of_its_next_attempt(journal: Journal, path: Path) -> None:
    epochs(journal, 1, 2, 3)
    journal.end("stopped", 2)
    journal.summary({FD: 0.5})
    journal.trial(WHO, {}, {}, resumed_epoch=3)
    for found in (state_of(path), in_pieces(path)):
        assert (found.state, found.epoch, found.metrics, found.summary) == (None, 3, {FD: 3.0}, None)
