"""A trial's journal: one JSON object per line, flushed as it is written (docs/record.md)."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from linearizer_core.experiment.configuration import EXTENSIBLE
from linearizer_core.experiment.journal_lines import (
    ArtifactEvent,
    BadLine,
    CurveEvent,
    EndEvent,
    EpochEvent,
    Event,
    Kind,
    LineReader,
    State,
    SummaryEvent,
    TrialEvent,
)
from linearizer_core.experiment.nested import flatten
from linearizer_core.files import named

if TYPE_CHECKING:
    from linearizer_core.experiment.evaluation import Curve

ENDED: tuple[State, ...] = ("finished", "stopped", "failed")
"""Final states: a relaunched sweep does not repeat a trial in one of these."""


@dataclass(frozen=True)
class TrialIdentity:
    """A trial's identity. ``trial`` names its files, ``number`` counts the configurations of its kind."""

    sweep: str
    trial: str
    kind: Kind
    label: str | None
    number: int
    config_hash: str
    seed: int | None
    overrides: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """Appends a trial's events. Each line is handed to the operating system, and events that end a trial are fsynced,
    before the call returns.

    If a crash left an incomplete last line, it is removed before the next line is written. Without a path nothing is
    read or written: only the leader of several workers keeps a journal.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def trial(
        self,
        identity: TrialIdentity,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any],
        resumed_epoch: int = 0,
    ) -> None:
        """Record that the trial starts or starts again."""
        if self.path is None:
            return
        attempts = fold(lines(self.path, _content(self.path))).attempts
        attempt = 1 + max((each.event["attempt"] for each in attempts), default=0)
        self._write(
            "trial",
            **asdict(identity),
            attempt=attempt,
            resumed_epoch=resumed_epoch,
            config=config,
            provenance=provenance,
        )

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one epoch."""
        self._write("epoch", epoch=epoch, metrics=metrics)

    def curve(self, metric: str, curve: Curve) -> None:
        """Record a metric as a function of the number of solver steps."""
        self._write("curve", metric=metric, steps=curve.steps, values=curve.values)

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Record the final metrics."""
        self._write("summary", metrics=metrics)

    def warning(self, message: str) -> None:
        """Record that something did not go as configured; the trial continues without it."""
        self._write("warning", message=message)

    def saved(self, epoch: int) -> None:
        """Record that the state after this epoch is saved: another attempt would continue from it."""
        self._write("saved", epoch=epoch)

    def artifact(self, path: str) -> None:
        """Record that a file or folder among the trial's artifacts is complete."""
        self._write("artifact", path=path)

    def end(self, state: State, epoch: int, reason: str | None = None) -> None:
        """Record the trial's end."""
        self._write("end", state=state, reason=reason, epoch=epoch)

    def _write(self, event: str, **values: Any) -> None:
        if self.path is None:
            return
        line = as_line({"event": event, "time": time.time(), **values})
        append(self.path, line.encode(), event in FLUSHED)


def as_line(event: Mapping[str, Any]) -> str:
    """An event as a line of a journal."""
    return json.dumps(as_json(event), ensure_ascii=False) + "\n"


FLUSHED = ("summary", "end")
"""Events that are fsynced when written: without them a trial would run again."""

BLOCK = 1 << 16
"""Number of bytes read at a time when searching for the end of the last complete line."""


def append(path: Path, line: bytes, flush: bool) -> None:
    """Append a line after the last complete line, all of it or nothing; with ``flush``, fsync it.

    Raises ``OSError`` naming the file if it cannot be written. A partly written line is then removed, by the next call
    at the latest.
    """
    with named(path):
        _append(path, line, flush)


def _append(path: Path, line: bytes, flush: bool) -> None:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = _whole_lines(file)
        try:
            written = os.write(file, line)
            while written < len(line):  # the disk is nearly full, or the call was interrupted: the next one tells which
                written += os.write(file, line[written:])
            if flush:
                os.fsync(file)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def _whole_lines(file: int) -> int:
    """The length in bytes of an open file's complete lines; a partial line after them, left by a crash, is removed."""
    size = end = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == b"\n":
        return size
    whole = 0
    while end and not whole:
        begin = max(0, end - BLOCK)
        place = os.pread(file, end - begin, begin).rfind(b"\n")
        whole = begin + place + 1 if place >= 0 else 0
        end = begin
    os.ftruncate(file, whole)
    return whole


