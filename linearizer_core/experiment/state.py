"""The state that an interrupted trial goes on from: two files of it, each of which tells whether it is whole."""

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
"""Of a file: then the SHA-256 of the rest in 64 hexadecimal digits and a newline, then what ``torch.save`` wrote."""

DIGEST = 64


@dataclass(frozen=True)
class Loaded:
    """``state`` is the newest that is whole, None if there is none; ``damaged`` says what could not be read."""

    state: dict[str, Any] | None
    damaged: list[str]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state, and keep the one that was there as the one before.

    At every moment, a crash's included, there is a whole file of the newest state or of the one before. Raises
    ``OSError`` if it cannot be written; the older states are then as they were.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    remove_unfinished(path)  # a state may be gigabytes, and each crash would leave one
    with whole(path, previous=_before(path)) as temporary, temporary.open("wb") as file:
        file.write(HEADER + hashlib.sha256(payload).hexdigest().encode() + b"\n")
        file.write(payload)


def load_state(path: Path) -> Loaded:
    """The newest of both states that can be read."""
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
    """Remove both states, and what a crash left of a third, where there are any."""
    remove_unfinished(path)
    # Versions before had one name for what they were writing.
    for file in (path, _before(path), path.with_suffix(SUFFIX)):
        file.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Any]:
    content = memoryview(file.read_bytes())
    start = len(HEADER) + DIGEST + 1
    if bytes(content[: len(HEADER)]) != HEADER:
        raise ValueError("is not a saved state of this version")
    if bytes(content[len(HEADER) : start]) != hashlib.sha256(content[start:]).hexdigest().encode() + b"\n":
        raise ValueError("is damaged: its SHA-256 is another than it was written with")
    state: dict[str, Any] = torch.load(io.BytesIO(content[start:]), map_location="cpu", weights_only=True)
    return state


def _before(path: Path) -> Path:
    return path.with_suffix(f".before{path.suffix}")
