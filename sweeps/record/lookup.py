"""A recorded sweep, by its name or its folder."""

from __future__ import annotations

from pathlib import Path

from sweeps.spec.validation import InputError, Problem, suggestion


def find_sweep(name: str, storage: Path) -> Path:
    """The folder of a recorded sweep; raises ``InputError`` that names those there are."""
    for folder in (storage / name, Path(name)):
        if (folder / "sweep.json").exists():
            return folder
    known = sorted(path.parent.name for path in storage.glob("*/sweep.json"))
    hint = suggestion(name, known) if known else f"{storage} holds none; launch one or give --storage"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])
