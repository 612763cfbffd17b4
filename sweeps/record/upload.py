"""The record of a launch whose storage is in a bucket: a folder of this machine, and what of it goes there.

The launch works in the folder as in any other. A thread sends what has changed, in pieces that a reader puts together.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from analysis.record.copies import CACHE
from analysis.record.journal_files import TRIAL
from analysis.record.pieces import FOLDER, Part, forget, packed, piece_name, put_together
from linearizer_core.bucket import Bucket, BucketError
from linearizer_core.experiment.journal import state_of
from linearizer_core.files import write_whole
from sweeps.record.artifacts import as_note, put_artifacts, states_in
from sweeps.record.beats import LOST, Beats
from sweeps.record.lease import PATIENCE, Lease, held_lease
from sweeps.record.lock import take
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

PERIOD = 3.0
"""Seconds between two looks at what has changed: what a machine that dies takes with it, at most."""

LAST_TRIES = 60.0
"""Seconds for which a launch tries to send the rest before it ends."""

LOCK = ".{}.launch.lock"
"""Beside a launch's folder, by its name: held while it keeps the record there."""

SENT = ("training/*.json", "journal/*.jsonl", "superseded/*.jsonl", "artifacts/*.json", "plugins/*/*",
        "uncommitted-*.patch", "ledger.json", "sweep.json")  # fmt: skip
"""What goes into pieces, in the order in which it is looked at: states that a journal does not tell of yet are no harm
to it, but a state that is not there is."""
STATES = "training"
AT_THE_END = ("shipped*.json",)
"""What changes with everything that is sent to MLflow, which can be sent again: it goes into whole pieces."""


@dataclass(frozen=True)
class _Stamp:
    """By what a file that has not changed is known; ``end`` is how much of it was sent."""

    inode: int
    modified: int
    size: int
    end: int


