"""Sweeps read from their folders: ``sweep.json`` and the journals of docs/record.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from analysis.record.cache import Cache, Stamp
from analysis.record.frames import MACHINE, Frames, Points, Series, Trial, build, latest
from analysis.record.sweep_info import KINDS, STATES, RecordError, SweepInfo
from linearizer_core.experiment.nested import flatten

REQUIRED = ("sweep", "trial", "kind", "number", "config_hash", "seed", "attempt")


def read_info(folder: Path) -> SweepInfo:
    """The sweep of a folder; raises ``RecordError`` naming its ``sweep.json`` where that cannot be read."""
    file = folder / "sweep.json"
    try:
        return SweepInfo.parse(file.read_bytes(), str(file))
    except OSError as error:
        hint = "a sweep's folder is <storage>/<sweep>"
        raise RecordError(f"{file}: cannot be read ({error.strerror}); {hint}") from None


def read_frames(folder: Path, sweep: SweepInfo) -> Frames:
    """The frames of a sweep's journals; those that have not changed since they were last read come from the cache.

    Raises ``RecordError`` naming the file, and the line where a line other than a half-written last one is malformed.
    """
    journals = folder / "journal"
    if not journals.is_dir():
        raise RecordError(f"{journals}: no such folder; has the sweep started?")
    cache = Cache.of(folder)
    numbers = {key: number for number, key in enumerate(cache.metrics)}
    trials: dict[str, Trial | None] = {}
    stamps: dict[str, Stamp] = {}
    for name in sorted(path.name for path in journals.glob("*.jsonl")):
        path = journals / name
        # Taken before the file is read: what is written meanwhile makes the stamp an old one.
        stamp = Stamp.of(path)
        known = cache.stamps.get(name) == stamp
        trials[name] = cache.trials[name] if known else read_journal(path, numbers)
        stamps[name] = stamp
    names: dict[str, str] = {}
    for file, trial in trials.items():
        if trial is not None and names.setdefault(trial.trial, file) != file:
            raise RecordError(f"{journals / file}: is of the trial {trial.trial}, as {names[trial.trial]} is")
    if stamps != cache.stamps:
        Cache(stamps, trials, list(numbers)).write(folder)
    return build(sweep, [trial for trial in trials.values() if trial is not None], list(numbers))


def read_journal(path: Path, numbers: dict[str, int]) -> Trial | None:
    """The trial of a journal; None where the machine died before the first line was out.

    ``numbers`` gives each metric key its number in the trial's points; new keys are added. Raises ``RecordError``.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from None
    tally: _Tally | None = None
    for number, event in _events(path, content):
        if tally is None and event["event"] != "trial":
            raise RecordError(f"{path}:{number}: a journal begins with a trial line, got {event['event']!r}")
        try:
            tally = tally or _Tally(milliseconds(event["time"]))
            tally.read(event)
        except KeyError as error:
            raise RecordError(f"{path}:{number}: the {event['event']} line lacks {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"{path}:{number}: malformed {event['event']} line: {error}") from None
    return None if tally is None else tally.trial(numbers)


class _Tally:
    """What a journal's lines add up to."""

    def __init__(self, started: int) -> None:
        self.started = started
        self.head: dict[str, Any] = {}
        self.epochs: dict[int, dict[str, float]] = {}
        self.curves: dict[str, tuple[list[int], list[float]]] = {}
        self.summary: dict[str, float] | None = None
        self.end: dict[str, Any] | None = None
        self.warnings: dict[str, None] = {}

    def read(self, event: Mapping[str, Any]) -> None:
        """Take in one line; raises ``KeyError`` or ``ValueError`` for one that lacks what its event needs."""
        match event["event"]:
            case "epoch":
                self.epochs[int(event["epoch"])] = _floats(event["metrics"])
            case "trial":
                self._begin({name: event[name] for name in REQUIRED} | dict(event))
            case "curve":
                steps, values = [int(step) for step in event["steps"]], [_float(v) for v in event["values"]]
                if len(steps) != len(values):
                    raise ValueError(f"{len(steps)} steps but {len(values)} values")
                points = dict(zip(steps, values, strict=True))
                self.curves[str(event["metric"])] = sorted(points), [points[step] for step in sorted(points)]
            case "warning":
                self.warnings[" ".join(str(event["message"]).split())] = None
            case "summary":
                self.summary = _floats(event["metrics"])
            case "end":
                if event["state"] not in STATES:
                    raise ValueError(f"state must be one of {', '.join(STATES)}, got {event['state']!r}")
                self.end = {"reason": None, "epoch": None} | dict(event) | {"time": milliseconds(event["time"])}

    def _begin(self, head: dict[str, Any]) -> None:
        if head["kind"] not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {head['kind']!r}")
        head |= {name: None if head[name] is None else int(head[name]) for name in ("number", "seed")}
        head |= {"attempt": int(head["attempt"]), "leaves": flatten(head.get("config") or {})}
        # What an earlier attempt did after its checkpoint is lost: those epochs are trained again.
        resumed = int(head.get("resumed_epoch") or 0)
        self.epochs = {epoch: metrics for epoch, metrics in self.epochs.items() if epoch <= resumed}
        self.head, self.curves, self.summary, self.end = head, {}, None, None

    def trial(self, numbers: dict[str, int]) -> Trial:
        """The trial after the last line."""
        head, end = self.head, self.end or {}
        series = self._series()
        return Trial(
            trial=str(head["trial"]),
            kind=head["kind"],
            label=head.get("label"),
            number=head["number"],
            config_hash=str(head["config_hash"]),
            seed=head["seed"],
            attempt=head["attempt"],
            reused_from=head.get("reused_from"),
            overrides=head.get("overrides") or {},
            leaves=head["leaves"],
            started=self.started,
            ended=end.get("time"),
            state=end.get("state"),
            reason=end.get("reason"),
            epoch=max(self.epochs, default=None) if end.get("epoch") is None else int(end["epoch"]),
            scalars=latest(series) if self.summary is None else self.summary,
            warnings=list(self.warnings),
            points=Points.of(series | self.curves, numbers),
        )

    def _series(self) -> Series:
        series: dict[str, tuple[list[int], list[float]]] = {}
        for epoch in sorted(self.epochs):
            for key, value in self.epochs[epoch].items():
                found = series.get(key)
                if found is None:
                    found = series[key] = [], []
                found[0].append(epoch)
                found[1].append(value)
        return {key: points for key, points in series.items() if not key.startswith(MACHINE)}


def _events(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and events; a line cut off by the death of a machine is left out."""
    lines = content.split(b"\n")
    parsed = [(number, _event(line)) for number, line in enumerate(lines, start=1) if line and not line.isspace()]
    for index, (number, event) in enumerate(parsed):
        if event is not None:
            yield number, event
            continue
        # The last line of an attempt may be cut off: the journal ends there, or a retry begins.
        following = parsed[index + 1][1] if index + 1 < len(parsed) else {"event": "trial"}
        if following is None or following["event"] != "trial":
            text = lines[number - 1][:80].decode(errors="replace")
            raise RecordError(f"{path}:{number}: is not a JSON object with an event: {text}")


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except ValueError:
        value = _lenient(line)
    return value if type(value) is dict and type(value.get("event")) is str else None


def _lenient(line: bytes) -> Any:
    """A line that is no JSON by the letter, as Python writes NaN."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def milliseconds(time: Any) -> int:
    """UNIX seconds as MLflow has them."""
    return int(float(time) * 1000)


def _float(value: Any) -> float:
    """A number as written: the strings "NaN", "Infinity" and "-Infinity" stand for themselves."""
    return math.nan if value is None else float(value)


def _floats(metrics: dict[str, Any]) -> dict[str, float]:
    if set(map(type, metrics.values())) == {float}:
        return metrics
    return {name: _float(value) for name, value in metrics.items()}
