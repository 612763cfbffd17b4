"""Recorded sweeps and trials, found by name or folder."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from analysis.record.journal_files import TRIAL, journal_files
from analysis.record.uri import at_home
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem, suggestion


def find_sweep(name: str | os.PathLike[str], storage: Path) -> Path:
    """The folder of a recorded sweep; raises ``InputError``, which suggests existing ones, if there is none."""
    name, storage = _at_home(os.fspath(name)), storage_folder(storage)
    for folder in (storage / name, Path(name)):
        if _holds_sweep(folder):
            # "." and ".." have no name that a later command could use.
            return folder if folder.name not in ("", "..") else folder.resolve()
        if folder.name == "sweep.json" and _holds_sweep(folder.parent):
            return find_sweep(folder.parent, storage)
    known = sorted(path.parent.name for path in storage.glob("*/sweep.json"))
    hint = suggestion(name, known) if known else f"{storage} has no sweeps; launch one or give --storage"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])


def storage_folder(storage: str | os.PathLike[str]) -> Path:
    """A storage folder with ``~`` expanded; raises ``InputError`` if that home folder does not exist."""
    return Path(_at_home(os.fspath(storage)))


def names_trial(text: str | os.PathLike[str], storage: Path) -> bool:
    """Whether a text names a trial, as ``SWEEP/TRIAL``, rather than a sweep."""
    whole = os.fspath(text).rstrip("/")
    folders = storage_folder(storage) / whole, Path(whole)
    if "/" not in whole or any(map(_holds_sweep, folders)):
        return False
    return TRIAL.fullmatch(whole.rpartition("/")[2]) is not None


def find_trial(text: str | os.PathLike[str], storage: Path) -> tuple[SweepPaths, str]:
    """The files of the sweep and the name of the trial in ``SWEEP/TRIAL``.

    Raises ``InputError``, which suggests existing ones, if there is none.
    """
    whole, storage = os.fspath(text).rstrip("/"), storage_folder(storage)
    name, _, trial = whole.rpartition("/")
    if not name or _holds_sweep(storage / whole) or _holds_sweep(Path(whole)):
        raise InputError(whole, [Problem("", "give the sweep and the trial, as SWEEP/TRIAL")])
    paths = SweepPaths(find_sweep(name, storage))
    known = [path.stem for path in journal_files(paths.journals)]
    if trial not in known:
        hint = suggestion(trial, known) if known else "it has none yet"
        raise InputError(whole, [Problem("", f"no trial {trial} in {paths.root}; {hint}")])
    return paths, trial


def _at_home(path: str) -> str:
    """A path with a leading ``~`` expanded, unless a file of that name exists here."""
    try:
        return path if os.path.lexists(path) else at_home(path)
    except ValueError as error:
        raise InputError(path, [Problem("", str(error))]) from None


def _holds_sweep(folder: Path) -> bool:
    try:
        return (folder / "sweep.json").exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def named(folder: Path) -> str:
    """A recorded sweep as arguments to paste: its name, and --storage unless its storage folder is runs.

    >>> named(Path("my runs/demo"))
    "demo --storage 'my runs'"
    """
    return shlex.quote(folder.name) + storage_option(folder.parent)


def storage_option(storage: Path) -> str:
    """The option for a storage folder; empty for the default one."""
    return "" if storage.resolve() == Path("runs").resolve() else f" --storage {shlex.quote(str(storage))}"
