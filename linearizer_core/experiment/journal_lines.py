"""One line of a journal: the kinds of events, and how bytes are read as one of them or rejected with a reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast, get_args

Kind = Literal["search", "control", "confirm", "reference"]
State = Literal["finished", "stopped", "failed", "interrupted"]

LARGEST = 2**63 - 1
"""Largest epoch, step or seed: frames store them in 64 bits."""
LATEST = 1e11
"""Upper limit of valid times in UNIX seconds, about three thousand years ahead."""

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, None: math.nan}
"""Spellings of values that are not finite, and the values."""


class TrialEvent(TypedDict):
    """A trial starts, or starts again."""

    event: Literal["trial"]
    time: float
    sweep: str
    trial: str
    kind: Kind
    label: str | None
    number: int
    config_hash: str
    seed: int | None
    overrides: dict[str, Any]
    attempt: int
    resumed_epoch: int
    config: dict[str, Any]
    provenance: dict[str, Any]
    reused_from: NotRequired[str | None]


class EpochEvent(TypedDict):
    """The metrics of one epoch."""

    event: Literal["epoch"]
    time: float
    epoch: int
    metrics: dict[str, float]


class CurveEvent(TypedDict):
    """A metric as a function of the number of solver steps."""

    event: Literal["curve"]
    time: float
    metric: str
    steps: list[int]
    values: list[float]


class SummaryEvent(TypedDict):
    """The final metrics."""

    event: Literal["summary"]
    time: float
    metrics: dict[str, float]


class WarningEvent(TypedDict):
    """Something did not go as configured."""

    event: Literal["warning"]
    time: float
    message: str


class SavedEvent(TypedDict):
    """The state after this epoch is saved: another attempt would continue from it."""

    event: Literal["saved"]
    time: float
    epoch: int


class ArtifactEvent(TypedDict):
    """A file or folder among the trial's artifacts is complete."""

    event: Literal["artifact"]
    time: float
    path: str


class EndEvent(TypedDict):
    """A trial's end; ``epoch`` is the last trained epoch."""

    event: Literal["end"]
    time: float
    state: State
    reason: str | None
    epoch: int


Event = TrialEvent | EpochEvent | CurveEvent | SummaryEvent | WarningEvent | SavedEvent | ArtifactEvent | EndEvent


@dataclass(frozen=True)
class BadLine:
    """Part of a journal that is not a complete event: its line number, and what is wrong with it."""

    path: Path
    number: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.number}: {self.problem}"


Check = Callable[[dict[str, Any]], None]

Decode = Callable[[bytes], Any]
"""Parses bytes as JSON; raises ``ValueError`` if they are not valid."""


def _decoded(line: bytes) -> Any:
    return json.loads(line.decode())


@dataclass(slots=True)
class LineReader:
    """Turns a journal's lines, given in order, into events. ``begun`` is whether a trial line has come before.

    ``decode`` may be a faster JSON parser than Python's; lines that it rejects are parsed by Python's.

    >>> reader = LineReader(Path("t000-s0.jsonl"), begun=True)
    >>> reader.read(b'{"event": "saved", "time": 1.0, "epoch": 3}')
    [{'event': 'saved', 'time': 1.0, 'epoch': 3}]
    >>> print(*reader.read(b'{"event": "saved", "time": 2.0}'))
    t000-s0.jsonl:2: the saved line lacks 'epoch'
    """

    path: Path
    begun: bool = False
    number: int = 0
    decode: Decode = _decoded
    _before: bytes = b""
    _attempts: set[bytes] = field(default_factory=set)
    _told: bool = False

    def read(self, line: bytes) -> list[Event | BadLine]:
        """The contents of a line: one event, nothing if it is blank, or what can be recovered if it is broken."""
        self.number += 1
        if line == self._before and line.strip():
            return [self._bad("repeats the line before it")]
        self._before = line
        try:
            value = self.decode(line)
            check = CHECKS[value["event"]]
        except (ValueError, RecursionError, TypeError, KeyError):
            return list(self._saved(line))
        return self._checked(value, check, line)

    def _checked(self, value: dict[str, Any], check: Check, line: bytes) -> list[Event | BadLine]:
        """The event, or what is wrong with it; of several events before any trial line, only the first is reported."""
        name = value["event"]
        try:
            time = value["time"]
            if type(time) not in (float, int) or not 0 <= time < LATEST:
                raise ValueError(f"time must be UNIX seconds, got {_short(time)}")
            check(value)
        except KeyError as error:
            return [self._bad(f"the {name} line lacks {error}")]
        except ValueError as error:
            return [self._bad(f"malformed {name} line: {error}")]
        if name == "trial":
            if line in self._attempts:
                return [self._bad("repeats the trial line of an attempt")]
            self._attempts.add(line)
            self.begun = True
        elif not self.begun:
            told, self._told = self._told, True
            problem = (
                f"a journal begins with a trial line, got {name!r}; events before the first trial line are ignored"
            )
            return [] if told else [self._bad(problem)]
        return [cast(Event, value)]

    def _saved(self, line: bytes) -> Iterator[Event | BadLine]:
        """The events recovered from a line that is not exactly one event, and what is wrong with the line."""
        stripped = line.strip(b"\0 \t\r\n").removeprefix(BYTE_ORDER_MARK)
        if not stripped and b"\0" not in line:
            return
        found: list[Event | BadLine] = []
        spans: list[tuple[int, int]] = []
        for value, begin, end in _objects(stripped):
            check = CHECKS.get(value["event"]) if type(value.get("event")) is str else None
            if check is not None:
                found += self._checked(value, check, stripped[begin:end])
                spans.append((begin, end))
        if b"\0" in line:
            yield self._bad("contains NUL bytes, as a power cut during a write leaves them")
        elif spans != [(0, len(stripped))]:
            yield self._bad(_wrong(stripped, len(spans)))
        yield from found

    def _bad(self, problem: str) -> BadLine:
        return BadLine(self.path, self.number, problem)


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BEGINNING = re.compile(r'\{\s*"event"\s*:')
"""The beginning of an event; within a JSON string the quotes would be escaped."""


