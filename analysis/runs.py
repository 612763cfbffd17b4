"""The record of sweeps as tidy frames: the files of docs/record.md, read back."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd

Direction = Literal["min", "max"]
KINDS = ("search", "confirm", "control", "reference")
STATES = ("finished", "stopped", "failed", "interrupted", "running")
REQUIRED = ("sweep", "trial", "kind", "number", "config_hash", "seed", "attempt")


class RecordError(ValueError):
    """A record that cannot be read or cannot answer; the message names the file or the key."""


@dataclass(frozen=True)
class SweepInfo:
    """What ``sweep.json`` says: times in UNIX seconds, ``best`` the trial ids of the best configuration."""

    name: str
    family: str
    path: Path
    axes: tuple[str, ...]
    objective: Mapping[str, Direction]
    state: str
    started: float
    ended: float | None
    spec: Mapping[str, Any]
    provenance: Mapping[str, Any]
    best: tuple[str, ...] | None

    @property
    def seeds(self) -> int:
        """How many seeds every configuration of the search has."""
        return len(self.spec.get("search", {}).get("seeds", ())) or 1

    @property
    def confirm_seeds(self) -> int:
        """How many fresh seeds a configuration that is confirmed has."""
        return len((self.spec.get("search", {}).get("confirm") or {}).get("seeds", ()))

    def dimension(self, axis: str) -> Mapping[str, Any]:
        """The searched range of an axis as the spec gives it, empty where the spec does not say."""
        space: Mapping[str, Mapping[str, Any]] = self.spec.get("search", {}).get("space", {})
        return space.get(axis, {})

    @property
    def constraints(self) -> dict[str, str]:
        """Metric key to ``"<= number"`` or ``">= number"``: what the best configuration keeps to."""
        return dict(self.spec.get("search", {}).get("constraints", {}))


@dataclass(frozen=True, eq=False)
class Record:
    """One or more sweeps, read.

    ``runs``: one row a trial, in the order search, confirm, control, reference and there by number and seed.
    Columns ``sweep, trial, kind, label, number, config_hash, seed, attempt, state, reason, epoch, started``
    (UNIX seconds), ``seconds`` (first line to end), ``overrides`` (JSON), then one column an axis, then one
    float column a metric key.
    ``curves``: ``sweep, trial, kind, label, config_hash, seed, metric, step, value``.
    ``epochs``: ``sweep, trial, epoch, metric, value``.
    """

    sweeps: list[SweepInfo]
    runs: pd.DataFrame
    curves: pd.DataFrame
    epochs: pd.DataFrame

    @property
    def axes(self) -> list[str]:
        """The searched dotted names of all sweeps, in the order of their specs."""
        return list(dict.fromkeys(axis for sweep in self.sweeps for axis in sweep.axes))

    @property
    def objective(self) -> dict[str, Direction]:
        """Metric key to direction, over all sweeps; raises ``RecordError`` where two sweeps disagree."""
        merged: dict[str, Direction] = {}
        for sweep in self.sweeps:
            for key, direction in sweep.objective.items():
                if merged.setdefault(key, direction) != direction:
                    raise RecordError(f"{key}: minimised by one sweep, maximised by another: {self.names}")
        return merged

    @property
    def metrics(self) -> list[str]:
        """The metric keys that ``runs`` has a column for."""
        return [column for column in self.runs.columns if "/" in column]

    @property
    def names(self) -> str:
        """The sweeps' names in a few words."""
        return ", ".join(sweep.name for sweep in self.sweeps)

    def sweep(self, name: str) -> SweepInfo:
        """The sweep of that name."""
        return next(sweep for sweep in self.sweeps if sweep.name == name)

    def checked(self, name: str, known: Sequence[str], what: str) -> str:
        """``name`` if it is known; otherwise raises ``RecordError`` with the nearest names that are."""
        if name in known:
            return name
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
        raise RecordError(f"{self.names}: no {what} {name!r}; {hint}")


def load(paths: Sequence[Path]) -> Record:
    """Read sweep directories (``<storage>/<sweep>``).

    Raises ``RecordError`` naming the path where ``sweep.json`` or the journals are missing or cannot be read,
    and the line where a line other than a half-written last one is malformed.
    """
    sweeps: list[SweepInfo] = []
    trials: list[tuple[SweepInfo, _Trial]] = []
    for path in map(Path, paths):
        sweep = _sweep(path)
        for other in sweeps:
            if other.name == sweep.name:
                raise RecordError(f"{path}: the sweep {sweep.name} was read from {other.path} already")
        sweeps.append(sweep)
        if not (path / "journal").is_dir():
            raise RecordError(f"{path / 'journal'}: no such folder; has the sweep started?")
        journals = (_trial(file) for file in sorted((path / "journal").glob("*.jsonl")))
        found = [trial for trial in journals if trial is not None]
        trials += [(sweep, trial) for trial in sorted(found, key=_Trial.order)]
    return Record(sweeps, _runs(sweeps, trials), _curves(trials), _epochs(trials))


