"""Tells whether a launch is alive by its file lock, which the operating system releases however the launch ends."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import IO

LOCK = "launch.lock"
"""The file in a sweep's folder that a launch locks."""

ELSEWHERE = ".runs-elsewhere"
"""A file in the copy of a record in a bucket: is there while a launch keeps the record there."""

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""Error numbers that mean that another process holds the lock; other errors are raised."""

DIED = "its launch died"
"""The reason of a sweep that was interrupted because its launch ended without recording it."""


def taken(file: IO[str]) -> bool:
    """Whether another process holds the lock of an open file; raises ``OSError`` if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return True
    return False


def running(folder: Path) -> bool:
    """Whether a launch holds the lock of the sweep in a folder; raises ``OSError`` if that cannot be told."""
    if (folder / ELSEWHERE).exists():
        return True
    try:
        with (folder / LOCK).open("r") as file:
            return taken(file)
    except FileNotFoundError:
        return False
