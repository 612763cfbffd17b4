"""What a sweep has spent, over all its launches; written while it runs, so that a crash loses seconds of it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Budget, Resources
from sweeps.spec.validation import InputError, Problem

PERIOD = 5.0
"""Seconds between two writes: a reader takes a launch that has written nothing for much longer for dead."""


@dataclass
class Spent:
    """What one launch took: times in UNIX seconds, ``trial_seconds`` summed over the trials that ran."""

    started: float
    seen: float
    seconds: float = 0.0
    trial_seconds: float = 0.0
    gpu_seconds: float = 0.0
    ended: bool = False


@dataclass
class Ledger:
    """The launches of a sweep, the last one being the one that counts now."""

    paths: SweepPaths
    launches: list[Spent] = field(default_factory=list)

    @classmethod
    def read(cls, paths: SweepPaths) -> Ledger:
        """The ledger of a sweep, empty if there is none; fields that later versions have added are left out.

        Raises ``InputError`` naming the file where it cannot be read: what is spent must not start again at nothing.
        """
        try:
            rows = json.loads(paths.ledger.read_text(encoding="utf-8"))["launches"]
            return cls(paths, [_spent(row) for row in rows])
        except FileNotFoundError:
            return cls(paths)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = (
                f"the hours that are spent cannot be read ({type(error).__name__}: {error}); put the file back, "
                "or remove it, and they are counted from nothing"
            )
            raise InputError(str(paths.ledger), [Problem("", message)]) from None

    @property
    def hours(self) -> float:
        """Wall time in which trials ran."""
        return sum(launch.seconds for launch in self.launches) / 3600

    @property
    def trial_hours(self) -> float:
        """Time summed over trials."""
        return sum(launch.trial_seconds for launch in self.launches) / 3600

    @property
    def gpu_hours(self) -> float:
        """Time × GPUs summed over trials."""
        return sum(launch.gpu_seconds for launch in self.launches) / 3600

    @property
    def seen(self) -> float | None:
        """When a launch last wrote, in UNIX seconds."""
        return self.launches[-1].seen if self.launches else None

    def write(self) -> None:
        """Write the ledger whole."""
        write_whole(
            self.paths.ledger, json.dumps({"launches": [asdict(row) for row in self.launches]}, indent=1) + "\n"
        )

    def exceeded(self, budget: Budget) -> str | None:
        """Which cap is reached, as a reason for the sweep to stop."""
        if budget.hours is not None and self.hours >= budget.hours:
            return f"budget.hours = {budget.hours:g} spent"
        if budget.gpu_hours is not None and self.gpu_hours >= budget.gpu_hours:
            return f"budget.gpu_hours = {budget.gpu_hours:g} spent"
        return None


def _spent(row: Mapping[str, Any]) -> Spent:
    """A launch from its row; raises ``KeyError`` or ``TypeError`` for one that lacks what it needs."""
    times = {name: row[name] for name in ("started", "seen")}
    counts = {name: row.get(name, 0.0) for name in ("seconds", "trial_seconds", "gpu_seconds")}
    for name, value in (times | counts).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TypeError(f"{name} is {value!r}, which is no number")
    return Spent(**times, **counts, ended=bool(row.get("ended", False)))


class Meter:
    """Counts what a launch spends while it runs."""

    def __init__(self, ledger: Ledger, resources: Resources) -> None:
        self.ledger = ledger
        self._gpus = resources.workers * resources.gpus_per_worker
        self._last = time.monotonic()
        self._written = self._last
        now = time.time()
        self._spent = Spent(started=now, seen=now)
        ledger.launches.append(self._spent)
        ledger.write()

    def tick(self, running: int) -> None:
        """Count the time since the last call for as many trials as run."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        self._spent.seconds += passed
        self._spent.trial_seconds += passed * running
        self._spent.gpu_seconds += passed * running * self._gpus
        self._spent.seen = time.time()
        if now - self._written > PERIOD:
            try:
                self.ledger.write()
            except OSError:
                # A full disk must not end what runs: the next write has it all. The time of the file tells meanwhile,
                # without a byte more, that the launch lives.
                with suppress(OSError):
                    os.utime(self.ledger.paths.ledger)
            self._written = now

    def close(self, running: int) -> None:
        """Count and write the rest."""
        self.tick(running)
        self._spent.ended = True
        self.ledger.write()
