"""Whether a launch of a sweep lives: it holds a lock, which the system lets go of when it ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import IO

LOCK = "launch.lock"
"""The file in a sweep's folder that a launch locks."""

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""What the system answers where another process holds a lock; anything else is a reason of its own."""

DIED = "its launch died"
"""Why a sweep is interrupted that nobody has ended in order."""


def taken(file: IO[str]) -> bool:
    """Whether another process holds the lock of an open file; raises ``OSError`` where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return True
    return False


def running(folder: Path) -> bool:
    """Whether a launch holds the lock of the sweep in a folder; raises ``OSError`` where that cannot be told."""
    try:
        with (folder / LOCK).open("r") as file:
            return taken(file)
    except FileNotFoundError:
        return False
