"""Deleting a sweep's record: the list of what would be deleted, and the deletion."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analysis.record.copies import LEASE, kept_by_launches, work_folder
from analysis.record.journal_files import journal_files
from analysis.record.launches import LOCK
from analysis.record.pieces import FOLDER as PIECES
from analysis.record.pieces import forget
from linearizer_core.bucket import Bucket
from linearizer_core.bucket import Entry as Object
from sweeps.notebook import html
from sweeps.record.elsewhere import copy_of
from sweeps.record.lease import held_lease
from sweeps.record.lock import take
from sweeps.record.lookup import place_of
from sweeps.record.paths import SweepPaths
from sweeps.record.upload import only_here
from sweeps.record.writers import only_launch
from sweeps.spec.validation import InputError, Problem

MEANINGS = {
    "sweep.json": "the sweep: its spec, provenance and state",
    "journal": "journals, one per trial",
    "artifacts": "checkpoints, images, curves",
    "training": "saved states of trials that have not ended",
    "superseded": "journals of trials that are no longer needed",
    "tables": "tables and figures",
    "report": "the report",
    "tune": "Ray Tune's state",
    "requests": "requests to stop or retry single trials",
    "pieces": "sweep.json, journals and other small files",
    "lease": "signs of life of launches",
    "stop": "the request to stop the sweep",
    "plugins": "the code of the plugins",
    "study.log": "the search's study in Optuna's format",
    "ledger.json": "the time that launches have spent",
    "shipped.json": "what MLflow has received",
    "cache.parquet": "a cache of the journals for faster reading",
    "holder": "which launch writes to the bucket",
    "writers": "which attempts may write their journals",
}
BEGINNINGS = {
    "uncommitted-": "uncommitted changes to the code",
    "shipped-": "what another tracking server has received",
    "error-": "the traceback of a launch that failed",
}
"""The meanings of files whose names are not fixed, by how these begin."""
AT_ONCE = 1000
"""Objects that are deleted between two signs of life."""


@dataclass(frozen=True)
class Entry:
    """A file or folder of the record: its number of files, their bytes, and its meaning (empty if it is not ours)."""

    name: str
    files: int
    size: int
    meaning: str


@dataclass(frozen=True, repr=False)
class Removal:
    """What is, or would be, deleted with the record of a sweep: its ``folder``, entry by entry."""

    folder: Path
    entries: Sequence[Entry]
    done: bool = False

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.size for entry in self.entries)

    @property
    def files(self) -> int:
        """The number of files."""
        return sum(entry.files for entry in self.entries)

    def __repr__(self) -> str:
        how = "removed" if self.done else "would be removed"
        return f"Removal({self.place}: {self.files} files, {size_told(self.size)}, {how})"

    def _repr_html_(self) -> str:
        return html(render(self))

    @property
    def place(self) -> str:
        """The folder, or the address in a bucket of which it is the copy."""
        return place_of(self.folder)


def removal_of(folder: Path) -> Removal:
    """What would be deleted with the record in a folder, or with the one in a bucket that the folder is the copy of.

    Empty folders are not listed, but deleted too.
    """
    uri = copy_of(folder)
    if uri is not None:
        return _removal_in_bucket(folder, Bucket(uri).entries())
    entries = []
    for path in sorted(folder.iterdir()):
        if path.name != LOCK:
            sizes = _sizes(path)
            if sizes:
                entries.append(Entry(path.name, len(sizes), sum(sizes), _meaning(path.name)))
    return Removal(folder, entries)


def remove(source: str, folder: Path) -> Removal:
    """Delete the whole record in a folder while no launch holds it, and return what was deleted.

    ``sweep.json`` is deleted last, so that an interrupted deletion can be repeated. If the folder is a link, the link
    is deleted too. Raises ``InputError`` if a launch or an upload to MLflow holds the record, and ``OSError`` if
    something cannot be deleted.
    """
    uri = copy_of(folder)
    if uri is not None:
        return _remove_in_bucket(source, folder, Bucket(uri))
    paths = SweepPaths(folder)
    with only_launch(source, paths):
        _check_writers(source, paths)
        found = removal_of(folder)
        for path in sorted(folder.iterdir(), key=lambda each: each == paths.sweep_json):
            if path != paths.lock:
                _remove(path)
        paths.lock.unlink(missing_ok=True)  # held until here, so that whoever waits for it finds no sweep
        if folder.is_symlink():
            target = folder.resolve()
            folder.unlink()
            folder = target
        folder.rmdir()
    return Removal(found.folder, found.entries, done=True)


def _removal_in_bucket(folder: Path, objects: Sequence[Object]) -> Removal:
    sizes: dict[str, list[int]] = {}
    for each in objects:
        sizes.setdefault(each.name.partition("/")[0], []).append(each.size)
    entries = [Entry(name, len(found), sum(found), _meaning(name)) for name, found in sorted(sizes.items())]
    return Removal(folder, entries)


def _remove_in_bucket(source: str, folder: Path, bucket: Bucket) -> Removal:
    """Delete the objects of a record while no launch holds it, what makes it one last; and what is here of it."""
    own = SweepPaths(work_folder(bucket.uri.rpartition("/")[0]) / folder.name)
    with only_here(source, own.root):
        lease = None
        if kept_by_launches(bucket):
            lease, _ = held_lease(bucket, source, own.holder_now() or None, lambda: None)
        objects = bucket.entries()
        names = sorted((each.name for each in objects), key=lambda name: (_is_last(name), name))
        for begin in range(0, len(names), AT_ONCE):
            if lease is not None:
                lease.renew()
            bucket.remove(names[begin : begin + AT_ONCE])
        # A sign of life may have come since they were listed.
        bucket.remove([each.name for each in bucket.entries(LEASE)])
        shutil.rmtree(own.root, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    forget(folder)
    return replace(_removal_in_bucket(folder, objects), done=True)


def _is_last(name: str) -> int:
    """The order of deletion: what makes objects a record goes last, so that an interrupted one can be repeated."""
    first = name.partition("/")[0]
    return (PIECES, "sweep.json", LEASE).index(first) + 1 if first in (PIECES, "sweep.json", LEASE) else 0


def _check_writers(source: str, paths: SweepPaths) -> None:
    """Raise ``InputError`` if a process of a dead launch still writes a journal, which it would create again."""
    for path in journal_files(paths.journals):
        try:
            with path.open("a") as file:
                take(file, 0)
        except TimeoutError:
            message = f"a process of a launch that died is still writing {path}; try again in a few minutes"
            raise InputError(source, [Problem("", message)]) from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sizes(path: Path) -> list[int]:
    """The bytes of each file at or below a path; for a link, its own size."""
    if path.is_symlink() or not path.is_dir():
        return [path.lstat().st_size]
    return [(Path(place) / name).lstat().st_size for place, _, names in os.walk(path) for name in names]


def _meaning(name: str) -> str:
    begun = (meaning for beginning, meaning in BEGINNINGS.items() if name.startswith(beginning))
    return MEANINGS.get(name) or next(begun, "")


def size_told(size: float) -> str:
    """A number of bytes as people write it.

    >>> size_told(812), size_told(28_000), size_told(3_500_000_000)
    ('812 bytes', '27 KiB', '3.3 GiB')
    """
    if size < 1024:
        return f"{size:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"


def render(removal: Removal) -> RenderableType:
    """The entries, one per line."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    for entry in removal.entries:
        count = f"{entry.files} files" if entry.files != 1 else "1 file"
        meaning = Text(entry.meaning) if entry.meaning else Text("not written by linsweep", style="yellow")
        table.add_row(Text(f"{removal.folder.name}/{entry.name}"), count, size_told(entry.size), meaning)
    return table
