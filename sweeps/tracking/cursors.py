"""How far each journal has been sent to an MLflow server, and to which run: remembered in the record."""

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
    """What a record notes of how far its journals have been sent could not be read: they are sent again."""


@dataclass
class Cursor:
    """How far a journal has been sent, to which run; ``epoch`` is the last epoch whose metrics are there."""

    run: str
    offset: int = 0
    epoch: int = 0


Cursors = dict[str, Cursor]
"""By trial."""


def read_note(path: Path) -> dict[str, Any] | None:
    """The ``uri``, ``experiment`` id and ``parent`` run that cursors are of, and these as ``runs``; None without.

    A note that cannot be read is as good as none, with a ``NoteWarning``: what was sent is sent again with the same
    time stamps, and MLflow keeps it once.
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
    """Raise the error of whatever a note lacks."""
    for key in ("uri", "experiment", "parent"):
        if not isinstance(note[key], str):
            raise TypeError(f"{key} is not a text")
    for trial, cursor in note["runs"].items():
        if not isinstance(Cursor(**cursor).offset, int):
            raise TypeError(f"the offset of {trial} is not a number")


def load_cursors(path: Path, parent: str, known: Mapping[str, str]) -> Cursors:
    """The noted cursors of the ``known`` runs (trial → run id).

    None of them where the note is of another server, or of a store that has been emptied since.
    """
    note = read_note(path)
    if note is None or note["parent"] != parent:
        return {}
    return {trial: Cursor(**cursor) for trial, cursor in note["runs"].items() if known.get(trial) == cursor["run"]}


def save_cursors(path: Path, uri: str, experiment: str, name: str, parent: str, cursors: Cursors) -> None:
    """Note cursors; ``uri`` without its password, ``experiment`` by its id, ``name`` as it was asked for."""
    runs = {trial: vars(cursor) for trial, cursor in cursors.items()}
    note = {"uri": uri, "experiment": experiment, "name": name, "parent": parent, "runs": runs}
    write_whole(path, json.dumps(note, indent=1) + "\n")


def offsets(path: Path) -> dict[str, int]:
    """How many bytes of each trial's journal have been sent, by the note alone."""
    note = read_note(path)
    return {trial: cursor["offset"] for trial, cursor in note["runs"].items()} if note else {}


def unsent(paths: SweepPaths) -> int:
    """How many bytes of the journals the sweep's own tracking server has not been sent."""
    sent = offsets(paths.cursors)
    return sum(max(0, path.stat().st_size - sent.get(path.stem, 0)) for path in journal_files(paths.journals))
