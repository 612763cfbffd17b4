"""Where a private Ray keeps its files, heads that do not answer, and what is left as it was found."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from sweeps.execution import ray_connection, ray_internals
from sweeps.execution.choice import executor_for
from sweeps.execution.ray_connection import SOCKET_LIMIT, connected, ray_folder
from sweeps.execution.ray_tune import RayTune
from sweeps.spec.load import load
from sweeps.spec.validation import InputError


@pytest.fixture(autouse=True)
def _own_tempdir(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python remembers its folder for temporary files: here it looks anew."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)


def test_rays_files_are_in_the_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        tempfile.tempdir = None
        assert ray_folder() == Path(folder, "ray")


def test_a_folder_whose_sockets_would_have_too_long_a_name_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    found = ray_folder()
    assert long not in found.parents
    assert len(os.fsencode(found.parent / ray_internals.SOCKET)) <= SOCKET_LIMIT


def test_a_folder_that_is_not_there_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setenv("TMPDIR", str(gone))
    assert ray_folder().parent.is_dir()
    assert not gone.exists()


def test_no_folder_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "SOCKET_LIMIT", 10)
    with pytest.raises(InputError, match="set TMPDIR to a writable folder"):
        ray_folder()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "[::1]:{port}", "no.such.host.invalid:{port}", "auto"])
def test_a_head_that_does_not_answer_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What --address auto means is in the environment.
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(InputError) as caught, connected(address.format(port=port)):
        pass
    assert time.monotonic() - began < 30
    assert f"no Ray cluster at {address.format(port=port)}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_do_not_import_from_a_scripts_folder_with_packages_of_our_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "__init__.py").touch()
    before = [str(tmp_path.resolve()), *sys.path]
    monkeypatch.setattr(sys, "path", list(before))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py")])
    during: list[list[str]] = []
    monkeypatch.setattr(ray, "init", lambda **options: during.append(list(sys.path)))
    with connected(None):
        assert sys.path == before
    assert during == [before[1:]]


def test_a_ray_of_the_users_is_refused_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    with (
        pytest.raises(InputError, match=r"Ray: is running in this process; call ray\.shutdown\(\) first"),
        connected(None),
    ):
        pass
    # A launch says so before it writes anything.
    with pytest.raises(InputError, match="is running in this process"):
        RayTune().check(load("quickstart"))
    assert ended == []


def test_the_users_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("TUNE_RESULT_DIR", "/mine")
    monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
    before, during = dict(os.environ), dict[str, str]()
    monkeypatch.setattr(ray, "init", lambda **options: during.update(os.environ))
    with executor_for(None, None).reached():
        assert dict(os.environ) == before
    with connected(None):
        os.environ[ray_internals.PENDING_LIMIT] = "2"
    assert "RAY_ADDRESS" not in during
    assert "TUNE_RESULT_DIR" not in during
    assert during["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert dict(os.environ) == before


def test_auto_is_the_cluster_that_the_environment_names_after_a_plan_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probed: list[str] = []
    joined: list[tuple[str, str]] = []
    monkeypatch.setattr(ray_connection, "_probe", probed.append)
    monkeypatch.setattr(ray, "init", lambda address, **_: joined.append((address, os.environ["RAY_ADDRESS"])))
    monkeypatch.setattr(ray, "nodes", list[Any])
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    executor_for(None, None)
    with executor_for("auto", None).reached():
        pass
    assert probed == ["head:6379"]
    assert joined == [("auto", "head:6379")]