def as_json(value: Any) -> Any:
    """Nested values in a form that JSON can hold. NaN and infinities, which it cannot, become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return value


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The complete events of a journal as written; none if there is no file."""
    for event in lines(path, _content(path)):
        if not isinstance(event, BadLine):
            yield cast(dict[str, Any], event)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


UNEVALUATED = ("train/", "system/")
"""Prefixes of the metrics that every epoch records, whether or not the model is evaluated in it."""


NO_SUMMARY = "its journal has no final metrics"
"""Why a finished trial whose final metrics were lost counts as interrupted: another attempt computes them again."""

BY_HAND = "stopped by hand"
"""The reason recorded when a person, rather than the search, stopped a trial."""

DIVERGED = "diverged: "
"""Prefix of the reason of a trial that failed because its numbers diverged: a retry would diverge again."""


@dataclass(frozen=True)
class Outcome:
    """A trial's result as a search needs it: its state (None while it runs), last epoch and latest metrics.

    ``diverged`` distinguishes a trial whose numbers diverged from one that died or raised.
    """

    state: State | None
    epoch: int
    metrics: dict[str, float]
    diverged: bool = False


class JournalWarning(UserWarning):
    """A line of a journal could not be read; its event is ignored, all others count."""


@dataclass
class Attempt:
    """One attempt at a trial: its ``trial`` line, and the time of its ``last`` event in UNIX seconds.

    ``set_back`` is the number of seconds by which the clock went back between its events.
    """

    event: TrialEvent
    last: float
    set_back: float = 0.0

    @property
    def worked(self) -> float:
        """Seconds from the attempt's start to its last event, corrected for a clock that was set back."""
        return max(0.0, self.last - self.event["time"] + self.set_back)


@dataclass
class Given:
    """Results of all attempts at a trial that the current attempt builds on."""

    epochs: dict[int, EpochEvent] = field(default_factory=dict)
    curves: dict[str, CurveEvent] = field(default_factory=dict)
    artifacts: dict[str, ArtifactEvent] = field(default_factory=dict)
    summary: SummaryEvent | None = None


@dataclass
class TrialState:
    """A trial's state according to the events of its journal so far."""

    begun: bool = False
    """Whether any attempt has begun; events before the first are ignored."""
    attempts: list[Attempt] = field(default_factory=list)
    """All attempts; the last one counts."""
    state: State | None = None
    """How the trial ended; None while it runs, or if its process died."""
    reason: str | None = None
    """Why it ended in this state."""
    epoch: int = 0
    """The last trained epoch."""
    saved: int = 0
    """The epoch from which another attempt would continue."""
    given: Given = field(default_factory=Given)
    """All results, counted or not: those after the epoch at which a trial was stopped are kept here but not counted."""
    trained: dict[int, EpochEvent] = field(default_factory=dict)
    """Each epoch as first trained, for readers that have already shown it to somebody."""
    end: EndEvent | None = None
    """The end of the last attempt."""
    last_end: EndEvent | None = None
    """The most recent end, even if another attempt has begun since."""
    warnings: dict[str, float] = field(default_factory=dict)
    """One-line messages about what did not go as configured, with the time of the first occurrence in UNIX seconds."""
    damage: list[BadLine] = field(default_factory=list)
    """The lines of the journal that could not be read."""

    @property
    def epochs(self) -> dict[int, EpochEvent]:
        """Each epoch as trained by the attempt that counts; epochs after an attempt's ``resumed_epoch`` are dropped.

        A trial may train on between the decision to stop it and the stop itself. Epochs after the decision do not
        count, unless another attempt continues from there.
        """
        if self.state != "stopped":
            return self.given.epochs
        return {epoch: event for epoch, event in self.given.epochs.items() if epoch <= self.epoch}

    @property
    def curves(self) -> dict[str, CurveEvent]:
        """The last attempt's curves by metric; none if the trial was stopped."""
        return {} if self.state == "stopped" else self.given.curves

    @property
    def artifacts(self) -> dict[str, ArtifactEvent]:
        """The last attempt's artifacts by path; none if the trial was stopped."""
        return {} if self.state == "stopped" else self.given.artifacts

    @property
    def summary(self) -> SummaryEvent | None:
        """The last attempt's final metrics; None if the trial was stopped."""
        return None if self.state == "stopped" else self.given.summary

    @property
    def first(self) -> TrialEvent | None:
        """The ``trial`` line of the first attempt; None if there is none."""
        return self.attempts[0].event if self.attempts else None

    @property
    def worked(self) -> float:
        """Seconds spent in attempts, without the time between them."""
        return sum(attempt.worked for attempt in self.attempts)

    @property
    def odd_times(self) -> bool:
        """Whether its first line and its end do not give its duration: it was resumed, or a clock was set back.

        False for a reused trial: it has the times of the other trial, and took no time itself.
        """
        again = len(self.attempts) > 1 or any(attempt.set_back for attempt in self.attempts)
        return again and not self.reused_from

    @property
    def head(self) -> TrialEvent | None:
        """The ``trial`` line of the last attempt: its identity, configuration and provenance."""
        return self.attempts[-1].event if self.attempts else None

    @property
    def identity(self) -> TrialIdentity | None:
        """The trial's identity, from its last attempt."""
        head = self.head
        return None if head is None else TrialIdentity(*(head[name] for name in IDENTITY))  # type: ignore[literal-required]

    @property
    def reused_from(self) -> str | None:
        """The identical trial, as ``SWEEP/TRIAL``, whose result was reused."""
        return self.head.get("reused_from") if self.head else None

    @property
    def rungs(self) -> dict[int, dict[str, float]]:
        """The metrics of every evaluated epoch, without those that every epoch has."""
        rungs = {}
        for epoch, event in self.epochs.items():
            measured = {k: float(v) for k, v in event["metrics"].items() if not k.startswith(UNEVALUATED)}
            if measured:
                rungs[epoch] = measured
        return rungs

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last evaluated epoch, overridden by the final metrics."""
        rungs = self.rungs
        summary = self.summary["metrics"] if self.summary else {}
        return {**(rungs[max(rungs)] if rungs else {}), **{key: float(value) for key, value in summary.items()}}

    @property
    def by_hand(self) -> bool:
        """Whether a person stopped it: its state is kept, and it can be tried again."""
        return self.state == "stopped" and self.reason == BY_HAND

    @property
    def extensible(self) -> bool:
        """Whether it has finished and can be trained further: its state is kept."""
        head = self.head
        return self.state == "finished" and head is not None and _schedule(head) in EXTENSIBLE

    @property
    def outcome(self) -> Outcome:
        """The trial's result as a search needs it."""
        return Outcome(self.state, self.epoch, self.metrics, self.diverged)

    @property
    def diverged(self) -> bool:
        """Whether its numbers diverged, as they would again; a trial that died or raised may succeed next time."""
        return self.state == "failed" and (self.reason or "").startswith(DIVERGED)


