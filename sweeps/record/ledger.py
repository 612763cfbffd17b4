"""The budget that a sweep has spent over all its launches; written regularly, so that a crash loses only seconds."""

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
"""Seconds between two writes; readers take a launch that has been silent for much longer to be dead."""


@dataclass
class Spent:
    """What one launch spent: times in UNIX seconds, and ``trial_seconds`` summed over the trials that ran."""

    started: float
    seen: float
    seconds: float = 0.0
    trial_seconds: float = 0.0
    gpu_seconds: float = 0.0
    ended: bool = False


@dataclass
class Ledger:
    """The launches of a sweep; the last one is the current one."""

    paths: SweepPaths
    launches: list[Spent] = field(default_factory=list)

    @classmethod
    def read(cls, paths: SweepPaths) -> Ledger:
        """The ledger of a sweep, empty if there is none; unknown fields of later versions are ignored.

        Raises ``InputError``, naming the file, if it cannot be read: the count must not restart at zero unnoticed.
        """
        try:
            rows = json.loads(paths.ledger.read_text(encoding="utf-8"))["launches"]
            return cls(paths, [_spent(row) for row in rows])
        except FileNotFoundError:
            return cls(paths)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = (
                f"the hours spent cannot be read ({type(error).__name__}: {error}); restore the file, "
                "or remove it to count from zero"
            )
            raise InputError(str(paths.ledger), [Problem("", message)]) from None

    @property
    def hours(self) -> float:
        """Wall-clock hours during which trials ran."""
        return sum(launch.seconds for launch in self.launches) / 3600

    @property
    def trial_hours(self) -> float:
        """Hours summed over trials."""
        return sum(launch.trial_seconds for launch in self.launches) / 3600

    @property
    def gpu_hours(self) -> float:
        """GPU-hours summed over trials."""
        return sum(launch.gpu_seconds for launch in self.launches) / 3600

    @property
    def seen(self) -> float | None:
        """The time of the last write by a launch, in UNIX seconds."""
        return self.launches[-1].seen if self.launches else None

    def write(self) -> None:
        """Write the whole ledger."""
        write_whole(
            self.paths.ledger, json.dumps({"launches": [asdict(row) for row in self.launches]}, indent=1) + "\n"
        )

    def exceeded(self, budget: Budget) -> str | None:
        """The cap that is reached, as a reason for the sweep to stop; None if none is."""
        if budget.hours is not None and self.hours >= budget.hours:
            return f"budget.hours = {budget.hours:g} spent"
        if budget.gpu_hours is not None and self.gpu_hours >= budget.gpu_hours:
            return f"budget.gpu_hours = {budget.gpu_hours:g} spent"
        return None


def _spent(row: Mapping[str, Any]) -> Spent:
    """A launch from its row; raises ``KeyError`` or ``TypeError`` if a field is missing or wrong."""
    times = {name: row[name] for name in ("started", "seen")}
    counts = {name: row.get(name, 0.0) for name in ("seconds", "trial_seconds", "gpu_seconds")}
    for name, value in (times | counts).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TypeError(f"{name} is {value!r}, which is not a number")
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
        """Count the time since the last call for the number of running trials."""
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
                # A full disk must not end the launch; the next write includes this time. Meanwhile the file's time
                # stamp, which needs no space, shows that the launch is alive.
                with suppress(OSError):
                    os.utime(self.ledger.paths.ledger)
            self._written = now

    def close(self, running: int) -> None:
        """Count the remaining time and write it."""
        self.tick(running)
        self._spent.ended = True
        self.ledger.write()
