"""Where a result comes from."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sweeps.record import provenance
from sweeps.record.opening import keep_uncommitted
from sweeps.record.paths import SweepPaths

NAME = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *NAME, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit, which holds a copy of the code."""
    folder = tmp_path / "checkout"
    (folder / "sweeps").mkdir(parents=True)
    shutil.copy(str(provenance.__file__), folder / "sweeps")
    git(tmp_path, "init", "--quiet", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def copy_of_the_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("provenance_copy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_clean_checkout(checkout: Path) -> None:
    state = copy_of_the_module(checkout / "sweeps" / "provenance.py").git_state()
    assert state == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize(("name", "dirty"), [("sweeps/provenance.py", True), ("notes.txt", False)])
def test_only_changes_to_what_is_tracked_make_a_checkout_dirty(checkout: Path, name: str, dirty: bool) -> None:
    with (checkout / name).open("a") as file:
        file.write("\n# changed\n")
    module = copy_of_the_module(checkout / "sweeps" / "provenance.py")
    patch = {"patch": module.digest(module.uncommitted())} if dirty else {}
    assert module.git_state() == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": dirty, **patch}


def test_the_patch_of_a_dirty_checkout_makes_it_anew(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "config", "diff.noprefix", "true")
    git(checkout, "config", "color.diff", "always")
    (checkout / "weights.bin").write_bytes(bytes(range(256)))
    git(checkout, "add", "weights.bin")
    with (checkout / "sweeps" / "provenance.py").open("a") as file:
        file.write("\n# changed, ä\n")
    module = copy_of_the_module(checkout / "sweeps" / "provenance.py")
    (tmp_path / "changes.patch").write_bytes(module.uncommitted())
    git(tmp_path, "clone", "--quiet", str(checkout), "clone")
    git(tmp_path / "clone", "apply", str(tmp_path / "changes.patch"))
    for name in ("weights.bin", "sweeps/provenance.py"):
        assert (tmp_path / "clone" / name).read_bytes() == (checkout / name).read_bytes()


def test_a_launch_keeps_the_patch_once_and_of_the_code_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = SweepPaths(tmp_path / "demo")
    monkeypatch.setattr("sweeps.record.opening.uncommitted", lambda: b"the changes")

    def kept(git: dict[str, Any]) -> list[str]:
        keep_uncommitted(paths, {"provenance": {"git": git}})
        return [path.name for path in tmp_path.glob("demo/*")]

    assert kept({"commit": None, "dirty": None}) == []
    assert kept({"commit": "c", "dirty": True, "patch": "0" * 12}) == []  # of other changes than there are now
    name = provenance.digest(b"the changes")
    for _ in range(2):
        assert kept({"commit": "c", "dirty": True, "patch": name}) == [f"uncommitted-{name}.patch"]
    assert paths.patch(name).read_bytes() == b"the changes"


def test_no_checkout(tmp_path: Path) -> None:
    copy = shutil.copy(str(provenance.__file__), tmp_path)
    assert copy_of_the_module(Path(copy)).git_state() == {"commit": None, "dirty": None}


def test_an_installed_package_is_not_of_the_commit_of_the_project_around_it(checkout: Path) -> None:
    # A virtual environment inside a project's own checkout.
    installed = checkout / ".venv" / "site-packages" / "sweeps"
    installed.mkdir(parents=True)
    copy = shutil.copy(str(provenance.__file__), installed)
    assert copy_of_the_module(Path(copy)).git_state() == {"commit": None, "dirty": None}


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state() == {"commit": None, "dirty": None}


def test_versions_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = provenance.package_versions()
    assert versions["torch"] == metadata.version("torch")
    assert {"torch", "numpy", "ray", "optuna", "mlflow"} <= set(versions)
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-at-all"))
    assert provenance.package_versions() == {"numpy": metadata.version("numpy")}


def test_hardware_without_the_machines_name() -> None:
    found = provenance.hardware()
    assert set(found) == {"platform", "python", "cpus", "memory_gb", "gpus"}
    assert found["python"] == platform.python_version()
    assert found["platform"] == f"{platform.system()} {platform.machine()}"
    assert platform.node() not in json.dumps(found)


def test_all_of_it_is_json() -> None:
    found = provenance.provenance("abc")
    assert set(found) == {"git", "packages", "hardware", "data_checksum"}
    assert found["data_checksum"] == "abc"
    assert json.loads(json.dumps(found)) == found
