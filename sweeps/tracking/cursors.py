"""Cursors: how far each journal has been sent to an MLflow server, and to which run; kept in the record."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import JournalWarning
from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths


class NoteWarning(JournalWarning):
    """The note of how far journals have been sent could not be read, so they are sent again."""


@dataclass
class Cursor:
    """How far a journal has been sent, and to which run; ``epoch`` is the last epoch whose metrics were sent."""

    run: str
    offset: int = 0
    epoch: int = 0


Cursors = dict[str, Cursor]
"""The cursors by trial."""


def read_note(path: Path) -> dict[str, Any] | None:
    """A note: the ``uri``, ``experiment`` id and ``parent`` run, and the cursors as ``runs``; None if there is none.

    A note that cannot be read counts as none, with a ``NoteWarning``: everything is sent again with the same time
    stamps, and MLflow stores it once.
    """
    if not path.exists():
        return None
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check(note)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        warnings.warn(f"{path}: cannot be read ({why}); the journals are sent again", NoteWarning, stacklevel=2)
        return None
    return note


def _check(note: dict[str, Any]) -> None:
    """Raise an error if a field of a note is missing or wrong."""
    for key in ("uri", "experiment", "parent"):
        if not isinstance(note[key], str):
            raise TypeError(f"{key} is not text")
    for trial, cursor in note["runs"].items():
        if not isinstance(Cursor(**cursor).offset, int):
            raise TypeError(f"the offset of {trial} is not a number")


def load_cursors(path: Path, parent: str, known: Mapping[str, str]) -> Cursors:
    """The noted cursors of the ``known`` runs (trial → run id).

    Empty if the note belongs to another server or to a store that has been emptied since.
    """
    note = read_note(path)
    if note is None or note["parent"] != parent:
        return {}
    return {trial: Cursor(**cursor) for trial, cursor in note["runs"].items() if known.get(trial) == cursor["run"]}


def save_cursors(path: Path, uri: str, experiment: str, name: str, parent: str, cursors: Cursors) -> None:
    """Write a note of cursors: ``uri`` without its password, ``experiment`` as an id, ``name`` as in the spec."""
    runs = {trial: vars(cursor) for trial, cursor in cursors.items()}
    note = {"uri": uri, "experiment": experiment, "name": name, "parent": parent, "runs": runs}
    write_whole(path, json.dumps(note, indent=1) + "\n")


def offsets(path: Path) -> dict[str, int]:
    """How many bytes of each trial's journal have been sent, according to the note."""
    note = read_note(path)
    return {trial: cursor["offset"] for trial, cursor in note["runs"].items()} if note else {}


def unsent(paths: SweepPaths) -> int:
    """How many bytes of the journals have not been sent to the sweep's own tracking server."""
    sent = offsets(paths.cursors)
    return sum(max(0, path.stat().st_size - sent.get(path.stem, 0)) for path in journal_files(paths.journals))
