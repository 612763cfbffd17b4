"""The process that sends a running sweep's journals to MLflow: Tune's loop keeps its interpreter to itself.

It is told what to send in its first line of input, and to end in another. Where its input ends without that, whoever
started it is gone, and so is it at once. It answers in lines as well: what went wrong last, what of the record it could
not read, and what it came to.
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
"""Seconds between two tries to reach a server."""
REST = 3.0
"""How long it rests after sending, over the time that took: of a machine whose trials end faster than MLflow takes
runs, it leaves three quarters of a core to the trials, and sends the rest after the last."""
NICENESS = 19
"""Sending may wait for what the sweep itself has to do, also in Ray's workers, which are at 15 by default."""


class BackgroundSync:
    """Has a sweep's journals sent until closed; ``error`` says why nothing can be sent now, if so.

    A process that dies before it was told to end is started again, less and less often: what it has noted is not sent
    twice.
    """

    def __init__(self, sync: Sync, period: float = 1.0) -> None:
        self.sync = sync
        self.error: str | None = None
        self._period = period
        self._sent = False
        self._folder = Path.cwd()  # a relative URI is meant from here, wherever this process is later
        self._closing = threading.Event()
        self._killed = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep, name="mlflow-sync", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        """Start the process, and start it again when it dies; one that dies while it closes has one more try."""
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
        """Whether a process, from its start to its death, came to its end; raises ``OSError`` where none starts."""
        told = {
            "root": str(self.sync.paths.root),  # from the same folder: what is said of a file names it as it is here
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
                start_new_session=True,  # Ctrl-C is for the launch, which has this process send the rest
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
                with suppress(JournalWarning):  # where warnings are errors, the thread has still to read on
                    warnings.warn(text, JournalWarning, stacklevel=2)
            self.error = answer.get("error", self.error)
            if "sent" in answer:
                ended, self._sent = True, answer["sent"]
        code = process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):  # what it has not read is flushed again
            process.stdin.close()
        if not ended:
            self.error = f"the process that sends died (exit code {code})"
        return ended

    def _tell(self, line: str) -> None:
        """Write a line to the process; the lock must be held."""
        with suppress(BrokenPipeError, ValueError):  # it has died, which its answers' end tells
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def close(self) -> bool:
        """Have the rest sent, and the sweep's own run closed where the sweep is over.

        False, with ``error`` set, when the rest could not be sent.
        """
        with self._lock:
            self._closing.set()
            self._tell(CLOSE)
        self._thread.join()
        return self._sent

    def kill(self) -> None:
        """End the process there and then, if there is one."""
        with self._lock:
            self._killed.set()
            if self._process is not None:
                self._process.kill()
        self._closing.set()
        self._thread.join()


def _run(told: dict[str, Any], closing: threading.Event) -> Iterator[dict[str, Any]]:
    """Send until told to close; what goes wrong, and that it no longer does, as it changes, and the end."""
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
        # pandas and MLflow's models are seconds of imports: not before a sweep has ended.
        from sweeps.tracking.parent_run import finish

        try:
            finish(sync.connect(), sync.paths)
        except Exception as failure:  # noqa: BLE001 - the sweep is complete in its journals, whatever MLflow says
            error = explain(failure, sync.uri)
    yield {"sent": sent, "error": error}


def _attempt(sync: Sync, everything: bool) -> str | None:
    """Send what is new; what went wrong."""
    try:
        sync.send(everything)
    # Whatever the server or the network does, the sweep goes on: the journals have everything.
    except Exception as error:  # noqa: BLE001
        return explain(error, sync.uri)
    return None


def _await_close(lines: IO[str], closing: threading.Event) -> None:
    for line in lines:
        if line.strip() == CLOSE:
            closing.set()
    os._exit(1)  # nobody waits for what is still to be sent: another launch may be about to send it


def main() -> None:
    # Nothing that a library prints may come between the answers.
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
