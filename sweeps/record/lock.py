"""Locks on files; the operating system releases them when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from typing import IO

from analysis.record.launches import HELD

PERIOD = 0.1


def take(file: IO[str], seconds: float) -> None:
    """Lock an open file for this process alone.

    Raises ``TimeoutError`` if another process holds it for this long, ``OSError`` if the file system has no locks.
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
