"""Where a private Ray keeps its files, and heads that do not answer."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from sweeps.execution import ray_connection, ray_internals
from sweeps.execution.ray_connection import SOCKET_LIMIT, connected, ray_folder
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
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert ray_folder().parent.is_dir()
    assert not Path("/nowhere").exists()


def test_no_folder_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "SOCKET_LIMIT", 10)
    with pytest.raises(InputError, match="set TMPDIR to a folder"):
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
