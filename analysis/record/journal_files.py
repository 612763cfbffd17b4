"""Finds the journals in a sweep's folder: one file per trial, named after it."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from linearizer_core.experiment.journal import JournalWarning

TRIAL = re.compile(r"[a-z]\d+(-s-?\d+)?")
"""The pattern of trial names."""


def journal_files(folder: Path) -> list[Path]:
    """The journals in a folder, sorted by name; none if there is no such folder.

    Other files with the same suffix are ignored: hidden files, which some systems leave behind, silently; copies
    under other names, folders and broken links with a ``JournalWarning``.
    """
    found = []
    try:
        # scandir knows which entries are files: a stat call for each of thousands is slow while a sweep runs.
        with os.scandir(folder) as entries:
            named = sorted((entry.name, entry.is_file(), entry.is_symlink()) for entry in entries)
    except FileNotFoundError:
        return []
    for name, is_file, is_link in named:
        trial, path = name.removesuffix(".jsonl"), folder / name
        if trial == name or name.startswith("."):
            continue
        if TRIAL.fullmatch(trial) is None:
            _left_out(path, "ignored, since its name is not a trial's, such as t000-s0.jsonl")
        elif not is_file:
            what = "a broken link" if is_link else "not a file"
            _left_out(path, f"is {what}, so trial {trial} is ignored")
        else:
            found.append(path)
    return found


def _left_out(path: Path, why: str) -> None:
    warnings.warn(f"{path}: {why}", JournalWarning, stacklevel=3)
