"""A sweep that outlives its launches: when one dies, another starts from the record."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from sweeps.children import environment, module
from sweeps.execution.stop import handled
from sweeps.record.ledger import Ledger
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import running
from sweeps.spec.validation import InputError

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 60.0
LIVED = 60.0
"""A launch whose trials ran for this many seconds did not die of a faulty start."""

PATIENCE = 3600.0
"""Seconds for which launches that cannot even start are repeated: a cluster may take a while to come back."""

WRONG_INPUT = 2

CODES = {"finished": 0, "failed": 1, "interrupted": 130}
"""Exit codes of launches that ended in order, by the state that they leave in the record."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(words: Sequence[str], paths: SweepPaths, stall: float, console: Console) -> int:
    """Run ``linsweep launch`` with these arguments until it ends in order or was asked to stop; returns its exit code.

    A launch that dies is started again, soon at first and later once a minute. A launch whose ledger shows no sign of
    life for ``stall`` seconds (four times that before its first trial) is killed: if the head node is lost it may wait
    for ever. Signals are passed on.
    """
    wait, alive, began = SHORTEST_WAIT, time.monotonic(), False
    if not running(paths):
        paths.stop.unlink(missing_ok=True)
    while True:
        before = Ledger.read(paths).hours
        code, asked = _launch(words, paths, stall)
        lived = 3600 * (Ledger.read(paths).hours - before)
        began = began or lived > 0
        if lived > 0:
            alive = time.monotonic()
        # Invalid input stays invalid; but a cluster that stops answering after a launch of this sweep may come back.
        hopeless = code == WRONG_INPUT and (not began or time.monotonic() - alive > PATIENCE)
        if _in_order(paths, code) or asked or paths.stop.exists() or hopeless:
            return code
        wait = SHORTEST_WAIT if lived > LIVED else min(2 * wait, LONGEST_WAIT)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        console.print(Text(f"the launch {how}; relaunching from the record in {wait:g} s"), style="yellow")
        time.sleep(wait)


def _launch(words: Sequence[str], paths: SweepPaths, stall: float) -> tuple[int, bool]:
    """Run one launch to its end: its exit code, and whether a signal asked it to end."""
    asked: list[int] = []
    with handled(lambda number, *_: asked.append(number), *SIGNALS):
        command = module("linsweep", "launch", *words)
        process = subprocess.Popen(command, env=environment(), start_new_session=True)
        passed = 0
        pulse = _Pulse(paths, stall)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                for number in asked[passed:]:
                    process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
                passed = len(asked)
                if pulse.lost():
                    _end(process)
            return process.wait(), bool(asked)
        finally:
            if process.poll() is None:
                _end(process)


class _Pulse:
    """Tells a launch that is alive from one that hangs, by the changes to its ledger.

    A launch that is past its trials and sends the rest to MLflow shows no more changes.
    """

    def __init__(self, paths: SweepPaths, stall: float) -> None:
        self._paths = paths
        self._stall = stall
        self._sign = self._now()
        self._heard = time.monotonic()
        self._begun = False

    def _now(self) -> tuple[int, int] | None:
        try:
            status = self._paths.ledger.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def lost(self) -> bool:
        """Whether there was no sign of life for the given time, or for four times that before the first sign."""
        sign = self._now()
        if sign != self._sign:
            self._sign, self._heard, self._begun = sign, time.monotonic(), True
        if time.monotonic() - self._heard <= (self._stall if self._begun else 4 * self._stall):
            return False
        try:
            launches = Ledger.read(self._paths).launches
        except InputError:
            return True
        return not (self._begun and launches and launches[-1].ended)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a launch with everything that it started: it has its own session."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _in_order(paths: SweepPaths, code: int) -> bool:
    """Whether a launch that exited with this code has left the record of one that ended in order."""
    record = read_record(paths)
    return record is not None and CODES.get(record["state"]) == code
