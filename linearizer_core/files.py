"""Writing files atomically: a reader, a crash or a full disk sees the old file or the new one, never a mixture."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".part"
"""Suffix of a file that is being written; its name is a dot, the final name and random digits before it."""

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}" + re.escape(SUFFIX))
"""Matches the whole name of such a file."""

NOT_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)
"""Errors of file systems that cannot fsync a folder, or do not let us; renaming is then all there is."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically, text as UTF-8; a missing folder is created.

    Raises ``OSError`` naming the file if it cannot be written; the old content then stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "notes" / "a.txt"
    ...     write_whole(path, "one line")
    ...     path.read_text()
    'one line'
    """
    with whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """A temporary file to write to, which replaces ``path`` when the block ends without an error.

    Its content is fsynced first, and its name afterwards. If ``previous`` is given, the old file is kept there. Raises
    ``OSError`` naming ``path`` if any of this fails; the temporary file is then removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "numbers.bin"
    ...     with whole(path) as temporary:
    ...         _ = temporary.write_bytes(bytes(3))
    ...     path.read_bytes(), os.listdir(folder)
    (b'\\x00\\x00\\x00', ['numbers.bin'])
    """
    # A unique name: when two processes write the same file at once, neither picks up the other's unfinished one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{SUFFIX}")
    try:
        with named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush(temporary)
            if previous is not None and path.exists():
                path.replace(previous)
            temporary.replace(path)
            _flush_folder(path.parent)
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Make operating-system errors name ``path``: errors of operations on open files name none.

    >>> with named(Path("runs/demo/ledger.json")):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'runs/demo/ledger.json'
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_unfinished(path: Path) -> None:
    """Remove the unfinished files that crashes have left of ``path``; nobody may be writing it at the time.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.txt"
    ...     (Path(folder) / ".a.txt.0123456789ab.part").touch()
    ...     remove_unfinished(path)
    ...     os.listdir(folder)
    []
    """
    if path.parent.is_dir():
        for file in path.parent.iterdir():
            if file.name.startswith(f".{path.name}.") and file.name.endswith(SUFFIX):
                file.unlink(missing_ok=True)


def remove_all_unfinished(folder: Path) -> None:
    """Remove the unfinished files that crashes have left anywhere below a folder; nobody may be writing there.

    Files that cannot be removed stay; they do no harm.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in (".a.txt.0123456789ab.part", ".mine.part"):
    ...         (Path(folder) / name).touch()
    ...     remove_all_unfinished(Path(folder))
    ...     os.listdir(folder)
    ['.mine.part']
    """
    for place, _, names in os.walk(folder):
        for name in names:
            if UNFINISHED.fullmatch(name):
                _remove(Path(place) / name)


def _flush(file: Path) -> None:
    """Fsync a file's content."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Fsync a folder, and thus the names in it, on file systems that can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in NOT_FLUSHED:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_FLUSHED:
            raise
    finally:
        os.close(descriptor)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return  # the first error is the one to report
