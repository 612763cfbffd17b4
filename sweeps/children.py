"""The Python processes that a sweep starts; none of them imports modules from the user's current folder."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

WINDOWLESS = {"MPLBACKEND": "agg"}
"""Figures go into files; the backend of a notebook or desktop may be missing here, and matplotlib would not load."""

NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true"}
"""Keep MLflow from reporting its use to its makers, unless the environment asks for it."""

PACKAGES = ("linsweep", "sweeps", "analysis", "linearizer_core")
ROOT = Path(__file__).resolve().parents[1]
"""The folder that this package runs from: a checkout, or the place of installation."""


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module; start it with ``environment()``.

    ``-P`` keeps the current folder off its path: that may hold the user's own ``random.py`` or ``sweeps/``.

    >>> module("mlflow", "server")[1:]
    ['-P', '-m', 'mlflow', 'server']
    """
    return [sys.executable, "-P", "-m", name, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, with a ``PYTHONPATH`` that does not depend on the folder a child runs in.

    An empty entry, which means the child's current folder, is dropped, and so is one that ``shadows`` these packages;
    the others become absolute. If this package runs from a checkout, the children find it there.
    """
    entries = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    named = [str(entry) for entry in entries if not shadows(entry)]
    here = str(ROOT)
    if here not in named and here not in {str(Path(folder).resolve()) for folder in _installed()}:
        named.append(here)
    kept = NO_TELEMETRY | {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | WINDOWLESS
    return kept | ({"PYTHONPATH": os.pathsep.join(named)} if named else {})


def shadows(folder: Path) -> bool:
    """Whether a folder on Python's path would replace one of our packages by another module."""
    if folder.resolve() == ROOT:
        return False
    return any((folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file() for name in PACKAGES)


def _installed() -> list[str]:
    """The folders in which Python looks for packages by itself."""
    return [*site.getsitepackages(), site.getusersitepackages()]
