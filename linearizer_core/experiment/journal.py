"""A trial's journal: one JSON object a line, flushed as it is written (docs/record.md)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from linearizer_core.errors import LinsweepError

if TYPE_CHECKING:
    from linearizer_core.experiment.evaluation import Curve

Kind = Literal["search", "control", "confirm", "reference"]
State = Literal["finished", "stopped", "failed", "interrupted"]

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
