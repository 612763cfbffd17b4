"""Locks on files, which the system lets go of when the process that holds them ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from typing import IO

PERIOD = 0.1


def take(file: IO[str], seconds: float) -> None:
    """Lock an open file for this process alone; raises ``TimeoutError`` when another keeps it for so long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(PERIOD)


def taken(file: IO[str]) -> bool:
    """Whether another process holds the lock of an open file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
