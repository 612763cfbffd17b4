"""Who may write a sweep's record in a bucket, which has no locks: the launch that holds its lease.

Each launch writes an object of its own number, which it can make only if nobody has made it, and writes it anew as long
as it lives. The highest number holds the lease. No clock is asked: who wants the lease looks whether its holder writes.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from analysis.record.copies import LEASE as FOLDER
from linearizer_core.bucket import Bucket, BucketError
from sweeps.spec.validation import InputError, Problem

PERIOD = 10.0
"""Seconds between two signs of life."""

PATIENCE = 35.0
"""Seconds without a sign of life after which a launch is taken for dead."""

LOOK = 1.0

TRIES = 3
"""How often the bucket may be away while a sign of life is waited for."""


class LeaseLost(Exception):
    """Another launch has taken the lease, since this one has given no sign of life for too long."""


@dataclass
class Lease:
    """The lease of a sweep while a launch holds it: the launch's number, and what tells it from others."""

    bucket: Bucket
    number: int
    holder: str
    _beats: int = 0
    _last: float = 0.0

    @property
    def _name(self) -> str:
        return f"{FOLDER}/{self.number:06d}.json"

    def _content(self, over: bool = False) -> bytes:
        return json.dumps({"holder": self.holder, "beats": self._beats, "over": over}).encode()

    def renew(self, now: bool = False) -> bool:
        """Give a sign of life, if one is due or ``now``; whether it was. Raises ``LeaseLost``, and ``BucketError``."""
        if not now and self.age < PERIOD:
            return False
        if max(_numbers(self.bucket), default=0) > self.number:
            raise LeaseLost
        self._beats += 1
        self.bucket.write(self._name, self._content())
        self._last = time.monotonic()
        return True

    @property
    def age(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._last

    def release(self) -> None:
        """Let go of it: the next launch need not wait."""
        self._beats += 1
        self.bucket.write(self._name, self._content(over=True))


def held_lease(bucket: Bucket, source: str, died: str | None, waiting: Callable[[], None]) -> tuple[Lease, str | None]:
    """The lease of the sweep at an address, and who held it before, None if nobody did.

    ``died`` is a holder that is known to have died. ``waiting`` is called once where another has to be waited for.
    Raises ``InputError`` where another launch holds it, and ``BucketError`` where the bucket cannot be used.
    """
    numbers = _numbers(bucket)
    number, before = max(numbers, default=0), None
    if number:
        before = _alone(bucket, source, f"{FOLDER}/{number:06d}.json", died, waiting)
    lease = Lease(bucket, number + 1, secrets.token_hex(8))
    if not bucket.create(f"{FOLDER}/{lease.number:06d}.json", lease._content()):
        raise _taken(source)
    lease._last = time.monotonic()
    bucket.remove(f"{FOLDER}/{each:06d}.json" for each in numbers if each < number)
    return lease, before


def _alone(bucket: Bucket, source: str, name: str, died: str | None, waiting: Callable[[], None]) -> str | None:
    """Wait until the holder of a lease has let go of it, or has not been heard of for too long; who it was."""
    content = bucket.read(name)
    values = json.loads(content)
    holder = str(values["holder"])
    if values["over"] or holder == died:
        return holder
    waiting()
    deadline, failed = time.monotonic() + PATIENCE, 0
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        try:
            now = bucket.read(name)
        except BucketError as error:
            failed += 1
            if not error.passing or failed == TRIES:
                raise
            deadline = time.monotonic() + PATIENCE  # a sign of life may have come meanwhile, and gone unseen
            continue
        if now != content:
            if json.loads(now)["over"]:
                return holder
            raise _taken(source)
    return holder


def _taken(source: str) -> InputError:
    message = "is being carried out already, by a launch that may be on another machine"
    return InputError(source, [Problem("name", message)])


def _numbers(bucket: Bucket) -> list[int]:
    names = [entry.name.removeprefix(f"{FOLDER}/").removesuffix(".json") for entry in bucket.entries(FOLDER)]
    return [int(name) for name in names if name.isdigit()]
