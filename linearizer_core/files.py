"""Writing a file whole: a reader, a crash or a full disk sees the old file or the new one, and nothing between."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".part"
"""What a file that is being written ends with; its name begins with a dot and the name that it will have."""

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}" + re.escape(SUFFIX))
"""The whole name of one."""

NOT_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)
"""What a file system answers that cannot bring a folder to the disk, or does not let us: renaming is all there is."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole, text as UTF-8; the folder is made where it is missing.

    Raises ``OSError`` naming the file where it cannot be written; what was there stays.

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
    """A file of a temporary name to write into, which takes the place of ``path`` when the block ends well.

    By then its content is on the disk, and so is its name after that. What was at ``path`` is kept at ``previous``,
    where that is given. Raises ``OSError`` naming ``path`` if anything of it fails; the temporary file is gone then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "numbers.bin"
    ...     with whole(path) as temporary:
    ...         _ = temporary.write_bytes(bytes(3))
    ...     path.read_bytes(), os.listdir(folder)
    (b'\\x00\\x00\\x00', ['numbers.bin'])
    """
    # A name of its own: of two that write the same file at once, neither takes the other's half.
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
    """Have errors of the system name the file that was meant: of what is done to an open file they name none.

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
    """Remove what crashes have left of files that were to become ``path``; nobody may be writing it.

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
    """Remove what crashes have left of files anywhere below a folder; nobody may be writing there.

    What cannot be removed stays: it is in nobody's way.

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
    """Bring a file's content to the disk."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, on file systems that can."""
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
        return  # the first error is the one to tell
