"""Local copies of what is in a bucket: each object is fetched once, and again when its tag has changed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from linearizer_core.bucket import Bucket, Entry
from linearizer_core.files import write_whole

AT_ONCE = 16
"""Objects that are fetched at the same time."""

NOTE = ".{}.mirror.json"
"""Beside a copy, by its name: the tags of the objects that it has."""

LOCK = ".{}.mirror.lock"


def cache_folder() -> Path:
    """Where copies are kept: $LINSWEEP_CACHE, else ``linsweep`` in $XDG_CACHE_HOME or ~/.cache.

    Without a home that can be written, it is in the folder for temporary files.
    """
    named = os.environ.get("LINSWEEP_CACHE")
    if named:
        return Path(named).absolute()
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        home = Path()
    nearest = home
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    usable = home.is_absolute() and os.access(nearest, os.W_OK | os.X_OK)
    return (home if usable else Path(tempfile.gettempdir())) / "linsweep"


def folder_name(uri: str) -> str:
    """What the copy of an address is called: its words, and a digest that tells it from others with the same words.

    >>> folder_name("s3://bucket/runs")
    's3-bucket-runs-0863ef5c'
    """
    words = re.sub(r"[^A-Za-z0-9.]+", "-", uri).strip("-.")[-60:]
    return f"{words}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def mirrored(bucket: Bucket, folder: Path, entries: Iterable[Entry], scope: str = "") -> None:
    """Make a folder have these objects, which are all that there are with ``scope`` in front, as files of their names.

    Files of objects that are gone are removed; others that are there stay. Several processes can ask at once: one
    fetches, and the others find everything there.

    Raises ``BucketError`` and ``OSError``; what was fetched by then is not fetched again.
    """
    with only_one(folder):
        have = _tags(folder)
        found = {entry.name: entry for entry in entries}
        missing = [entry for name, entry in found.items() if have.get(name) != _tag(entry)]
        kept = {name: tag for name, tag in have.items() if name in found or not name.startswith(scope)}
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for entry, _ in zip(missing, pool.map(lambda each: _fetch(bucket, each, folder), missing), strict=True):
                    kept[entry.name] = _tag(entry)
        finally:
            for name in set(have) - set(kept):
                (folder / name).unlink(missing_ok=True)
            if kept != have:
                write_whole(_note(folder), json.dumps(kept, indent=0))


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a copy's lock: who else wants to change it waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(LOCK.format(folder.name)).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(bucket: Bucket, entry: Entry, folder: Path) -> None:
    if ".." in entry.name.split("/"):
        raise ValueError(f"{bucket.uri}/{entry.name}: leads out of its folder")
    bucket.fetch(entry.name, folder / entry.name)


def _tag(entry: Entry) -> str:
    return f"{entry.size} {entry.tag}"


def _note(folder: Path) -> Path:
    return folder.with_name(NOTE.format(folder.name))


def _tags(folder: Path) -> dict[str, str]:
    try:
        tags: dict[str, str] = json.loads(_note(folder).read_text())
    except (OSError, ValueError):
        return {}
    return {name: tag for name, tag in tags.items() if (folder / name).exists()}
