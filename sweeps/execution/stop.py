"""Ending a sweep before its last trial: running trials save their state, and no further trial starts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sweeps.record.ledger import Meter
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import request_stop
from sweeps.spec.model import Budget

STOP_SECONDS = 60.0
"""Seconds that running trials have to save their state, which they do after each epoch."""

INTERRUPTED = "interrupted"


def stop_reason(paths: SweepPaths) -> str | None:
    """Why the sweep was asked to stop, or None if it was not."""
    try:
        return paths.stop.read_text().strip() or INTERRUPTED
    except FileNotFoundError:
        return None


class Ending:
    """Whether a sweep ends before its last trial: it was asked to stop, or its budget is spent.

    ``running`` counts the running trials. This is checked many times a second, so it also updates the meter.
    """

    def __init__(self, paths: SweepPaths, budget: Budget, meter: Meter, running: Callable[[], int]) -> None:
        self.reason: str | None = None
        self._paths = paths
        self._budget = budget
        self._meter = meter
        self._running = running
        self._deadline = 0.0

    def over(self) -> bool:
        """Whether nothing runs any more, or the time to save states is up; ``reason`` says why the sweep ends."""
        running = self._running()
        self._meter.tick(running)
        if self.reason is None:
            spent = self._meter.ledger.exceeded(self._budget)
            if spent is not None:
                with suppress(OSError):  # if it cannot be written, trials are ended at the deadline
                    request_stop(self._paths, spent)
            self.reason = spent or stop_reason(self._paths)
            self._deadline = time.monotonic() + STOP_SECONDS
        return self.reason is not None and (not running or time.monotonic() > self._deadline)


@contextmanager
def handled(handler: Callable[..., None], *numbers: signal.Signals) -> Iterator[None]:
    """Call a handler with the number of each of these signals; restore the previous handlers afterwards.

    Outside the main thread, where Python allows no signal handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stopping_on_signals(paths: SweepPaths, tell: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask the trials to stop, and the second one end the launch at once."""

    def ask(*_: Any) -> None:
        if paths.stop.exists():
            raise KeyboardInterrupt
        request_stop(paths, INTERRUPTED)
        tell()

    with handled(ask, signal.SIGINT, signal.SIGTERM):
        yield


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C, and make Ctrl-C work where a shell has disabled it."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # A shell starts background jobs of a script with SIGINT ignored; then neither would end the sweep.
    with handled(interrupt, signal.SIGINT, signal.SIGTERM):
        yield
