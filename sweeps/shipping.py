"""The process that sends a running sweep's journals to MLflow: Tune's loop keeps its interpreter to itself.

It is told what to send in its first line of input, and to end in another. Where its input ends without that, whoever
started it is gone, and so is it at once. It answers in lines as well: what went wrong last, and what it came to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sweeps.paths import SweepPaths
from sweeps.tracking import Shipper
from sweeps.uri import describe

CLOSE = "close"
LONGEST_WAIT = 30.0
"""Seconds between two tries to reach a server."""
NICENESS = 10
"""Sending may wait for what the sweep itself has to do."""


class BackgroundShipper:
    """Has a sweep's journals sent until closed; ``error`` says why nothing can be sent now, if so."""

    def __init__(self, shipper: Shipper, period: float = 1.0) -> None:
        self.shipper = shipper
        self.error: str | None = None
        self._period = period
        self._ended: dict[str, Any] | None = None
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],  # -P: a module of the user's folder is not meant by its name
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the launch, which has this process send the rest
        )
        told = {
            "root": str(self.shipper.paths.root.resolve()),
            "uri": self.shipper.uri,
            "experiment": self.shipper.experiment,
            "sweep": self.shipper.sweep,
            "period": self._period,
        }
        self._tell(json.dumps(told))
        self._reader = threading.Thread(target=self._listen, args=(self._process,), name="mlflow-answers", daemon=True)
        self._reader.start()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died, which closing finds out

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            self.error = answer["error"]
            if "sent" in answer:
                self._ended = answer

    def close(self) -> bool:
        """Have the rest sent, and the sweep's own run closed where the sweep is over.

        False, with ``error`` set, when the rest could not be sent.
        """
        if self._finished() is None:
            self._start()  # it had died: what it has noted is not sent again
            self._finished()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        ended = self._ended or {"sent": False, "error": f"it died with exit code {self._process.returncode}"}
        self.error = ended["error"]
        return bool(ended["sent"])

    def _finished(self) -> dict[str, Any] | None:
        self._tell(CLOSE)
        self._process.wait()
        self._reader.join()
        return self._ended

    def kill(self) -> None:
        """End the process there and then."""
        self._process.kill()
        self._process.wait()


def _run(told: dict[str, Any], closing: threading.Event) -> Iterator[dict[str, Any]]:
    """Send until told to close; what goes wrong, and that it no longer does, as it changes, and the end."""
    shipper = Shipper(SweepPaths(Path(told["root"])), told["uri"], told["experiment"], told["sweep"])
    wait, last = told["period"], None
    while not closing.wait(wait):
        error = _attempt(shipper, everything=False)
        wait = min(2 * wait, LONGEST_WAIT) if error else told["period"]
        if error != last:
            last = error
            yield {"error": error}
    error = _attempt(shipper, everything=True)
    sent = error is None
    if sent:
        try:
            shipper.finish()
        except Exception as failure:  # noqa: BLE001 - the sweep is complete in its journals, whatever MLflow says
            error = describe(failure, shipper.uri)
    yield {"sent": sent, "error": error}


def _attempt(shipper: Shipper, everything: bool) -> str | None:
    """Send what is new; what went wrong."""
    try:
        shipper.ship(everything)
    # Whatever the server or the network does, the sweep goes on: the journals have everything.
    except Exception as error:  # noqa: BLE001
        return describe(error, shipper.uri)
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
    for answer in _run(told, closing):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
