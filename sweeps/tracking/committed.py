"""Reading a journal in pieces: what has come since, as far as nothing can take it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linearizer_core.experiment.journal import parse

RESULTS = ("curve", "summary", "artifact")
"""Events of a trial's last evaluation."""

PIECE = 1 << 20
"""Bytes of a journal that are worked on at a time."""


@dataclass(frozen=True)
class Piece:
    """Events that follow each other, and where in the journal, in bytes, the next one begins."""

    events: list[dict[str, Any]]
    end: int


def settled(path: Path, offset: int, size: int = PIECE) -> Iterator[Piece]:
    """The events of a journal from ``offset`` on that nothing can take back, in pieces of about ``size`` bytes.

    Results wait for the end that follows them: a trial that dies between them gives them again, and MLflow would keep
    both. Those that were given again are left out. A line that is being written waits as well.
    """
    events: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    begin = end = place = offset
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            place += len(line)
            (event,) = parse(line, path)
            if event["event"] in ("end", "trial"):
                events += [held for held in waiting if event["event"] == "end" or held["event"] not in RESULTS]
                waiting = []
            elif waiting or event["event"] in RESULTS:
                waiting.append(event)
                continue
            events.append(event)
            end = place
            if end - begin >= size:
                yield Piece(events, end)
                events, begin = [], end
    if events:
        yield Piece(events, end)
