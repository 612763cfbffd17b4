"""The Python processes that a sweep starts: none takes a module from the folder that its user happens to be in."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

WINDOWLESS = {"MPLBACKEND": "agg"}
"""Figures go into files: what a notebook or a desktop asks for may not be there, and matplotlib refuses to load."""

NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true"}
"""MLflow would tell its makers of its use: not from the processes of a sweep, unless the environment asks for it."""

PACKAGES = ("linsweep", "sweeps", "analysis", "linearizer_core")
ROOT = Path(__file__).resolve().parents[1]
"""The folder that this package runs from: a checkout, or where it is installed."""


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module; to be started with ``environment()``.

    ``-P`` keeps the current folder, which may hold a ``random.py`` or a ``sweeps/`` of the user's, off its path.

    >>> module("mlflow", "server")[1:]
    ['-P', '-m', 'mlflow', 'server']
    """
    return [sys.executable, "-P", "-m", name, *arguments]


def environment() -> dict[str, str]:
    """This process's environment with a ``PYTHONPATH`` that means the same wherever a child runs.

    An empty entry would be the child's current folder, whatever that is, and is left out, as is one that ``shadows``
    these packages; the others are made absolute. Where this package runs from a checkout, it is found there.
    """
    entries = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    named = [str(entry) for entry in entries if not shadows(entry)]
    here = str(ROOT)
    if here not in named and here not in {str(Path(folder).resolve()) for folder in _installed()}:
        named.append(here)
    kept = NO_TELEMETRY | {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | WINDOWLESS
    return kept | ({"PYTHONPATH": os.pathsep.join(named)} if named else {})


def shadows(folder: Path) -> bool:
    """Whether a folder that Python looks into would give it another module in the place of one of our packages."""
    if folder.resolve() == ROOT:
        return False
    return any((folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file() for name in PACKAGES)


def _installed() -> list[str]:
    """The folders that Python looks for packages in by itself."""
    return [*site.getsitepackages(), site.getusersitepackages()]