def _objects(line: bytes) -> Iterator[tuple[dict[str, Any], int, int]]:
    """The JSON objects in a line that begin like events, with their start and end in its bytes."""
    decoder = json.JSONDecoder()
    # One byte per character, so that positions in the text are positions in the bytes.
    text, end = line.decode("latin-1"), 0
    for begin in (0, *(match.start() for match in BEGINNING.finditer(text))):
        if begin < end:
            continue
        try:
            _, stop = decoder.raw_decode(text, begin)
            value = json.loads(line[begin:stop].decode())
        except (ValueError, RecursionError):
            continue
        if type(value) is dict:
            end = stop
            yield value, begin, stop


def _wrong(line: bytes, events: int) -> str:
    """What is wrong with a line that is not one event, given the number of events recovered from it."""
    if events > 1:
        return f"{events} events on one line"
    if events:
        return f"contains something besides an event: {_text(line)}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if type(value) is dict and type(value.get("event")) is str:
        return f"unknown event {_short(value['event'])}"
    return f"is not a JSON object with an event: {_text(line)}"


def _text(line: bytes) -> str:
    return line[:80].decode(errors="replace")


def _short(value: Any) -> str:
    return repr(value)[:80]


# Checks of each event's fields. Missing fields that readers can do without are filled in. A missing required field
# raises ``KeyError``, an invalid one ``ValueError``.


def _check_trial(event: dict[str, Any]) -> None:
    for name in ("sweep", "trial", "config_hash"):
        _need(type(event[name]) is str, name, "text", event[name])
    kinds = get_args(Kind)
    if event["kind"] not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {_short(event['kind'])}")
    for name in ("number", "attempt"):
        _whole(name, event[name])
    if event["seed"] is not None:
        _whole("seed", event["seed"], -LARGEST)
    _whole("resumed_epoch", event.setdefault("resumed_epoch", 0))
    for name in ("label", "reused_from"):
        _need(event.get(name) is None or type(event[name]) is str, name, "text", event.get(name))
    event.setdefault("label", None)
    for name in ("overrides", "config", "provenance"):
        _need(type(event.setdefault(name, {})) is dict, name, "a mapping", event[name])


FLOATS = {float}


def _check_epoch(event: dict[str, Any]) -> None:
    epoch, metrics = event["epoch"], event["metrics"]
    # Most lines are epochs, and most values floats: one call fewer per line makes reading a tenth faster.
    if type(epoch) is not int or not 0 <= epoch <= LARGEST:
        _whole("epoch", epoch)
    if type(metrics) is not dict or set(map(type, metrics.values())) != FLOATS:
        _check_metrics(event)


def _check_metrics(event: dict[str, Any]) -> None:
    metrics = event["metrics"]
    _need(type(metrics) is dict, "metrics", "a mapping", metrics)
    if set(map(type, metrics.values())) != FLOATS:
        event["metrics"] = {name: _number(name, value) for name, value in metrics.items()}


def _check_curve(event: dict[str, Any]) -> None:
    _need(type(event["metric"]) is str, "metric", "text", event["metric"])
    steps, values = event["steps"], event["values"]
    for name in ("steps", "values"):
        _need(type(event[name]) is list, name, "a list", event[name])
    for step in steps:
        _whole("steps", step)
    if set(map(type, values)) != FLOATS:
        event["values"] = [_number("values", value) for value in values]
    if len(steps) != len(values):
        raise ValueError(f"{len(steps)} steps but {len(values)} values")


def _check_warning(event: dict[str, Any]) -> None:
    _need(type(event["message"]) is str, "message", "text", event["message"])


def _check_saved(event: dict[str, Any]) -> None:
    _whole("epoch", event["epoch"])


def _check_artifact(event: dict[str, Any]) -> None:
    _need(type(event["path"]) is str, "path", "text", event["path"])


def _check_end(event: dict[str, Any]) -> None:
    states = get_args(State)
    if event["state"] not in states:
        raise ValueError(f"state must be one of {', '.join(states)}, got {_short(event['state'])}")
    reason = event.setdefault("reason", None)
    _need(reason is None or type(reason) is str, "reason", "text", reason)
    _whole("epoch", event["epoch"])


CHECKS: Mapping[str, Check] = {
    "trial": _check_trial,
    "epoch": _check_epoch,
    "curve": _check_curve,
    "summary": _check_metrics,
    "warning": _check_warning,
    "saved": _check_saved,
    "artifact": _check_artifact,
    "end": _check_end,
}


def _need(right: bool, name: str, what: str, value: Any) -> None:
    if not right:
        raise ValueError(f"{name} must be {what}, got {_short(value)}")


def _whole(name: str, value: Any, least: int = 0) -> None:
    if type(value) is not int or not least <= value <= LARGEST:
        raise ValueError(f"{name} must be a whole number, got {_short(value)}")


def _number(name: str, value: Any) -> float:
    """A number as a float; strings that spell non-finite values are converted."""
    if type(value) is float or (type(value) is int and abs(value) <= LARGEST):
        return value
    if value is None or (type(value) is str and value in NOT_FINITE):
        return NOT_FINITE[value]
    raise ValueError(f"{name} must be a number, got {_short(value)}")
