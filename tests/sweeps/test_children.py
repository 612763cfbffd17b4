"""The processes that a sweep starts take no module from the folder that they are started in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweeps
from sweeps.children import environment, module

HERE = str(Path(sweeps.__file__).parents[1])
DECOYS = ("sweeps", "analysis", "linsweep", "linearizer_core", "yaml", "random", "ray", "optuna", "mlflow")


@pytest.fixture
def decoys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules and packages that raise when they are imported."""
    folder = tmp_path / "decoys"
    for name in DECOYS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the {name} of the current folder')\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("path", [None, "", os.pathsep, f"{os.pathsep}{HERE}", f"{HERE}{os.pathsep}"])
def test_the_current_folder_is_not_imported_from(
    decoys: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path)
    done = subprocess.run(module("linsweep", "--help"), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "launch" in done.stdout


def test_folders_that_are_named_are_named_whole(decoys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", "", "/elsewhere"]))
    entries = environment()["PYTHONPATH"].split(os.pathsep)
    assert entries[:2] == [str(decoys / "lib"), "/elsewhere"]
    assert "" not in entries
    assert set(entries[2:]) <= {HERE}


def test_a_folder_that_holds_a_package_of_our_name_is_left_out(decoys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "/elsewhere", HERE]))
    entries = environment()["PYTHONPATH"].split(os.pathsep)
    assert entries == ["/elsewhere", HERE]
    command = [sys.executable, "-P", "-c", "import sweeps; print(sweeps.__file__)"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sweeps.__file__


@pytest.mark.parametrize(("told", "sent"), [(None, False), ("false", True), ("true", False)])
def test_mlflow_tells_nobody_of_its_use_unless_asked_to(
    told: str | None, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MLflow sends nothing from a test or from CI either.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    if told is not None:
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", told)
    code = "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    command = [sys.executable, "-c", code]
    told_off = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True).stdout.strip()
    assert told_off == str(not sent)
