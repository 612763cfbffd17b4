"""Whatever the current folder holds, the command and the API import their own packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sweeps", "analysis", "linearizer_core")
MODULES = ("yaml.py", "random.py")

CONSOLE = "from linsweep.__main__ import main; main()"
"""What the console script runs."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with packages and modules of the names that are imported, each of which raises."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise AssertionError('the wrong {name}')\n")
    for name in MODULES:
        (tmp_path / name).write_text(f"raise AssertionError('the wrong {name}')\n")
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder; the checkout comes after the current folder, which an empty entry stands for."""
    env = os.environ | {"PYTHONPATH": f":{ROOT}", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("how", [("-m", "linsweep"), ("-c", CONSOLE)], ids=["module", "console script"])
def test_the_command_in_a_folder_with_packages_of_its_names(folder: Path, how: tuple[str, ...]) -> None:
    plan = python(folder, *how, "plan", "quickstart")
    assert plan.returncode == 0, plan.stderr
    assert "Nothing was started. Next: linsweep launch quickstart" in plan.stdout
    table = python(folder, *how, "table", "quickstart")
    assert (
        table.stderr == "quickstart: no sweep of this name in runs; runs has no sweeps; launch one or give --storage\n"
    )
    assert python(folder, *how, "--help").returncode == 0


def test_the_api_in_a_folder_with_packages_of_its_names(folder: Path) -> None:
    for name in MODULES:  # the interpreter is the user's: what is a plain module there is what they mean
        (folder / name).unlink()
    done = python(folder, "-c", "import linsweep as ls; print(ls.plan('quickstart').sweep.name)")
    assert (done.returncode, done.stdout) == (0, "quickstart\n"), done.stderr


@pytest.mark.parametrize("kind", ["package", "namespace", "module"])
def test_a_module_that_was_imported_before_is_named(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "sweeps"
    if kind == "module":
        place = tmp_path / "sweeps.py"
        place.write_text("")
    else:
        place.mkdir()
        (place / ("__init__.py" if kind == "package" else "mine.py")).write_text("")
    # A namespace gives way to any package further on, so that only its own folder may be searched.
    done = python(
        tmp_path,
        "-c",
        "import sys; path, sys.path[:] = sys.path[:], ['']; import sweeps; sys.path[:] = path; import linsweep"
        if kind == "namespace"
        else "import sweeps, linsweep",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: linsweep needs its own package sweeps, but sweeps was already imported from {place}; "
        "import linsweep first, or rename that package"
    )


def test_importing_twice_adds_one_finder() -> None:
    code = (
        "import importlib, sys, linsweep; importlib.reload(linsweep);"
        "print([each.__name__ for each in sys.meta_path if isinstance(each, type)].count('SiblingFinder'))"
    )
    assert python(ROOT, "-c", code).stdout == "1\n"
