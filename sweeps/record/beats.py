"""The signs of life of a launch whose record is in a bucket, and what is asked of it there from other machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from linearizer_core.bucket import BucketError
from sweeps.record.lease import Lease, LeaseLost
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import Requests

LOOK = 1.0
"""Seconds between two looks at whether a sign of life is due."""

EXPIRED_SECONDS = 60.0
"""How long credentials may count as expired before the launch stops: a machine's role gets new ones by itself."""


LOST = "another launch has taken it over, since the bucket was away for too long"


class Beats:
    """Renews a lease in a thread of its own, so that nothing that is sent for long keeps it from that.

    ``end`` is called with the reason where another launch has taken the lease, or where the credentials have expired;
    ``tell`` says that the bucket is away, and that it is back.
    """

    def __init__(
        self, lease: Lease, paths: SweepPaths, end: Callable[[str], None], tell: Callable[[str], None]
    ) -> None:
        self._lease = lease
        self._requests = Requests(lease.bucket, paths)
        self._end = end
        self._tell = tell
        self.lost = False
        """Whether another launch has taken the lease."""
        self._away = False
        self._expired: float | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Take up what was asked before, and go on; raises ``BucketError``."""
        self._requests.begin()
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(LOOK):
            try:
                if self._lease.renew():
                    self._requests.take_over()
                    self._heard()
            except LeaseLost:
                self._lose()
                return
            except (BucketError, OSError) as error:
                self._not_heard(error)

    def _heard(self) -> None:
        self._expired = None
        if self._away:
            self._away = False
            self._tell(f"{self._lease.bucket.uri} is back")

    def _not_heard(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            self._tell(f"{error}; the sweep goes on, and is recorded there once that is possible again")
        if not isinstance(error, BucketError) or not error.expired:
            self._expired = None
            return
        self._expired = self._expired or time.monotonic()
        if time.monotonic() - self._expired > EXPIRED_SECONDS:
            with suppress(OSError):
                self._end(str(error))

    def _lose(self) -> None:
        self.lost = True
        with suppress(OSError):
            self._end(LOST)

    def holds(self) -> bool:
        """Whether the lease is still held, after a look; raises ``BucketError`` where that cannot be told."""
        if not self.lost:
            try:
                self._lease.renew(now=True)
            except LeaseLost:
                self.lost = True
        return not self.lost

    def close(self) -> None:
        """Give no more signs of life."""
        self._closing.set()
        self._thread.join()

    def release(self) -> None:
        """Give no more signs of life, and let go of the lease; raises ``BucketError``."""
        self.close()
        self._requests.end()
        self._lease.release()
