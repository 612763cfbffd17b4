"""What a sweep has spent, over all its launches; written while it runs, so that a crash loses seconds of it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Budget, Resources

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
        """The ledger of a sweep, empty where there is none or none that can be read."""
        try:
            rows = json.loads(paths.ledger.read_text())["launches"]
            return cls(paths, [Spent(**row) for row in rows])
        except (OSError, ValueError, KeyError, TypeError):
            return cls(paths)

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
            with suppress(OSError):  # a full disk must not end what runs: the next write has it all
                self.ledger.write()
            self._written = now

    def close(self, running: int) -> None:
        """Count and write the rest."""
        self.tick(running)
        self._spent.ended = True
        self.ledger.write()
