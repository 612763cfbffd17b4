"""The process that sends a running sweep's journals to MLflow: Tune's loop needs its own interpreter to itself.

The first line of its input says what to send, and another one tells it to end. If its input ends without that line, the
launch that started it is gone, and it exits at once. It answers in lines too: the latest error, what it could not read
of the record, and the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from analysis.record.mlflow_errors import explain
from linearizer_core.experiment.journal import JournalWarning
from sweeps.children import environment, module
from sweeps.record.damage import damage_told
from sweeps.record.paths import SweepPaths
from sweeps.tracking.sync import Sync

CLOSE = "close"
LONGEST_WAIT = 30.0
"""The most seconds between two tries to reach a server."""
REST = 3.0
"""Its rest after sending, as a multiple of the time that this took: if trials end faster than MLflow accepts runs, this
leaves three quarters of a core to the trials; the rest is sent after the last trial."""
NICENESS = 19
"""Sending has a lower priority than the sweep itself, including Ray's workers, which run at 15 by default."""


class BackgroundSync:
    """Sends a sweep's journals in another process until closed; ``error`` says why nothing can be sent now, if so.

    A process that dies before it was told to end is restarted, less and less often; what it has noted is not sent
    twice.
    """

    def __init__(self, sync: Sync, period: float = 1.0) -> None:
        self.sync = sync
        self.error: str | None = None
        self._period = period
        self._sent = False
        self._folder = Path.cwd()  # relative URIs refer to this folder, wherever this process is later
        self._closing = threading.Event()
        self._killed = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep, name="mlflow-sync", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        """Start the process, and restart it if it dies; if it dies while closing, it gets one more try."""
        wait = self._period
        while not self._killed.is_set():
            last = self._closing.is_set()
            try:
                if self._carried_out():
                    return
            except OSError as error:
                self.error = explain(error, self.sync.uri)
            if last:
                return
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _carried_out(self) -> bool:
        """Run one process and return whether it reached its end; raises ``OSError`` if it cannot be started."""
        told = {
            "root": str(self.sync.paths.root),  # relative to the same folder, so that messages name files as here
            "uri": self.sync.uri,
            "experiment": self.sync.experiment,
            "sweep": self.sync.sweep,
            "period": self._period,
        }
        with self._lock:
            if self._killed.is_set():
                return True
            process = self._process = subprocess.Popen(
                module(__name__),
                env=environment(),
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for the launch, which lets this process send the rest
            )
            self._tell(json.dumps(told))
            if self._closing.is_set():
                self._tell(CLOSE)
        assert process.stdin is not None
        assert process.stdout is not None
        ended = False
        for line in process.stdout:
            answer = json.loads(line)
            for text in answer.get("damage", ()):
                with suppress(JournalWarning):  # even if warnings are errors, this thread must read on
                    warnings.warn(text, JournalWarning, stacklevel=2)
            self.error = answer.get("error", self.error)
            if "sent" in answer:
                ended, self._sent = True, answer["sent"]
        code = process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):  # closing flushes input that the process has not read
            process.stdin.close()
        if not ended:
            self.error = f"the process that sends to MLflow died (exit code {code})"
        return ended

    def _tell(self, line: str) -> None:
        """Write a line to the process; the lock must be held."""
        with suppress(BrokenPipeError, ValueError):  # the process has died; the end of its answers shows that
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def close(self) -> bool:
        """Send the rest, and close the sweep's own run if the sweep is over.

        Returns False, with ``error`` set, if the rest could not be sent.
        """
        with self._lock:
            self._closing.set()
            self._tell(CLOSE)
        self._thread.join()
        return self._sent

    def kill(self) -> None:
        """Kill the process at once, if there is one."""
        with self._lock:
            self._killed.set()
            if self._process is not None:
                self._process.kill()
        self._closing.set()
        self._thread.join()


def _run(told: dict[str, Any], closing: threading.Event) -> Iterator[dict[str, Any]]:
    """Send until told to close; yields each change of the error, and the result at the end."""
    sync = Sync(SweepPaths(Path(told["root"])), told["uri"], told["experiment"], told["sweep"])
    wait, last = told["period"], None
    while not closing.wait(wait):
        began = time.monotonic()
        error = _attempt(sync, everything=False)
        taken = time.monotonic() - began
        wait = min(2 * wait, LONGEST_WAIT) if error else max(told["period"], min(REST * taken, LONGEST_WAIT))
        if error != last:
            last = error
            yield {"error": error}
    error = _attempt(sync, everything=True)
    sent = error is None
    if sent:
        # Importing pandas and MLflow's models takes seconds, so wait until the sweep has ended.
        from sweeps.tracking.parent_run import finish

        try:
            finish(sync.connect(), sync.paths)
        except Exception as failure:  # noqa: BLE001 - the journals are complete, whatever MLflow answers
            error = explain(failure, sync.uri)
    yield {"sent": sent, "error": error}


def _attempt(sync: Sync, everything: bool) -> str | None:
    """Send what is new; returns what went wrong, or None."""
    try:
        sync.send(everything)
    # Whatever the server or the network does, the sweep continues: the journals have everything.
    except Exception as error:  # noqa: BLE001
        return explain(error, sync.uri)
    return None


def _await_close(lines: IO[str], closing: threading.Event) -> None:
    for line in lines:
        if line.strip() == CLOSE:
            closing.set()
    os._exit(1)  # nobody waits for the rest, and another launch may be about to send it


def main() -> None:
    # Keep whatever libraries print out of the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.nice(NICENESS)
    told = json.loads(sys.stdin.readline())
    closing = threading.Event()
    threading.Thread(target=_await_close, args=(sys.stdin, closing), daemon=True).start()

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    with damage_told(lambda text: answer(damage=[text])):
        for values in _run(told, closing):
            answer(**values)


if __name__ == "__main__":
    main()
