"""The state from which an interrupted trial continues: two files, each with a checksum that proves it complete."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from linearizer_core.files import SUFFIX, remove_unfinished, whole

HEADER = b"linearizer state 2\n"
"""First line of a state file; then come the SHA-256 of the rest in hexadecimal, a newline, and ``torch.save``'s bytes.

"""

DIGEST = 64


@dataclass(frozen=True)
class Loaded:
    """``state`` is the newest intact state, None if there is none; ``damaged`` says what could not be read."""

    state: dict[str, Any] | None
    damaged: list[str]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state, keeping the existing one as the previous state.

    At every moment, even after a crash, there is an intact file of the newest state or of the previous one. Raises
    ``OSError`` if the state cannot be written; the older states are then unchanged.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    remove_unfinished(path)  # a state can be gigabytes, and every crash would leave an unfinished one
    with whole(path, previous=_before(path)) as temporary, temporary.open("wb") as file:
        file.write(HEADER + hashlib.sha256(payload).hexdigest().encode() + b"\n")
        file.write(payload)


def load_state(path: Path) -> Loaded:
    """The newest of the two states that can be read."""
    damaged: list[str] = []
    for file in (path, _before(path)):
        try:
            return Loaded(_read(file), damaged)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            damaged.append(f"{file.name}: {error}")
    return Loaded(None, damaged)


def remove_state(path: Path) -> None:
    """Remove both states, anything that a crash left of a third, and the note of states in a bucket, if they exist."""
    remove_unfinished(path)
    # Earlier versions used a single name for the file being written.
    for file in (path, _before(path), path.with_suffix(SUFFIX), path.with_suffix(".json")):
        file.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Any]:
    content = memoryview(file.read_bytes())
    start = len(HEADER) + DIGEST + 1
    if bytes(content[: len(HEADER)]) != HEADER:
        raise ValueError("not a saved state of this version")
    if bytes(content[len(HEADER) : start]) != hashlib.sha256(content[start:]).hexdigest().encode() + b"\n":
        raise ValueError("damaged: its SHA-256 differs from the one written")
    state: dict[str, Any] = torch.load(io.BytesIO(content[start:]), map_location="cpu", weights_only=True)
    return state


def _before(path: Path) -> Path:
    return path.with_suffix(f".before{path.suffix}")
