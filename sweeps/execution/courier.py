"""A trial whose process does not write the launch's folder: it works in one of its own, and sends what it has."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from linearizer_core.bucket import Bucket, BucketError
from linearizer_core.files import write_whole
from linearizer_core.mirror import only_one
from sweeps.execution.collector import Sink, Superseded, events_in
from sweeps.execution.task import Task
from sweeps.record.artifacts import fetch_state, put_artifacts, put_state
from sweeps.record.paths import SweepPaths

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from linearizer_core.experiment.workers import Workers

PERIOD = 1.0
"""Seconds between two looks at what there is to be sent."""

RESULT_SECONDS = 3600.0
"""How long a trial waits to begin, or keeps a result that cannot be sent: the bucket or the head is away."""

STATE_SECONDS = 45.0
"""How long a trial that is asked to stop tries to send its state: a launch waits a minute for it."""


def execute_away(
    task: Task, sink: Sink, workers: Workers | None = None, store: Store | None = None
) -> Generator[dict[str, Any], None, None]:
    """As ``sweeps.execution.trial.execute``, where nothing is shared with the launch but the bucket and the ``sink``.

    A result is given when the launch has on its disk what the journal says until then, and the bucket has the
    artifacts. Raises ``Superseded`` where another attempt has begun, and ``BucketError`` where artifacts cannot be
    written for an hour.
    """
    from linearizer_core.experiment.workers import ALONE
    from sweeps.execution.trial import execute

    workers = ALONE if workers is None else workers
    with Courier(task, sink, workers.leads) as courier, closing(execute(courier.task, workers, store)) as results:
        for result in results:
            courier.deliver(RESULT_SECONDS)
            if "state" in result:  # of one that goes on later, or may be trained on
                courier.deliver_state(STATE_SECONDS)
            yield result


class Courier:
    """Brings what a trial writes on its node to the launch and to the bucket, while the trial goes on.

    ``task`` is the trial as it is carried out here. The journal, on the node's disk, is what waits to be sent while the
    head is away.
    """

    def __init__(self, task: Task, sink: Sink, leads: bool) -> None:
        assert task.bucket is not None, "the record is in no bucket"
        self._sink = sink
        self._leads = leads
        self._trial = task.identity.trial
        self._bucket = Bucket(task.bucket)
        # Of several workers on a node, each has its own; what is for all trials lies beside it.
        self._root, self._lock = own_folder(node_folder(task.bucket), self._trial)
        self.task = replace(task, root=str(self._root), bucket=None)
        self._paths = SweepPaths(self._root)
        self._sent = 0
        self._attempt = 0
        self._artifacts: dict[str, Any] | None = None
        self._states: list[dict[str, Any]] = []
        self._state_sent: tuple[int, int] | None = None
        self._lines = threading.RLock()
        self._state = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def __enter__(self) -> Self:
        try:
            _insist(self._begin, RESULT_SECONDS)
            if self._leads:
                self._thread.start()
        except BaseException:
            self._remove_folder()
            raise
        return self

    def _remove_folder(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def _begin(self) -> None:
        _reach(self._bucket)
        opened = self._sink.open(self._trial) if self._leads else None
        for name, size in (opened.files if opened else self._sink.shared()).items():
            sweep, _, rest = name.partition("/")
            path = self._paths.cache / rest if sweep == "cache" else self._root / rest
            if not path.exists() or path.stat().st_size != size:
                write_whole(path, self._sink.read(name))
        if opened is None:
            return
        self._attempt, self._sent, self._states = opened.attempt, len(opened.journal), opened.states
        if opened.journal:
            write_whole(self._paths.journal(self._trial), opened.journal)
        fetch_state(self._bucket, opened.states, self._paths.training_state(self._trial))
        self._state_sent = self._state_stamp()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closing.set()
        if self._leads:
            self._thread.join()
            # What it was that ended the trial is in the journal.
            if kind is not Superseded:
                with suppress(Exception):
                    self.deliver(PERIOD if kind is GeneratorExit else STATE_SECONDS)
                    if kind is not GeneratorExit:
                        self.deliver_state(STATE_SECONDS)
        self._remove_folder()

    def _run(self) -> None:
        while not self._closing.wait(PERIOD):
            try:
                self._send()
                self._send_state()
            except Superseded:  # whoever gives the next result is told
                return
            except Exception:  # noqa: BLE001 - the bucket or the head is away: it is tried again
                continue

    def deliver(self, seconds: float) -> None:
        """Have the launch take all that the journal has; raises what kept it from that for so long."""
        if self._leads:
            _insist(self._send, seconds)

    def deliver_state(self, seconds: float) -> None:
        """Have the bucket take the newest saved state; what cannot be sent is trained again."""
        if self._leads:
            with suppress(BucketError, ConnectionError):
                _insist(self._send_state, seconds)

    def _send(self) -> None:
        """Send the lines that the launch does not have, and the artifacts that they tell of before them."""
        with self._lines:
            path = self._paths.journal(self._trial)
            if not path.exists():
                return
            with path.open("rb") as file:
                file.seek(self._sent)
                lines = file.read()
            lines = lines[: lines.rfind(b"\n") + 1]
            artifacts = None
            if lines and "artifact" in events_in(lines):
                # All of them are there when the first is told of.
                if self._artifacts is None:
                    self._artifacts = put_artifacts(self._bucket, self._paths.artifacts(self._trial), self._trial)
                artifacts = self._artifacts
            answer = self._sink.take(self._trial, self._attempt, self._sent, lines, artifacts)
            self._sent = answer.end
            if answer.stop and not self._paths.stop.exists():
                write_whole(self._paths.stop, "asked by the launch\n")

    def _send_state(self) -> None:
        """Send the saved state, if there is a new one; what it is behind has been sent before."""
        with self._state:
            stamp = self._state_stamp()
            if stamp is None or stamp == self._state_sent:
                return
            try:
                file = self._paths.training_state(self._trial).open("rb")
            except FileNotFoundError:
                return
            with file:
                self._send()
                states = put_state(self._bucket, file, self._trial, self._states)
            with self._lines:
                self._sink.take(self._trial, self._attempt, self._sent, b"", states=states)
            self._states, self._state_sent = states, stamp

    def _state_stamp(self) -> tuple[int, int] | None:
        try:
            status = self._paths.training_state(self._trial).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def _insist(ask: Callable[[], None], seconds: float) -> None:
    """Ask again for so long while the bucket or the launch is away; raises what kept it from an answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (BucketError, ConnectionError) as error:
            refused = isinstance(error, BucketError) and not error.passing
            if refused or time.monotonic() > deadline:
                raise
            time.sleep(PERIOD)


@lru_cache
def _reach(bucket: Bucket) -> None:
    """Raise ``BucketError`` where this node cannot use the bucket: better before a trial trains than after it has."""
    bucket.top()


def own_folder(base: Path, trial: str) -> tuple[Path, IO[str]]:
    """A new folder of this process for a trial, and a lock that tells that it lives; those of dead processes go."""
    with only_one(base):
        for lock in base.glob("*.lock"):
            with suppress(OSError), lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
        folder = Path(tempfile.mkdtemp(prefix=f"{trial}.", dir=base))
        own = folder.with_name(f"{folder.name}.lock").open("w")
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, own


def node_folder(bucket: str) -> Path:
    """Where the trials of a sweep work on this node; raises ``PermissionError`` if it is somebody else's."""
    name = hashlib.sha256(bucket.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"linsweep-{os.getuid()}" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.parent.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder.parent} belongs to another user: set TMPDIR to a folder of your own")
    return folder
