"""A trial's journal: one JSON object a line, flushed as it is written (docs/record.md)."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linearizer_core.errors import LinsweepError
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

if TYPE_CHECKING:
    from linearizer_core.experiment.evaluation import Curve

ENDED: tuple[State, ...] = ("finished", "stopped", "failed")
"""States that a trial stays in: a sweep that is launched again does not repeat it."""


@dataclass(frozen=True)
class TrialIdentity:
    """Who a trial is; ``trial`` names its files, ``number`` counts the configurations of its kind."""

    sweep: str
    trial: str
    kind: Kind
    label: str | None
    number: int
    config_hash: str
    seed: int | None
    overrides: Mapping[str, Any] = field(default_factory=dict)


class JournalError(LinsweepError, ValueError):
    """A journal that cannot be read."""


class Journal:
    """Appends a trial's events; every line is on its way to the disk when the call returns.

    Without a path nothing is read or written: of several workers only the one that leads keeps the journal.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_half_line(path)

    def trial(
        self,
        identity: TrialIdentity,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any],
        resumed_epoch: int = 0,
    ) -> None:
        """The trial starts, or starts again."""
        if self.path is None:
            return
        attempt = 1 + sum(1 for event in read(self.path) if event["event"] == "trial")
        self._write(
            "trial",
            **asdict(identity),
            attempt=attempt,
            resumed_epoch=resumed_epoch,
            config=config,
            provenance=provenance,
        )

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """What one epoch gave."""
        self._write("epoch", epoch=epoch, metrics=metrics)

    def curve(self, metric: str, curve: Curve) -> None:
        """A metric against the number of solver steps."""
        self._write("curve", metric=metric, steps=curve.steps, values=curve.values)

    def summary(self, metrics: Mapping[str, float]) -> None:
        """The end scalars."""
        self._write("summary", metrics=metrics)

    def warning(self, message: str) -> None:
        """Something did not go as configured, and the trial goes on without it."""
        self._write("warning", message=message)

    def saved(self, epoch: int) -> None:
        """Another attempt goes on after this epoch."""
        self._write("saved", epoch=epoch)

    def artifact(self, path: str) -> None:
        """A file, or folder, below the trial's artifacts is complete."""
        self._write("artifact", path=path)

    def end(self, state: State, epoch: int, reason: str | None = None) -> None:
        """The trial's end."""
        self._write("end", state=state, reason=reason, epoch=epoch)

    def _write(self, event: str, **values: Any) -> None:
        if self.path is None:
            return
        line = json.dumps(_finite({"event": event, "time": time.time(), **values}), ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _drop_half_line(path: Path) -> None:
    """Cut what a crash left of a last line, so that the next line does not continue it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal, none where there is no file; a half-written last line is left out.

    Raises ``JournalError`` naming the file for a line that is not one of a journal.
    """
    if path.exists():
        yield from parse(path.read_bytes(), path)


def parse(content: bytes, path: Path) -> Iterator[dict[str, Any]]:
    """The events in a journal's bytes, or in a part of them that starts with a line."""
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            yield json.loads(line)
        except ValueError as error:
            raise JournalError(f"{path}: a line is not JSON: {error}") from None


UNEVALUATED = ("train/", "system/")
"""What the metrics begin with that every epoch has, whether the model is evaluated then or not."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to: its state (None while it runs), why, its last epoch, and its latest metrics.

    ``begun`` is whether there is any attempt at it; ``saved`` is the epoch that another one would go on from,
    and ``reused`` whether it was taken over from an identical trial.
    """

    state: State | None
    reason: str | None
    epoch: int
    metrics: dict[str, float]
    rungs: dict[int, dict[str, float]]
    begun: bool = True
    saved: int = 0
    reused: bool = False


def outcome(path: Path) -> Outcome:
    """The outcome that a journal tells of.

    ``metrics`` holds the end scalars, or those of the last evaluated epoch where there are none; ``rungs`` the
    metrics of every evaluated epoch: what each epoch has is in neither.
    """
    state: State | None = None
    reason: str | None = None
    epoch = 0
    summary: dict[str, float] = {}
    rungs: dict[int, dict[str, float]] = {}
    begun, saved, reused = False, 0, False
    for event in read(path):
        match event["event"]:
            case "saved":
                saved = event["epoch"]
            case "trial":
                begun, saved, reused = True, event["resumed_epoch"], "reused_from" in event
                state, reason, epoch, summary = None, None, event["resumed_epoch"], {}
                rungs = {e: m for e, m in rungs.items() if e <= event["resumed_epoch"]}
            case "epoch":
                epoch = event["epoch"]
                measured = {k: float(v) for k, v in event["metrics"].items() if not k.startswith(UNEVALUATED)}
                if measured:
                    rungs[epoch] = measured
            case "summary":
                summary = {k: float(v) for k, v in event["metrics"].items()}
            case "end":
                state, reason, epoch = event["state"], event["reason"], event["epoch"]
    last = rungs[max(rungs)] if rungs else {}
    return Outcome(state, reason, epoch, {**last, **summary}, rungs, begun, saved, reused)


class JournalWarning(UserWarning):
    """A line of a journal could not be read: its event does not count, and all others do."""


@dataclass
class Attempt:
    """One attempt at a trial: its ``trial`` line, and when it was ``last`` heard of, UNIX seconds."""

    event: TrialEvent
    last: float

    @property
    def worked(self) -> float:
        """Seconds from its start to its last event; 0 where the clock was set back."""
        return max(0.0, self.last - self.event["time"])


@dataclass
class TrialState:
    """What a trial has come to, by the events of its journal so far."""

    begun: bool = False
    """Whether there is any attempt at it: what comes before the first does not count."""
    attempts: list[Attempt] = field(default_factory=list)
    """All attempts, the last one being that which counts."""
    state: State | None = None
    """How it ended; None while it runs, or where its process died."""
    reason: str | None = None
    """Why it ended so."""
    epoch: int = 0
    """The last epoch that was trained."""
    saved: int = 0
    """The epoch that another attempt would go on from."""
    epochs: dict[int, EpochEvent] = field(default_factory=dict)
    """Each epoch as the attempt trained it that counts: those after an attempt's ``resumed_epoch`` were lost to it."""
    trained: dict[int, EpochEvent] = field(default_factory=dict)
    """Each epoch as it was trained first, for who has shown that to somebody."""
    curves: dict[str, CurveEvent] = field(default_factory=dict)
    """The last attempt's curves by metric."""
    artifacts: dict[str, ArtifactEvent] = field(default_factory=dict)
    """The last attempt's artifacts by path."""
    summary: SummaryEvent | None = None
    """The last attempt's end scalars."""
    end: EndEvent | None = None
    """The last attempt's end."""
    last_end: EndEvent | None = None
    """The end that came last, also where another attempt has begun since."""
    warnings: dict[str, float] = field(default_factory=dict)
    """What did not go as configured, each in one line, and when it was said first, UNIX seconds."""
    damage: list[BadLine] = field(default_factory=list)
    """What of the journal could not be read."""

    @property
    def first(self) -> TrialEvent | None:
        """The ``trial`` line of the first attempt, None where there is none."""
        return self.attempts[0].event if self.attempts else None

    @property
    def head(self) -> TrialEvent | None:
        """The ``trial`` line of the last attempt: its identity, configuration and provenance."""
        return self.attempts[-1].event if self.attempts else None

    @property
    def identity(self) -> TrialIdentity | None:
        """Who the trial is, by its last attempt."""
        head = self.head
        return None if head is None else TrialIdentity(*(head[name] for name in IDENTITY))  # type: ignore[literal-required]

    @property
    def reused_from(self) -> str | None:
        """The identical trial, as ``SWEEP/TRIAL``, that it was taken over from."""
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
        """The end scalars, over the metrics of the last evaluated epoch."""
        rungs = self.rungs
        summary = self.summary["metrics"] if self.summary else {}
        return {**(rungs[max(rungs)] if rungs else {}), **{key: float(value) for key, value in summary.items()}}


IDENTITY = tuple(TrialIdentity.__dataclass_fields__)


def fold(events: Iterable[Event | BadLine], state: TrialState | None = None) -> TrialState:
    """What the events of a journal add up to; the only code that knows what they mean.

    Where a journal is read in pieces ``state`` is what the pieces before came to: it goes on from there, in place. Of a
    piece alone it is ``TrialState(begun=True)``.

    >>> events = [{"event": "epoch", "time": 1.0, "epoch": 1, "metrics": {"quality/swd_collapsed": 0.5}}]
    >>> fold(events, TrialState(begun=True)).metrics
    {'quality/swd_collapsed': 0.5}
    """
    state = TrialState() if state is None else state
    for event in events:
        if isinstance(event, BadLine):
            state.damage.append(event)
            continue
        if event["event"] == "epoch":
            state.epoch = event["epoch"]
            state.epochs[state.epoch] = event
            state.trained.setdefault(state.epoch, event)
        elif event["event"] == "trial":
            _begin(state, event)
        elif event["event"] == "curve":
            state.curves[event["metric"]] = event
        elif event["event"] == "summary":
            state.summary = event
        elif event["event"] == "saved":
            state.saved = event["epoch"]
        elif event["event"] == "artifact":
            state.artifacts[event["path"]] = event
        elif event["event"] == "warning":
            state.warnings.setdefault(" ".join(event["message"].split()), event["time"])
        else:
            state.end = state.last_end = event
            state.state, state.reason = event["state"], event["reason"]
            state.epoch = state.epoch if event["epoch"] is None else event["epoch"]
        if state.attempts:
            state.attempts[-1].last = event["time"]
    return state


def _begin(state: TrialState, event: TrialEvent) -> None:
    """Another attempt: what the one before did after its checkpoint is lost, and whatever it came to."""
    state.begun = True
    state.attempts.append(Attempt(event, event["time"]))
    state.epoch = state.saved = event["resumed_epoch"]
    state.epochs = {epoch: kept for epoch, kept in state.epochs.items() if epoch <= state.epoch}
    state.curves, state.artifacts, state.summary = {}, {}, None
    state.end = state.state = state.reason = None


def lines(path: Path, content: bytes, reader: LineReader | None = None) -> Iterator[Event | BadLine]:
    """The events in a journal's bytes, and what in them is none; a last line without an end is none either."""
    reader = reader or LineReader(path)
    *whole, rest = content.split(b"\n")
    for line in whole:
        yield from reader.read(line)
    if rest:
        problem = "NUL bytes, as a power cut leaves them" if b"\0" in rest else "is cut off, or being written"
        yield BadLine(path, len(whole) + 1, problem)


def state_of(path: Path) -> TrialState:
    """What a journal tells of its trial, nothing where there is no file; warns of every line that cannot be read.

    Raises ``OSError`` for a file that cannot be read at all.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return TrialState()
    state = fold(lines(path, content))
    warn(state.damage)
    return state


def warn(damage: Iterable[BadLine | str]) -> None:
    """Warn of what of a journal could not be read: a ``JournalWarning`` each."""
    for line in damage:
        warnings.warn(str(line), JournalWarning, stacklevel=3)
