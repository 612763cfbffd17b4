"""Recorded sweeps and trials, found by name or folder."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from analysis.record.copies import copied, copies_of, holds_sweep, origin_of, sweep_names, work_folder
from analysis.record.journal_files import TRIAL, journal_files
from analysis.record.launches import running
from analysis.record.uri import at_home
from linearizer_core.bucket import Bucket, address, is_address, local_path
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem, suggestion

SEED = re.compile(r"-s-?\d+$")
"""The part of a trial's id after that of its configuration."""


def find_sweep(name: str | os.PathLike[str], storage: Path) -> Path:
    """The folder of a recorded sweep; of one in a bucket, that of its copy as it is now.

    Raises ``InputError`` that names those there are, and ``BucketError`` where the bucket cannot be read.
    """
    where = _address(name, storage)
    if where is not None:
        return _copy(*where)
    name, storage = _at_home(local_path(os.fspath(name))), storage_folder(storage)
    for folder in (storage / name, Path(name)):
        if _holds_sweep(folder):
            # "." and ".." have no name that a later command could use.
            return folder if folder.name not in ("", "..") else folder.resolve()
        if folder.name == "sweep.json" and _holds_sweep(folder.parent):
            return find_sweep(folder.parent, storage)
    known = all_sweeps(storage)
    hint = suggestion(name, known) if known else f"{storage} has no sweeps; launch one or give --storage"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])


def _address(name: str | os.PathLike[str], storage: Path) -> tuple[str, str] | None:
    """The storage in a bucket, and the name there, that a sweep is asked for by; None where it is in a folder."""
    text = os.fspath(name)
    try:
        if is_address(text):
            place, _, text = address(text).rpartition("/")
        elif is_address(storage) and not _holds_sweep(Path(text)):
            place = address(storage)
        else:
            return None
        address(place)
    except ValueError as error:
        raise InputError(os.fspath(name), [Problem("", str(error))]) from None
    return place, text


def _copy(storage: str, name: str) -> Path:
    if "/" not in name and holds_sweep(Bucket(f"{storage}/{name}")):
        return copied(f"{storage}/{name}")
    known = sweep_names(storage)
    hint = suggestion(name, known) if known else f"{storage} holds none"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])


def own_sweep(name: str | os.PathLike[str], storage: Path) -> Path:
    """The folder of a recorded sweep that is to be changed; of one in a bucket, that of the launch on this machine.

    Where no launch of it runs here, it is that of a copy, as ``find_sweep`` gives it. Raises as that does.
    """
    where = _address(name, storage)
    if where is not None:
        folder = work_folder(where[0]) / where[1]
        if running(folder):
            return folder
    return find_sweep(name, storage)


def own_trial(text: str | os.PathLike[str], storage: Path) -> tuple[SweepPaths, str]:
    """As ``find_trial``, of a trial that is to be changed: of a sweep as ``own_sweep`` finds it."""
    return find_trial(text, storage, own_sweep)


def all_sweeps(storage: Path) -> list[str]:
    """The names of the sweeps in a storage folder or in one in a bucket, in their order.

    Raises ``InputError`` for an address that is none, and ``BucketError`` where the bucket cannot be read.
    """
    if is_address(storage):
        return sweep_names(shown(storage))
    return sorted(path.parent.name for path in storage.glob("*/sweep.json"))


def shown(storage: Path) -> str:
    """A storage as a user writes it; raises ``InputError`` for an address that is none."""
    try:
        return address(storage) if is_address(storage) else str(storage)
    except ValueError as error:
        raise InputError(str(storage), [Problem("", str(error))]) from None


def storage_folder(storage: str | os.PathLike[str]) -> Path:
    """A storage folder with ``~`` expanded; of one in a bucket, that of its copies.

    Raises ``InputError`` where there is no such home, and for an address that is none.
    """
    if not is_address(storage):
        return Path(_at_home(local_path(os.fspath(storage))))
    return copies_of(shown(Path(storage)))


def names_trial(text: str | os.PathLike[str], storage: Path) -> bool:
    """Whether a text names a trial, as ``SWEEP/TRIAL``, rather than a sweep."""
    whole = os.fspath(text).rstrip("/")
    if is_address(whole) or is_address(storage):
        return TRIAL.fullmatch(whole.rpartition("/")[2]) is not None
    folders = storage_folder(storage) / whole, Path(whole)
    if "/" not in whole or any(map(_holds_sweep, folders)):
        return False
    return TRIAL.fullmatch(whole.rpartition("/")[2]) is not None


def find_trial(
    text: str | os.PathLike[str], storage: Path, find: Callable[[str, Path], Path] = find_sweep
) -> tuple[SweepPaths, str]:
    """The files of the sweep, as ``find`` finds it, and the name of the trial in ``SWEEP/TRIAL``.

    The name of a configuration with one trial names that trial. Raises ``InputError``, which lists the trials of a
    configuration that has several and suggests existing ones, if there is none.
    """
    whole = os.fspath(text).rstrip("/")
    name, _, trial = whole.rpartition("/")
    if not is_address(whole) and not is_address(storage):
        storage = storage_folder(storage)
        if _holds_sweep(storage / whole) or _holds_sweep(Path(whole)):
            name = ""
    if not name:
        raise InputError(whole, [Problem("", "give the sweep and the trial, as SWEEP/TRIAL")])
    paths = SweepPaths(find(name, storage))
    known = [path.stem for path in journal_files(paths.journals)]
    if trial in known:
        return paths, trial
    own = trials_of(trial, known)
    if len(own) == 1:
        return paths, own[0]
    if own:
        message = f"has {len(own)} trials, one per seed; give one of {', '.join(own)}"
        raise InputError(whole, [Problem("", message)])
    raise InputError(whole, [Problem("", no_trial(trial, paths.root, known))])


def trials_of(configuration: str, trials: Iterable[str]) -> list[str]:
    """Those of the trials that belong to a configuration, in the order of their seeds.

    >>> trials_of("t001", ["t000-s0", "t001-s10", "t001-s2", "r001"])
    ['t001-s2', 't001-s10']
    """
    own = [trial for trial in trials if SEED.sub("", trial) == configuration != trial]
    return sorted(own, key=lambda trial: int(trial.rpartition("-s")[2]))


def no_trial(name: str, folder: Path, known: Sequence[str]) -> str:
    """That a record has no trial or configuration of a name, with the one that was probably meant."""
    names = [*dict.fromkeys(SEED.sub("", trial) for trial in known), *known]
    return f"no trial {name} in {folder}; {suggestion(name, dict.fromkeys(names)) if known else 'it has none yet'}"


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


def place_of(folder: Path) -> str:
    """Where a recorded sweep is: its folder, or the address that the folder is the copy of."""
    origin = origin_of(folder.parent)
    return str(folder) if origin is None else f"{origin}/{folder.name}"


def storage_option(storage: Path) -> str:
    """The option for a storage folder; empty for the default one.

    Of a folder of copies it names the storage in the bucket.
    """
    origin = origin_of(storage)
    if origin is not None:
        return f" --storage {shlex.quote(origin)}"
    return "" if storage.resolve() == Path("runs").resolve() else f" --storage {shlex.quote(str(storage))}"