@contextmanager
def kept_in_bucket(
    source: str, uri: str, paths: SweepPaths, console: Console, end: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lease of the sweep at an address, have its record in the folder of ``paths``, and send what changes.

    ``end`` is called with the reason where another launch takes the lease, or the credentials have expired. Raises
    ``InputError`` where another launch holds it, or the record there is none that launches keep, and ``BucketError``
    where the bucket cannot be used.
    """
    with only_here(source, paths.root):
        upload = _taken_up(source, Bucket(uri), paths, console, end)
        try:
            yield
        finally:
            problem = upload.close()
            if problem is not None:
                _tell(
                    console,
                    f"not all of the record is in {uri}: {problem}. It is kept in {paths.root}, and the next launch on "
                    "this machine goes on from there",
                )


@contextmanager
def only_here(source: str, folder: Path) -> Iterator[None]:
    """Keep other launches of this machine away from a folder: who had the lease here before has died."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(LOCK.format(folder.name)).open("w") as file:
        try:
            take(file, 0)
        except TimeoutError:
            raise InputError(source, [Problem("name", "is being carried out already, on this machine")]) from None
        yield


def _tell(console: Console, text: str) -> None:
    console.print(text, style="yellow", markup=False, soft_wrap=True)


def _taken_up(source: str, bucket: Bucket, paths: SweepPaths, console: Console, end: Callable[[str], None]) -> Upload:
    """Take the lease, and have the newest record in the folder."""
    died = paths.holder_now() or None

    def waiting() -> None:
        _tell(console, f"another launch holds {bucket.uri}, or has died: waiting for a sign of life")

    if "sweep.json" in bucket.top()[1]:
        message = "is the copy of a folder, which can only be read: copy it to this machine and resume it there"
        raise InputError(source, [Problem("storage", f"{bucket.uri} {message}")])
    lease, before = held_lease(bucket, source, died, waiting)
    if before is None or before != died:
        # Somebody else wrote last: what this machine has is older, or was never sent.
        shutil.rmtree(paths.root)
        forget(paths.root)
        paths.root.mkdir()
        put_together(bucket, paths.root)
    forget(paths.root)
    write_whole(paths.holder, lease.holder)
    upload = Upload(paths, bucket, lease, Beats(lease, paths, end, partial(_tell, console)))
    upload.start()
    return upload


class Upload:
    """Sends what changes in a sweep's folder."""

    def __init__(self, paths: SweepPaths, bucket: Bucket, lease: Lease, beats: Beats) -> None:
        self._paths = paths
        self._bucket = bucket
        self._lease = lease
        self._beats = beats
        self._cache = Bucket(f"{bucket.uri.rpartition('/')[0]}/{CACHE}")
        self._in_cache: set[str] = set()
        self._stamps: dict[str, _Stamp] = {}
        self._states: dict[str, set[str]] = {}
        self._number = 0
        self._pending: tuple[str, bytes, dict[str, _Stamp], dict[str, set[str]]] | None = None
        self._before: list[str] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self.error: str | None = None

    def _fetch_cache(self) -> None:
        """Fetch the feature classifiers of the storage that this machine lacks: another one would be another ruler."""
        for entry in self._cache.entries():
            self._in_cache.add(entry.name)
            if not (self._paths.cache / entry.name).exists():
                self._cache.fetch(entry.name, self._paths.cache / entry.name)

    def start(self) -> None:
        """Write the piece that has everything, and send what changes from here on; raises ``BucketError``."""
        self._fetch_cache()
        self._before = [entry.name for entry in self._bucket.entries(FOLDER)]
        self.push()
        self._beats.start()
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(PERIOD):
            if self._beats.lost:
                return
            try:
                self.push()
                self.error = None
            except (BucketError, OSError) as error:  # tried again: the folder has everything
                self.error = str(error)

    def push(self) -> None:
        """Send what has changed since the last time; raises ``BucketError``."""
        self._put_cache()
        self._put_references()
        if self._pending is None:
            self._pending = self._next()
        if self._pending is None:
            return
        name, content, stamps, states = self._pending
        # Written anew where it is not known whether it was: nobody else writes under this number.
        self._bucket.write(f"{FOLDER}/{name}", content)
        gone = {key for trial, keys in self._states.items() for key in keys - states.get(trial, set())}
        self._stamps, self._states, self._pending = stamps, states, None
        self._number += 1
        if self._lease.age < PATIENCE:  # otherwise another launch may go on from what is there; the end removes it
            self._bucket.remove(gone)
        if self._before:  # all of it is in the first piece of this launch
            self._bucket.remove(self._before)
            self._before = []

    def _next(self) -> tuple[str, bytes, dict[str, _Stamp], dict[str, set[str]]] | None:
        """The piece of what has changed, and what is sent once it is there; None where nothing has."""
        parts: list[Part] = []
        stamps: dict[str, _Stamp] = {}
        states: dict[str, set[str]] = {}
        for pattern in (*SENT, *(AT_THE_END if self._number == 0 else ())):
            for path in sorted(self._paths.root.glob(pattern)):
                name = path.relative_to(self._paths.root).as_posix()
                known = self._stamps.get(name)
                try:
                    stamps[name] = self._stamp(path, name, known, parts)
                except FileNotFoundError:  # gone meanwhile
                    continue
                if pattern == SENT[0]:
                    with suppress(FileNotFoundError):
                        states[name] = {state["key"] for state in states_in(path)}
        parts += [Part(name, 0, None) for name in self._stamps if name not in stamps]
        first = self._number == 0
        if not parts and not first:
            return None
        return piece_name(self._lease.number, self._number, whole=first), packed(parts), stamps, states

    def _stamp(self, path: Path, name: str, known: _Stamp | None, parts: list[Part]) -> _Stamp:
        """The stamp of a file as it is now; what is new of it goes to ``parts``."""
        status = path.stat()
        now = (status.st_ino, status.st_mtime_ns, status.st_size)
        if known is not None and (known.inode, known.modified, known.size) == now:
            return known
        begin = 0
        lines = path.suffix == ".jsonl"
        if known is not None and lines and known.inode == status.st_ino and status.st_size >= known.end:
            begin = known.end
        with path.open("rb") as file:
            file.seek(begin)
            content = file.read()
        if lines:  # a line that is being written waits
            content = content[: content.rfind(b"\n") + 1]
        if content or not begin:
            parts.append(Part(name, begin, content))
        return _Stamp(*now, begin + len(content))

    def _put_cache(self) -> None:
        """Send the feature classifiers that the storage lacks."""
        folder = self._paths.cache
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file() and not path.name.startswith(".") and path.name not in self._in_cache:
                self._cache.write(path.name, path)
                self._in_cache.add(path.name)

    def _put_references(self) -> None:
        """Send the artifacts of trials that the launch has carried out itself: of those that need no model."""
        folder = self._paths.root / "artifacts"
        for path in sorted(folder.glob("r*")):
            note = path.with_suffix(".json")
            if not path.is_dir() or note.exists() or TRIAL.fullmatch(path.name) is None:
                continue
            if state_of(self._paths.journal(path.name)).state == "finished":
                write_whole(note, as_note(put_artifacts(self._bucket, path, path.name)))

    def close(self) -> str | None:
        """Send the rest, and let go of the lease; what went wrong, if anything did."""
        self._closing.set()
        self._thread.join()
        deadline = time.monotonic() + LAST_TRIES
        while True:
            try:
                if not self._beats.holds():
                    return LOST
                self.push()
                self._together()
                self._beats.release()
                return None
            except (BucketError, OSError) as error:
                self.error = str(error)
                refused = isinstance(error, BucketError) and (not error.passing or error.expired)
                if refused or time.monotonic() > deadline:
                    break
                time.sleep(1)
        self._beats.close()
        return self.error

    def _together(self) -> None:
        """Put the pieces of this launch together, so that readers fetch one."""
        self._before = [f"{FOLDER}/{piece_name(self._lease.number, n, whole=n == 0)}" for n in range(self._number)]
        parts: list[Part] = []
        for pattern in (*AT_THE_END, *SENT):
            for path in sorted(self._paths.root.glob(pattern)):
                with suppress(FileNotFoundError):
                    self._stamp(path, path.relative_to(self._paths.root).as_posix(), None, parts)
        self._bucket.write(f"{FOLDER}/{piece_name(self._lease.number, self._number, whole=True)}", packed(parts))
        self._bucket.remove(self._before)
        self._before = []
        # Those that were followed by others before they were looked at, or whose trial died before it told of them.
        kept = {key for keys in self._states.values() for key in keys}
        self._bucket.remove({entry.name for entry in self._bucket.entries(STATES)} - kept)