def _schedule(head: TrialEvent) -> Any:
    return flatten(head["config"]).get("train.schedule")


IDENTITY = tuple(TrialIdentity.__dataclass_fields__)


def fold(events: Iterable[Event | BadLine], state: TrialState | None = None) -> TrialState:
    """Fold the events of a journal into a trial's state; the only code that interprets them.

    To read a journal in pieces, pass the ``state`` of the earlier pieces, which is updated in place. To read one piece
    alone, pass ``TrialState(begun=True)``.

    >>> events = [{"event": "epoch", "time": 1.0, "epoch": 1, "metrics": {"quality/swd_collapsed": 0.5}}]
    >>> fold(events, TrialState(begun=True)).metrics
    {'quality/swd_collapsed': 0.5}
    """
    state = TrialState() if state is None else state
    last: float | None = state.attempts[-1].last if state.attempts else None
    for event in events:
        if isinstance(event, BadLine):
            state.damage.append(event)
            continue
        if event["event"] == "epoch":
            if state.state != "stopped":
                state.epoch = event["epoch"]
            state.given.epochs[event["epoch"]] = event
            state.trained.setdefault(event["epoch"], event)
        elif event["event"] == "trial":
            _heard(state, last)
            _begin(state, event)
            last = None  # the time between two attempts is not counted as work
        elif event["event"] == "curve":
            state.given.curves[event["metric"]] = event
        elif event["event"] == "summary":
            state.given.summary = event
        elif event["event"] == "saved":
            state.saved = event["epoch"]
        elif event["event"] == "artifact":
            state.given.artifacts[event["path"]] = event
        elif event["event"] == "warning":
            state.warnings.setdefault(" ".join(event["message"].split()), event["time"])
        else:
            if event["state"] == "finished" and state.given.summary is None:
                # Metrics measured during training are not final metrics, though they have the same names.
                event = {**event, "state": "interrupted", "reason": NO_SUMMARY}
            state.end = state.last_end = event
            state.state, state.reason, state.epoch = event["state"], event["reason"], event["epoch"]
        if last is not None and event["time"] < last and state.attempts:
            state.attempts[-1].set_back += last - event["time"]
        last = event["time"]
    _heard(state, last)
    return state