@dataclass
class _Trial:
    """The state that a journal's lines add up to."""

    started: float
    head: dict[str, Any] = field(default_factory=dict)
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    summary: dict[str, float] | None = None
    end: dict[str, Any] | None = None

    def read(self, event: Mapping[str, Any]) -> None:
        """Take in one line; raises ``KeyError`` or ``ValueError`` for one that lacks what its event needs."""
        match event["event"]:
            case "trial":
                self._begin({name: event[name] for name in REQUIRED} | dict(event))
            case "epoch":
                self.epochs[int(event["epoch"])] = _numbers(event["metrics"])
            case "curve":
                steps, values = [int(step) for step in event["steps"]], [_float(v) for v in event["values"]]
                if len(steps) != len(values):
                    raise ValueError(f"{len(steps)} steps but {len(values)} values")
                self.curves[str(event["metric"])] = steps, values
            case "summary":
                self.summary = _numbers(event["metrics"])
            case "end":
                if event["state"] not in STATES:
                    raise ValueError(f"state must be one of {', '.join(STATES)}, got {event['state']!r}")
                self.end = {"reason": None, "epoch": None} | dict(event)

    def _begin(self, head: dict[str, Any]) -> None:
        if head["kind"] not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {head['kind']!r}")
        # What an earlier attempt did after its checkpoint is lost: those epochs are trained again.
        resumed = int(head.get("resumed_epoch") or 0)
        self.epochs = {epoch: metrics for epoch, metrics in self.epochs.items() if epoch <= resumed}
        self.head, self.curves, self.summary, self.end = head, {}, None, None

    def order(self) -> tuple[int, int, int, str]:
        """Search before confirm, control and reference; there by number and seed."""
        head = self.head
        return KINDS.index(head["kind"]), _int(head["number"]), _int(head["seed"]), str(head["trial"])

    def state(self, sweep: SweepInfo) -> tuple[str, str | None]:
        """The state and its reason; without an end, a trial of a sweep that is over was interrupted."""
        if self.end is not None:
            return str(self.end["state"]), self.end["reason"]
        return ("running", None) if sweep.state == "running" else ("interrupted", "its journal has no end")

    def scalars(self) -> dict[str, float]:
        """The end scalars, or what the study saw instead: each metric at the last epoch that has it."""
        if self.summary is not None:
            return self.summary
        latest: dict[str, float] = {}
        for _, metrics in sorted(self.epochs.items()):
            latest |= {name: value for name, value in metrics.items() if not name.startswith("train/")}
        return latest

    def last_epoch(self) -> int | None:
        """The last epoch trained."""
        if self.end is not None and self.end["epoch"] is not None:
            return int(self.end["epoch"])
        return max(self.epochs, default=None)

    def identity(self, *names: str) -> dict[str, Any]:
        """Fields of the trial line by name."""
        return {name: self.head.get(name) for name in names}


