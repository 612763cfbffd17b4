"""Records in a bucket, read by way of local copies: what has not changed is not fetched again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.record.launches import ELSEWHERE
from analysis.record.pieces import FOLDER as PIECES
from analysis.record.pieces import put_together
from analysis.record.sweep_info import RecordError
from linearizer_core.bucket import Bucket, address
from linearizer_core.files import write_whole
from linearizer_core.mirror import NOTE, cache_folder, folder_name, mirrored, only_one

ORIGIN = ".origin"
"""In a folder of copies: the address that it has copies of."""

CACHE = "cache"
"""The folder of a storage that has its feature classifiers."""

LEASE = "lease"
"""Below a sweep in a bucket: the signs of life of the launch that carries it out."""

ALIVE = 90.0
"""Seconds since its last sign of life for which a launch is taken to live, by the bucket's clock and this one."""

SMALL = ("sweep.json", "ledger.json", "journal", "superseded", "plugins", "requests", "stop")
"""What every reader of a record may ask for, by the first part of its name; artifacts come when they are."""


def copies_of(storage: str) -> Path:
    """The local folder that has the copies of a storage's sweeps, by its address in a bucket."""
    return _folder_of(storage, "copies")


def work_folder(storage: str) -> Path:
    """The local folder in which launches of this machine keep the records of a storage in a bucket, by its address."""
    return _folder_of(storage, "launches")


def _folder_of(storage: str, what: str) -> Path:
    folder = cache_folder() / what / folder_name(storage)
    if not (folder / ORIGIN).exists():
        write_whole(folder / ORIGIN, storage)
    return folder


def origin_of(storage: Path) -> str | None:
    """The address that a folder has copies of; None for a folder that is no copy."""
    try:
        return (storage / ORIGIN).read_text()
    except OSError:
        return None


def sweep_names(storage: str) -> list[str]:
    """The sweeps in a storage in a bucket; raises ``BucketError`` where that cannot be told."""
    bucket = Bucket(storage)
    return [name for name in bucket.top()[0] if holds_sweep(Bucket(f"{storage}/{name}"))]


def holds_sweep(bucket: Bucket) -> bool:
    """Whether there is a sweep's record at an address: as a launch keeps it, or the copy of a folder."""
    folders, objects = bucket.top()
    return PIECES in folders or "sweep.json" in objects


def kept_by_launches(bucket: Bucket) -> bool:
    """Whether the record at an address is one that launches keep there, and no copy of a folder."""
    return PIECES in bucket.top()[0]


def copied(uri: str) -> Path:
    """The local copy of a sweep's record as it is now, without its artifacts, by its address in a bucket.

    Raises ``RecordError`` where no sweep is there, and ``BucketError`` where the bucket cannot be read.
    """
    uri = address(uri)
    storage, _, name = uri.rpartition("/")
    if storage.endswith(":/"):
        raise RecordError(f"{uri}: is a bucket, and a sweep is in a folder of it")
    folder = copies_of(storage) / name
    bucket = Bucket(uri)
    with only_one(folder):
        kept = put_together(bucket, folder)
    if kept:
        if _is_held(bucket):
            (folder / ELSEWHERE).touch()
        else:
            (folder / ELSEWHERE).unlink(missing_ok=True)
        return folder
    mirrored(bucket, folder, [entry for entry in bucket.entries() if _is_small(entry.name)])
    if not (folder / "sweep.json").exists():
        raise RecordError(f"{uri}/sweep.json: there is no such object; a sweep's record is at STORAGE/SWEEP")
    return folder


def _is_small(name: str) -> bool:
    return name.partition("/")[0] in SMALL or name.startswith("shipped")


def _is_held(bucket: Bucket) -> bool:
    """Whether a launch seems to live that keeps the record in a bucket."""
    entries = bucket.entries(LEASE)
    if not entries or time.time() - entries[-1].modified.timestamp() > ALIVE:
        return False
    return not json.loads(bucket.read(entries[-1].name))["over"]


def fetch_cache(folder: Path) -> None:
    """Fetch the feature classifiers of a storage beside a copy of one of its sweeps; nothing where it is no copy.

    Raises ``BucketError`` where the bucket cannot be read.
    """
    storage = origin_of(folder.parent)
    if storage is not None:
        bucket = Bucket(f"{storage}/{CACHE}")
        mirrored(bucket, folder.parent / CACHE, bucket.entries())


def fetch_artifacts(folder: Path, trial: str, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Fetch the artifacts of a trial into a copy, those whose names in its folder are wanted; nothing where the folder
    of the sweep is no copy.

    Raises ``BucketError`` where the bucket cannot be read.
    """
    storage = origin_of(folder.parent)
    if storage is None:
        return
    note, own = folder / "artifacts" / f"{trial}.json", folder / "artifacts" / trial
    if note.exists():
        _fetch_noted(Bucket(f"{storage}/{folder.name}"), json.loads(note.read_text())["files"], own, wanted)
        return
    if (folder / "sweep.json").exists() and not (folder.with_name(NOTE.format(folder.name))).exists():
        return  # as a launch keeps it: what has no note is not there
    bucket = Bucket(f"{storage}/{folder.name}/artifacts/{trial}")
    mirrored(bucket, folder / "artifacts" / trial, [entry for entry in bucket.entries() if wanted(entry.name)])


def _fetch_noted(bucket: Bucket, files: Mapping[str, Any], folder: Path, wanted: Callable[[str], bool]) -> None:
    """Fetch the files that a note names with their digests; those that are here are not fetched again."""
    for name, file in files.items():
        path = folder / name
        if wanted(name) and ".." not in name.split("/") and not _is_here(path, file):
            bucket.fetch(file["key"], path, file["sha256"])


def _is_here(path: Path, file: Mapping[str, Any]) -> bool:
    if not path.exists() or path.stat().st_size != file["size"]:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file["sha256"]
