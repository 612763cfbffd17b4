"""A recorded sweep, by its name or its folder."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from analysis.record.uri import at_home
from sweeps.spec.validation import InputError, Problem, suggestion


def find_sweep(name: str | os.PathLike[str], storage: Path) -> Path:
    """The folder of a recorded sweep; raises ``InputError`` that names those there are."""
    name, storage = _at_home(os.fspath(name)), Path(_at_home(str(storage)))
    for folder in (storage / name, Path(name)):
        if _holds_sweep(folder):
            # A folder has a name, by which the next command can name it: "." and ".." have not.
            return folder if folder.name not in ("", "..") else folder.resolve()
    known = sorted(path.parent.name for path in storage.glob("*/sweep.json"))
    hint = suggestion(name, known) if known else f"{storage} holds none; launch one or give --storage"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])


def _at_home(path: str) -> str:
    """A path with the ``~`` of a home folder spelt out, unless there is a folder of that name here."""
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
    """A recorded sweep as a command takes it, to be pasted: its name, and the option for a storage that is not runs.

    >>> named(Path("my runs/demo"))
    "demo --storage 'my runs'"
    """
    return shlex.quote(folder.name) + storage_option(folder.parent)


def storage_option(storage: Path) -> str:
    """The option that names a storage folder; nothing for the one that is taken without it."""
    return "" if storage.resolve() == Path("runs").resolve() else f" --storage {shlex.quote(str(storage))}"
