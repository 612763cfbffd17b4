"""Imports of the packages installed beside this one, whatever the current folder holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

SIBLINGS = ("analysis", "linearizer_core", "sweeps")
ROOT = Path(__file__).resolve().parent.parent


class SiblingFinder:
    """Finds ``sweeps``, ``analysis`` and ``linearizer_core`` beside ``linsweep``, and nothing else.

    These are common names: a folder of experiments may have its own ``sweeps/`` or ``analysis/``, and Python searches
    the current folder first (in a notebook or REPL, with ``python -m``, and with an empty entry in PYTHONPATH). Once
    installed, the finder resolves the three names before ``sys.path`` is searched.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The sibling of that name, or None for any other module, which Python then looks for itself."""
        return PathFinder.find_spec(name, [str(ROOT)], target) if name in SIBLINGS else None

    @classmethod
    def install(cls) -> None:
        """Put the finder first, once.

        Raises ``ImportError``, naming the file, if another module with one of the names was imported before.
        """
        for name in SIBLINGS:
            place = _place(sys.modules.get(name))
            if place is not None and place != ROOT / name:
                raise ImportError(
                    f"linsweep needs its own package {name}, but {name} was already imported from {place}; "
                    "import linsweep first, or rename that package"
                )
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)


def _place(module: ModuleType | None) -> Path | None:
    """The folder of a package or the file of a module; None if it was not imported or has no file."""
    if module is None:
        return None
    if module.__file__ is not None:
        file = Path(module.__file__).resolve()
        return file.parent if file.name == "__init__.py" else file
    return next((Path(folder).resolve() for folder in getattr(module, "__path__", ())), None)
