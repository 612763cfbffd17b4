"""Artifacts and saved states in a bucket: each object is named by the digest of what it has, and never changes.

What there is of them is noted in small files of the record, which follow the objects: a reader sees all of an artifact
or nothing, and never that of an attempt that came to nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from linearizer_core.bucket import Bucket, BucketError

DIGITS = 16
"""Of a digest in a name: enough to tell what one trial has written apart."""

KEPT = 2
"""States of a trial that are kept, as on a disk."""

PIECE = 1 << 20

AT_ONCE = 16
"""Objects that are copied at the same time."""


def put_artifacts(bucket: Bucket, folder: Path, trial: str) -> dict[str, Any]:
    """Write the artifacts in a trial's folder into the bucket of its sweep; the note of them.

    Raises ``BucketError``; what is there by then is not written again.
    """
    files: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        with path.open("rb") as file:
            digest = _digest(file)
            key = f"artifacts/{trial}/{digest[:DIGITS]}/{name}"
            bucket.write(key, file)
            files[name] = {"key": key, "sha256": digest, "size": file.seek(0, 2)}
    return {"files": files}


def copy_artifacts(storage: str, sweep: str, note: Path, other: str, trial: str) -> bytes:
    """Copy the artifacts that a note of one sweep names to a trial of another one, within their storage; its note.

    Raises ``BucketError``.
    """
    bucket = Bucket(storage)
    files: Mapping[str, Any] = json.loads(note.read_text())["files"]
    keys = {name: f"artifacts/{trial}/{file['sha256'][:DIGITS]}/{name}" for name, file in files.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        copies = [
            pool.submit(bucket.copy, f"{sweep}/{file['key']}", f"{other}/{keys[name]}") for name, file in files.items()
        ]
        for copy in copies:
            copy.result()
    return as_note({"files": {name: {**file, "key": keys[name]} for name, file in files.items()}})


def put_state(bucket: Bucket, file: IO[bytes], trial: str, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a saved state into the bucket of its sweep; the notes of the newest states, this one first.

    Raises ``BucketError``.
    """
    digest = _digest(file)
    key = f"training/{trial}/{digest[:DIGITS]}.pt"
    state: dict[str, Any] = {"key": key, "sha256": digest, "size": file.seek(0, 2)}
    file.seek(0)
    bucket.write(key, file)
    return [state, *(each for each in states if each["key"] != state["key"])][:KEPT]


def fetch_state(bucket: Bucket, states: list[dict[str, Any]], path: Path) -> None:
    """Fetch the newest state that is whole; nothing where there is none.

    Raises ``BucketError`` where the bucket cannot be read.
    """
    for state in states:
        try:
            bucket.fetch(state["key"], path, state["sha256"])
        except FileNotFoundError:
            continue
        except BucketError as error:
            if error.passing:
                raise
            continue  # damaged: the one before is nearly as good
        return


def states_in(note: Path) -> list[dict[str, Any]]:
    """The states that a note names, the newest first; none if there is no note."""
    try:
        states: list[dict[str, Any]] = json.loads(note.read_text())["states"]
    except FileNotFoundError:
        return []
    return states


def as_note(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=0) + "\n").encode()


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()
