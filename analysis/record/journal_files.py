"""Which files of a sweep's folder are journals: one for each trial, by its name."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from linearizer_core.experiment.journal import JournalWarning

TRIAL = re.compile(r"[a-z]\d+(-s-?\d+)?")
"""What trials are called."""


def journal_files(folder: Path) -> list[Path]:
    """The journals in a folder, by name; none if there is no such folder.

    What only ends like one counts nowhere: hidden files, which systems leave behind, and, with a ``JournalWarning``,
    copies under other names, folders, and links to nothing.
    """
    found = []
    try:
        # A directory says what is a file: asking each of thousands while a sweep runs takes long.
        with os.scandir(folder) as entries:
            named = sorted((entry.name, entry.is_file(), entry.is_symlink()) for entry in entries)
    except FileNotFoundError:
        return []
    for name, is_file, is_link in named:
        trial, path = name.removesuffix(".jsonl"), folder / name
        if trial == name or name.startswith("."):
            continue
        if TRIAL.fullmatch(trial) is None:
            _left_out(path, "is not called as a trial is, such as t000-s0.jsonl: it does not count")
        elif not is_file:
            what = "a link to nothing" if is_link else "no file"
            _left_out(path, f"is {what}: the trial {trial} does not count")
        else:
            found.append(path)
    return found


def _left_out(path: Path, why: str) -> None:
    warnings.warn(f"{path}: {why}", JournalWarning, stacklevel=3)
