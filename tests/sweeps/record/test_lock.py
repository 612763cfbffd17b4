"""Locks, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from analysis.record.launches import taken
from sweeps.record.lock import take
from sweeps.record.paths import SweepPaths
from sweeps.record.writers import only_launch
from sweeps.spec.validation import InputError


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("r") as second:
        take(first, 0)
        assert taken(second)
        with path.open("r") as third, pytest.raises(TimeoutError):
            take(third, 0)
    with path.open("r") as file:
        assert not taken(file)


def test_a_file_system_without_locks_is_the_reason_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match=r"launch\.lock cannot be locked: No locks available; use a file system with"),
        only_launch("spec.yaml", SweepPaths(tmp_path / "demo")),
    ):
        pass
