"""A record in a bucket as a launch keeps it there: the small files of its folder, in numbered pieces.

A piece is a JSON object a line: a part of a file, or that a file is gone. A launch begins with a piece that has
everything (its name ends with WHOLE), and goes on with what has changed; its number stands in front of those of its
pieces. So whatever an earlier launch still writes comes before the piece that has everything, and counts no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from linearizer_core.bucket import Bucket, BucketError
from linearizer_core.files import write_whole

FOLDER = "pieces"
"""Where pieces are, below the address of a sweep."""

WHOLE = "-whole.jsonl"

TRIES = 5
"""How often pieces are looked up again that were put together into another one meanwhile."""


@dataclass(frozen=True)
class Part:
    """Some bytes of a file, by its name in the sweep's folder; it ends with them. Without bytes the file is gone."""

    file: str
    offset: int
    content: bytes | None


def piece_name(launch: int, number: int, whole: bool = False) -> str:
    """What a piece is called, in the order in which pieces count.

    >>> piece_name(1, 12) < piece_name(2, 0, whole=True) < piece_name(2, 1)
    True
    """
    return f"{launch:06d}-{number:08d}{WHOLE if whole else '.jsonl'}"


def packed(parts: Iterable[Part]) -> bytes:
    """Parts as a piece has them."""
    return "".join(_line(part) for part in parts).encode()


def _line(part: Part) -> str:
    if part.content is None:
        return json.dumps({"file": part.file}) + "\n"
    # What is no UTF-8, of a damaged line, is kept as it is.
    text = part.content.decode("utf-8", "surrogateescape")
    return json.dumps({"file": part.file, "offset": part.offset, "text": text}) + "\n"


def unpacked(content: bytes) -> Iterator[Part]:
    """The parts of a piece; raises ``ValueError`` for what is none."""
    for line in content.splitlines():
        values = json.loads(line)
        name = values["file"]
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name} leads out of the folder")
        text = values.get("text")
        yield Part(name, values.get("offset", 0), None if text is None else text.encode("utf-8", "surrogateescape"))


def put(folder: Path, parts: Iterable[Part]) -> set[str]:
    """Bring parts into a folder; the names of the files that have some."""
    names = set()
    for part in parts:
        path = folder / part.file
        if part.content is None:
            path.unlink(missing_ok=True)
            names.discard(part.file)
            continue
        names.add(part.file)
        if part.offset == 0:
            write_whole(path, part.content)
            continue
        with path.open("r+b") as file:
            file.truncate(part.offset)
            file.seek(0, os.SEEK_END)
            file.write(part.content)
    return names


def that_count(names: Sequence[str]) -> list[str]:
    """Of the names of pieces those that count, in their order: the last whole one, and what came after it."""
    ordered = sorted(names)
    last = max((index for index, name in enumerate(ordered) if name.endswith(WHOLE)), default=len(ordered))
    return ordered[last:]


def put_together(bucket: Bucket, folder: Path) -> bool:
    """Make a folder have the record that a launch keeps in a bucket; False where there is none.

    The folder keeps a note of what it has; only later pieces are fetched. Nobody else may be changing it. Raises
    ``BucketError`` where the bucket cannot be read.
    """
    for _ in range(TRIES):
        names = that_count([entry.name.removeprefix(f"{FOLDER}/") for entry in bucket.entries(FOLDER)])
        if not names:
            return False
        try:
            _follow(bucket, folder, names)
        except FileNotFoundError:
            continue  # put together meanwhile
        return True
    raise BucketError(f"{bucket.uri}/{FOLDER}: changes while it is read", passing=True)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.pieces.json")


def forget(folder: Path) -> None:
    """Have the next ``put_together`` begin anew: the folder is changed otherwise from here on."""
    _note(folder).unlink(missing_ok=True)


def _follow(bucket: Bucket, folder: Path, names: Sequence[str]) -> None:
    try:
        known = json.loads(_note(folder).read_text())
        before, files = str(known["piece"]), set(known["files"])
    except (OSError, ValueError, KeyError, TypeError):
        before, files = "", None
    if before not in names:
        content = bucket.read(f"{FOLDER}/{names[0]}")
        forget(folder)
        found = put(folder, unpacked(content))
        for name in (files or set()) - found:
            (folder / name).unlink(missing_ok=True)
        files, before = found, names[0]
        _keep(folder, before, files)
    assert files is not None
    for name in names[names.index(before) + 1 :]:
        parts = list(unpacked(bucket.read(f"{FOLDER}/{name}")))
        files |= put(folder, parts)
        files -= {part.file for part in parts if part.content is None}
        _keep(folder, name, files)


def _keep(folder: Path, piece: str, files: set[str]) -> None:
    write_whole(_note(folder), json.dumps({"piece": piece, "files": sorted(files)}))
