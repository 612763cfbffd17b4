"""A trial's journal in plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.record.launches import DIED
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.journal import ENDED, UNEVALUATED, TrialState, fold, warn
from linearizer_core.experiment.journal_lines import BadLine, Event, LineReader, TrialEvent
from linearizer_core.words import counted
from sweeps.notebook import html
from sweeps.record.lookup import named
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import running
from sweeps.shown_metrics import headline
from sweeps.words import describe_point

MANY = 12
"""Final metrics up to this number are all shown."""

PERIOD = 0.5
"""Seconds between two reads of a journal that is followed."""

STYLES = {"warning": "yellow", "failed": "red", "finished": "green"}


@dataclass(frozen=True)
class LogLine:
    """One line: its time in UNIX seconds, the event in the journal, and its text."""

    time: float
    event: str
    text: str
    style: str = ""

    def __str__(self) -> str:
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.time))}  {self.text}"


@dataclass(frozen=True, repr=False)
class Logs:
    """The log of a ``trial``: iterate over it for the lines so far, or ``follow()`` it as it grows."""

    paths: SweepPaths
    trial: str
    whole: bool = False
    """Whether it has every final metric, or of many only the objective, its value on the test split and cost."""

    def __iter__(self) -> Iterator[LogLine]:
        """The lines so far."""
        return iter(self._reading().more())

    def follow(self, period: float = PERIOD) -> Iterator[LogLine]:
        """The lines so far and then new ones as they come, until the trial has ended or no launch is running.

        ``period`` is in seconds.
        """
        reading = self._reading()
        while True:
            alive = running(self.paths)  # first: so that the last lines of a launch that ends are read after it
            yield from reading.more()
            if reading.state.state in ENDED or not alive:
                return
            time.sleep(period)

    def _reading(self) -> _Reading:
        return _Reading(self.paths.journal(self.trial), None if self.whole else _objectives(self.paths))

    def read(self) -> tuple[list[Event], TrialState]:
        """The journal's events, and the state that they give."""
        reading = self._reading()
        return reading.events(), reading.state

    @property
    def ending(self) -> str | None:
        """What to say of a trial that has not ended, and how to continue it; None for one that has ended."""
        name, (_, state) = f"{self.paths.root.name}/{self.trial}", self.read()
        if state.state in ENDED:
            return None
        storage = named(self.paths.root).partition(" ")[2]
        follow = f"linsweep logs {name} -f {storage}".rstrip()
        if running(self.paths):
            what = "waiting to continue" if state.state else "running"
            return f"{what}; to follow it: {follow}"
        why = DIED if state.state is None else state.reason or "interrupted"
        return f"not ended ({why}); to continue: linsweep resume {named(self.paths.root)}"

    def __repr__(self) -> str:
        return f"Logs({self.paths.root.name}/{self.trial})"

    def _repr_html_(self) -> str:
        return html(render(self))


def render(lines: Iterable[LogLine]) -> RenderableType:
    """The lines as they are printed."""
    return Group(*(Text(str(line), style=line.style) for line in lines))


class _Reading:
    """Reads a journal on from where it stopped."""

    def __init__(self, path: Path, objectives: Sequence[str] | None) -> None:
        self._path, self._objectives = path, objectives
        self._begin()

    def _begin(self) -> None:
        self._offset = 0
        self._reader = LineReader(self._path)
        self.state = TrialState()

    def events(self) -> list[Event]:
        """The events since the last call; a line that is still being written is left for the next call."""
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            if size < self._offset:  # another journal has replaced it
                self._begin()
            file.seek(self._offset)
            content = file.read()
        *whole, rest = content.split(b"\n")
        self._offset += len(content) - len(rest)
        found = [event for line in whole for event in self._reader.read(line)]
        bad = [event for event in found if isinstance(event, BadLine)]
        warn(bad)
        self.state = fold(found, self.state)
        return [event for event in found if not isinstance(event, BadLine)]

    def more(self) -> list[LogLine]:
        """The lines since the last call."""
        before = self.state.head
        lines: list[LogLine] = []
        for event in self.events():
            lines += [
                LogLine(event["time"], event["event"], *_told(text)) for text in _texts(event, before, self._objectives)
            ]
            before = event if event["event"] == "trial" else before
        return lines


def _told(text: str) -> tuple[str, str]:
    """A text and its style."""
    return text, STYLES.get(text.partition(":")[0].partition(" ")[0], "")


def _objectives(paths: SweepPaths) -> list[str]:
    """The objectives of a sweep; none where its record cannot be read, since its journals still can."""
    try:
        return list((read_record(paths) or {}).get("objective") or ())
    except LinsweepError:
        return []


def _texts(event: Event, trial: TrialEvent | None, objectives: Sequence[str] | None) -> Iterator[str]:
    """The lines that show an event; ``trial`` is the first line of its attempt.

    Of many final metrics only those that say most are shown, with the ``objectives``; all are where these are None.
    """
    if event["event"] == "trial":
        yield _beginning(event)
    elif event["event"] == "epoch":
        epochs = _leaf(trial, "train", "epochs")
        shown = {key: v for key, v in event["metrics"].items() if not key.startswith(UNEVALUATED)}
        if "train/loss" in event["metrics"]:
            shown = {"loss": event["metrics"]["train/loss"], **shown}
        metrics = "".join(f"  {key} {_number(value)}" for key, value in shown.items())
        yield f"epoch {event['epoch']}{f' of {epochs}' if epochs else ''}{metrics}"
    elif event["event"] == "curve":
        points = ", ".join(f"{_number(v)} at {k}" for k, v in zip(event["steps"], event["values"], strict=True))
        yield f"{event['metric']}: {points}"
    elif event["event"] == "summary":
        yield from _summary(event["metrics"], objectives)
    elif event["event"] == "warning":
        yield f"warning: {' '.join(event['message'].split())}"
    elif event["event"] == "saved":
        yield f"saved its state after epoch {event['epoch']}"
    elif event["event"] == "artifact":
        yield f"wrote {event['path']}"
    else:
        when = f" after epoch {event['epoch']}" if event["epoch"] else ""
        yield f"{event['state']}{when}" + (f": {' '.join(event['reason'].split())}" if event["reason"] else "")


def _summary(metrics: Mapping[str, float], objectives: Sequence[str] | None) -> Iterator[str]:
    folded = objectives is not None and len(metrics) > MANY
    keys = headline(list(metrics), objectives or ()) if folded else list(metrics)
    yield from (f"{key} = {_number(metrics[key])}" for key in keys)
    if len(keys) < len(metrics):
        yield f"and {counted(len(metrics) - len(keys), 'more metric')}; --all shows them"


def _beginning(event: TrialEvent) -> str:
    seed = "" if event["seed"] is None else f", seed {event['seed']}"
    what = event["label"] or describe_point(event["overrides"]) or "the base configuration"
    name = f"{event['kind']} trial {event['trial']} of {event['sweep']}"
    reused = event.get("reused_from")
    if reused:
        return f"{name}: {what}{seed}; not run: it reuses the result of {reused}"
    if event["attempt"] > 1:
        place = f"resumes after epoch {event['resumed_epoch']}" if event["resumed_epoch"] else "starts from scratch"
        return f"attempt {event['attempt']} {place}"
    return f"{name}: {what}{seed}"


def _leaf(trial: TrialEvent | None, *names: str) -> Any:
    value: Any = trial["config"] if trial else None
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _number(value: float) -> str:
    return f"{value:.4g}"
