"""Locks on files, which the system lets go of when the process that holds them ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import time
from typing import IO

PERIOD = 0.1

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""What the system answers where another process holds a lock; anything else is a reason of its own."""


def take(file: IO[str], seconds: float) -> None:
    """Lock an open file for this process alone.

    Raises ``TimeoutError`` when another keeps it for so long, ``OSError`` where the file system has no locks.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in HELD:
                raise
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(PERIOD)


def taken(file: IO[str]) -> bool:
    """Whether another process holds the lock of an open file; raises ``OSError`` where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return True
    return False
