"""A sweep that outlives its launches: started again from its record when one dies."""

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
"""Seconds of trials after which a launch that dies has not died of its start."""

PATIENCE = 3600.0
"""Seconds for which launches that cannot even begin are repeated: a cluster may take its time to come back."""

WRONG_INPUT = 2

CODES = {"finished": 0, "failed": 1, "interrupted": 130}
"""Exit codes of launches that end in order, by the state that they leave in the record."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(words: Sequence[str], paths: SweepPaths, stall: float, console: Console) -> int:
    """Run ``linsweep launch`` with these words until it ends in order, or was asked to stop; its exit code.

    A launch that dies is started again, sooner at first and then once a minute. One whose ledger shows no sign of life
    for ``stall`` seconds, or four times that before its first trial, is ended: a lost head can leave it waiting for
    ever. Signals are passed on.
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
        # Wrong input stays wrong; but a cluster that does not answer after a launch of this sweep may come back.
        hopeless = code == WRONG_INPUT and (not began or time.monotonic() - alive > PATIENCE)
        if _in_order(paths, code) or asked or paths.stop.exists() or hopeless:
            return code
        wait = SHORTEST_WAIT if lived > LIVED else min(2 * wait, LONGEST_WAIT)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        console.print(Text(f"the launch {how}; starting again from the record in {wait:g} s"), style="yellow")
        time.sleep(wait)


def _launch(words: Sequence[str], paths: SweepPaths, stall: float) -> tuple[int, bool]:
    """One launch, to its end: its exit code, and whether it was asked to end by a signal."""
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
    """Tells a launch that lives from one that does not, by what it does to its ledger.

    One that is past its trials sends MLflow the rest, and shows no more signs.
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
        """Whether there has been no sign for the time that is given, or four times that before the first."""
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
    """End a launch with all that it started: it has a session of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _in_order(paths: SweepPaths, code: int) -> bool:
    """Whether a launch that ended with this code has left the record as one does that ends in order."""
    record = read_record(paths)
    return record is not None and CODES.get(record["state"]) == code
