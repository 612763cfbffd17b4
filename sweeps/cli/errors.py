"""How commands end: one line per problem, an exit code, and a log of unexpected errors."""

from __future__ import annotations

import errno
import io
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.record.uri import without_passwords
from linearizer_core.errors import LinsweepError
from sweeps.children import WINDOWLESS
from sweeps.record.damage import damage_told
from sweeps.spec.validation import InputError

DEBUG = "LINSWEEP_DEBUG"
"""The environment variable that turns tracebacks on."""

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130

OF_THE_MACHINE = {
    getattr(errno, name)
    for name in (
        "EACCES",
        "EPERM",
        "ENOSPC",
        "EDQUOT",
        "EROFS",
        "EFBIG",
        "EIO",
        "EBADF",
        "EPIPE",
        "ENAMETOOLONG",
        "ENOTDIR",
        "EISDIR",
        "EEXIST",
        "ELOOP",
        "ESTALE",
    )
    if hasattr(errno, name)
}
"""Errors of the operating system whose message needs no further explanation."""

PACKAGES = ("linearizer-sweeps", "torch", "numpy", "pandas", "ray", "optuna", "mlflow")


class Unforeseen(Exception):
    """An unexpected ``error`` that happened to the sweep in ``folder``."""

    def __init__(self, error: Exception, folder: Path) -> None:
        super().__init__(f"{folder}: {error}")
        self.error = error
        self.folder = folder


@contextmanager
def logged_in(folder: Path) -> Iterator[None]:
    """Keep the log of an unexpected error in a sweep's folder."""
    try:
        yield
    except (LinsweepError, MemoryError):
        raise
    except Exception as error:
        if _of_the_machine(error):
            raise
        raise Unforeseen(error, folder) from error


def ended_in_order(run: Callable[[], Any]) -> int:
    """Run a command and return its exit code, after printing everything that the user must know.

    Errors that a user can cause take one line per problem, and so does each unreadable line of a journal. Of any other
    error the traceback goes into a log, which the message names. With LINSWEEP_DEBUG set, the traceback is printed
    as well.
    """
    _prepare_streams()
    os.environ.update(WINDOWLESS)
    with damage_told(lambda text: _say("warning", text, "yellow")):
        return _ended(run) or _flushed()


def _ended(run: Callable[[], Any]) -> int:
    try:
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except LinsweepError as error:
        tell(error)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        _say(_command(), "out of memory")
        return FAILED
    except Unforeseen as error:
        return _unforeseen(error.error, error.folder)
    except Exception as error:  # noqa: BLE001 - every other error ends the command
        if isinstance(error, BrokenPipeError):
            return FAILED  # the reader of the output has gone
        if _of_the_machine(error):
            _debug(error)
            _say(_command(), _told(error))
            return FAILED
        return _unforeseen(error, None)
    return 0


def tell(error: LinsweepError) -> None:
    """Print an error that the user can correct, one line per problem."""
    _debug(error)
    if isinstance(error, InputError):
        for problem in error.problems:
            _say(error.source, str(problem))
    else:
        _say(_command(), str(error))


def _unforeseen(error: Exception, folder: Path | None) -> int:
    _debug(error)
    log = _write_log(error, folder)
    what = " ".join(without_passwords(f"{type(error).__name__}: {error}").split())[:300]
    where = f"with the log {log}" if log else f"with the output that {DEBUG}=1 gives"
    _say(_command(), f"failed with an unexpected error ({what}); please report it {where}")
    return FAILED


def _write_log(error: Exception, folder: Path | None) -> Path | None:
    """Write the traceback, the versions and the command to a file; None if no folder is writable."""
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    lines = [
        f"command: {shlex.join(['linsweep', *sys.argv[1:]])}",
        f"folder: {Path.cwd()}",
        f"python: {platform.python_version()} on {platform.platform()}",
        *(f"{package}: {_version(package)}" for package in PACKAGES),
        "",
        *traceback.format_exception(error),
    ]
    text = without_passwords("\n".join(lines))
    for place in (folder, Path(tempfile.gettempdir())):
        if place is not None and place.is_dir():
            try:
                (place / name).write_text(text, encoding="utf-8")
            except OSError:
                continue
            return place / name
    return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _command() -> str:
    """The name of the command in messages."""
    return sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "linsweep"


def _debug(error: Exception) -> None:
    if os.environ.get(DEBUG, "") not in ("", "0"):
        sys.stderr.write(without_passwords("".join(traceback.format_exception(error))))


def _of_the_machine(error: Exception) -> bool:
    """Whether the operating system's message says it all: a full disk, a file that is not writable."""
    return isinstance(error, OSError) and error.errno in OF_THE_MACHINE


def _told(error: Exception) -> str:
    """``runs/demo/tables: Permission denied``."""
    assert isinstance(error, OSError)
    return f"{error.filename or 'the output'}: {error.strerror}"


def _say(source: str, problem: str, style: str = "bold red") -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    # If nobody reads the message, the exit code has to do.
    with suppress(OSError):
        console.print(Text.assemble((f"{source}: ", style), problem))


def _prepare_streams() -> None:
    """Make the streams accept every text: characters that they cannot encode become "?"; closed ones drop all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flushed() -> int:
    """Flush the output of a command that succeeded, and return its exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _say(_command(), _told(error))
        _to_nowhere()
        return FAILED
    return 0


def _to_nowhere() -> None:
    """Redirect standard output to nowhere: Python flushes it once more at exit and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class GoingOn:
    """A standard output that survives a full disk or a reader that has gone: it drops the rest of the output."""

    def write(self, text: str) -> int:
        """Write a text, or drop it if the output is lost."""
        try:
            return sys.stdout.write(text)
        except OSError as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        """Flush the output, unless it is lost."""
        try:
            sys.stdout.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        _say(_command(), f"{_told(error)}; the command continues without further output")
        _to_nowhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)