def _sweep(path: Path) -> SweepInfo:
    file = path / "sweep.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        best = values.get("best")
        return SweepInfo(
            name=str(values["name"]),
            family=str(values.get("family", "")),
            path=path,
            axes=tuple(values["axes"]),
            objective=cast(Mapping[str, Direction], dict(values["objective"])),
            state=str(values["state"]),
            started=float(values["started"]),
            ended=None if values.get("ended") is None else float(values["ended"]),
            spec=values.get("spec") or {},
            provenance=values.get("provenance") or {},
            best=None if best is None else tuple(best),
        )
    except OSError as error:
        hint = "a sweep's folder is <storage>/<sweep>"
        raise RecordError(f"{file}: cannot be read ({error.strerror}); {hint}") from None
    except KeyError as error:
        raise RecordError(f"{file}: lacks {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(f"{file}: is not a sweep's record ({error})") from None


def _trial(path: Path) -> _Trial | None:
    """The trial of a journal; None where the machine died before the first line was out."""
    trial: _Trial | None = None
    for number, event in _events(path):
        if trial is None and event["event"] != "trial":
            raise RecordError(f"{path}:{number}: a journal begins with a trial line, got {event['event']!r}")
        try:
            trial = trial or _Trial(started=float(event["time"]))
            trial.read(event)
        except KeyError as error:
            raise RecordError(f"{path}:{number}: the {event['event']} line lacks {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"{path}:{number}: malformed {event['event']} line: {error}") from None
    return trial


def _events(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and events; a line cut off by the death of a machine is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from None
    parsed = [(number, _event(line)) for number, line in enumerate(lines, start=1) if line.strip()]
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
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None


def _float(value: Any) -> float:
    """A number as written: the strings "NaN", "Infinity" and "-Infinity" stand for themselves."""
    return float("nan") if value is None else float(value)


def _int(value: Any) -> int:
    return -1 if value is None else int(value)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): _float(value) for name, value in metrics.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        leaves |= flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return leaves


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts ``_k2`` before ``_k16``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _runs(sweeps: Sequence[SweepInfo], trials: Sequence[tuple[SweepInfo, _Trial]]) -> pd.DataFrame:
    rows = [_row(sweep, trial) for sweep, trial in trials]
    fixed = {
        **dict.fromkeys(("sweep", "trial", "kind", "label"), "str"),
        "number": "Int64",
        "config_hash": "str",
        **dict.fromkeys(("seed", "attempt"), "Int64"),
        **dict.fromkeys(("state", "reason"), "str"),
        "epoch": "Int64",
        **dict.fromkeys(("started", "seconds"), "float64"),
        "overrides": "str",
    }
    columns = {name: _series([row[name] for row in rows], kind) for name, kind in fixed.items()}
    leaves = [flatten(trial.head.get("config") or {}) for _, trial in trials]
    for axis in dict.fromkeys(axis for sweep in sweeps for axis in sweep.axes):
        columns[axis] = _typed([leaf.get(axis) for leaf in leaves])
    scalars = [trial.scalars() for _, trial in trials]
    for metric in sorted({name for values in scalars for name in values}, key=natural):
        columns[metric] = pd.Series([values.get(metric, float("nan")) for values in scalars], dtype="float64")
    return pd.DataFrame(columns)


def _row(sweep: SweepInfo, trial: _Trial) -> dict[str, Any]:
    state, reason = trial.state(sweep)
    return trial.identity("trial", "kind", "label", "number", "config_hash", "seed", "attempt") | {
        "sweep": sweep.name,
        "state": state,
        "reason": reason,
        "epoch": trial.last_epoch(),
        "started": trial.started,
        "seconds": float("nan") if trial.end is None else float(trial.end["time"]) - trial.started,
        "overrides": json.dumps(trial.head.get("overrides") or {}, sort_keys=True),
    }


def _typed(values: Sequence[Any]) -> pd.Series[Any]:
    """A column of one type: whole numbers stay whole where some are missing, mixed values become text."""
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, bool) for value in present):
        return pd.Series(values, dtype="boolean")
    if present and all(type(value) is int for value in present):
        return pd.Series(values, dtype="Int64")
    if all(type(value) in (int, float) for value in present):
        return pd.Series([_float(value) for value in values], dtype="float64")
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return _series(texts, "str")


def _curves(trials: Iterable[tuple[SweepInfo, _Trial]]) -> pd.DataFrame:
    identity = ("trial", "kind", "label", "config_hash", "seed")
    rows = [
        {"sweep": sweep.name, **trial.identity(*identity), "metric": metric, "step": step, "value": value}
        for sweep, trial in trials
        for metric, (steps, values) in sorted(trial.curves.items())
        for step, value in zip(steps, values, strict=True)
    ]
    return _frame(rows, ("sweep", *identity, "metric", "step", "value"))


def _epochs(trials: Iterable[tuple[SweepInfo, _Trial]]) -> pd.DataFrame:
    rows = [
        {"sweep": sweep.name, **trial.identity("trial"), "epoch": epoch, "metric": metric, "value": value}
        for sweep, trial in trials
        for epoch, metrics in sorted(trial.epochs.items())
        for metric, value in metrics.items()
    ]
    return _frame(rows, ("sweep", "trial", "epoch", "metric", "value"))


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    numbers = {"seed": "Int64", "step": "int64", "epoch": "int64", "value": "float64"}
    kinds = dict.fromkeys(names, "str") | numbers
    return pd.DataFrame({name: _series([row[name] for row in rows], kinds[name]) for name in names})


def _series(values: Sequence[Any], kind: str) -> pd.Series[Any]:
    series: pd.Series[Any] = pd.Series(values, dtype=cast(Any, kind))
    return series