def _heard(state: TrialState, last: float | None) -> None:
    """Set the time at which the current attempt was last heard of."""
    if state.attempts and last is not None:
        state.attempts[-1].last = last


def _begin(state: TrialState, event: TrialEvent) -> None:
    """Begin another attempt: drop the previous one's results after its checkpoint, and its end."""
    state.begun = True
    state.attempts.append(Attempt(event, event["time"]))
    state.epoch = state.saved = event["resumed_epoch"]
    state.given = Given({epoch: kept for epoch, kept in state.given.epochs.items() if epoch <= state.epoch})
    state.end = state.state = state.reason = None


def lines(path: Path, content: bytes, reader: LineReader | None = None) -> list[Event | BadLine]:
    """The events in a journal's bytes, and a ``BadLine`` for all else, such as an unfinished last line."""
    reader = reader or LineReader(path)
    *whole, rest = content.split(b"\n")
    found = [event for line in whole for event in reader.read(line)]
    if rest:
        problem = "NUL bytes, as a power cut leaves them" if b"\0" in rest else "is cut off, or being written"
        found.append(BadLine(path, reader.number + 1, problem))
    return found


def state_of(path: Path) -> TrialState:
    """A trial's state according to its journal; the empty state if there is no file. Warns about unreadable lines.

    Raises ``OSError`` if the file cannot be read at all.
    """
    state = fold(lines(path, _content(path)))
    warn(state.damage)
    return state


def head_of(path: Path) -> TrialEvent | None:
    """A journal's first line, without reading further; None if it is unreadable or not a ``trial`` line."""
    with path.open("rb") as file:
        for event in LineReader(path).read(file.readline()):
            if not isinstance(event, BadLine) and event["event"] == "trial":
                return event
    return None


def warn(damage: Iterable[BadLine]) -> None:
    """Issue a ``JournalWarning`` for each line that could not be read."""
    for line in damage:
        warnings.warn(str(line), JournalWarning, stacklevel=3)


RESULTS = ("curve", "summary", "artifact")
"""Events recorded by a trial's last evaluation."""

PIECE = 1 << 20
"""Size in bytes of the pieces in which a journal is processed."""


@dataclass(frozen=True)
class Piece:
    """Consecutive events, and the byte offset in the journal at which the next one begins."""

    events: list[Event | BadLine]
    end: int

    @property
    def whole(self) -> int:
        """The number of readable events."""
        return sum(not isinstance(event, BadLine) for event in self.events)


def committed(path: Path, offset: int, size: int = PIECE) -> Iterator[Piece]:
    """The events of a journal from ``offset`` on that are final, in pieces of about ``size`` bytes.

    Results are held back until the end event that follows them: if the trial dies in between, the next attempt records
    them again, and a reader given both would keep both. The earlier ones are left out. A line that is still being
    written is held back too. If no line begins at ``offset``, because the journal was replaced, it is read from the
    beginning.
    """
    events: list[Event | BadLine] = []
    waiting: list[Event | BadLine] = []
    before: int | None = None
    with path.open("rb") as file:
        start = begin = end = place = _line_at(file, offset)
        reader = LineReader(path, begun=start > 0)
        for line in file:
            if not line.endswith(b"\n"):
                break
            place += len(line)
            for event in reader.read(line):
                if isinstance(event, BadLine):
                    before = _lines_before(path, start) if before is None else before
                    event = replace(event, number=before + event.number)
                elif event["event"] in ("end", "trial"):
                    events += waiting if event["event"] == "end" else [held for held in waiting if not _result(held)]
                    waiting = []
                (waiting if waiting or _result(event) else events).append(event)
            if not waiting:
                end = place
                if end - begin >= size:
                    yield Piece(events, end)
                    events, begin = [], end
    if events:
        yield Piece(events, end)


def _result(event: Event | BadLine) -> bool:
    return not isinstance(event, BadLine) and event["event"] in RESULTS


def _line_at(file: BinaryIO, offset: int) -> int:
    """Seek to ``offset`` if a line begins there, otherwise to the beginning; returns the position."""
    file.seek(max(0, offset - 1))
    if offset and file.read(1) == b"\n":
        return offset
    return file.seek(0)


def _lines_before(path: Path, offset: int) -> int:
    """The number of lines before an offset in a file."""
    with path.open("rb") as file:
        return sum(file.read(min(BLOCK, offset - begin)).count(b"\n") for begin in range(0, offset, BLOCK))
