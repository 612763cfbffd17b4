"""A disk that fails: what this process does to the files below a folder can be refused, or cut short.

It stands between Python and the system, below everything that writes: files that are opened, and the functions of
``os``. Needs nothing but Python, so that a process can begin with it.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SHORT = -1
"""What a ``Decide`` answers for a write of which half arrives: the next one finds the disk full."""

CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Operation(NamedTuple):
    """Something that is done to a file: ``what`` is the system's word for it."""

    what: str
    path: str


Decide = Callable[[Operation], int | None]
"""None lets an operation happen, ``SHORT`` half of it; any other number is the error that it fails with."""


class Disk:
    """Asks ``decide`` of each operation below ``folder`` while it is ``installed``."""

    def __init__(self, folder: Path, decide: Decide) -> None:
        self._folder = str(folder.resolve()) + os.sep
        self._decide = decide
        self._full = False
        self._real: dict[tuple[Any, str], Any] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand between this process and the system for a while."""
        self.install()
        try:
            yield
        finally:
            for (module, name), real in self._real.items():
                setattr(module, name, real)
            self._real.clear()

    def install(self) -> None:
        """Stand between this process and the system from here on."""
        for name, words in NAMES.items():
            self._put(os, name, self._of_paths(getattr(os, name), name, words))
        self._put(os, "open", self._os_open)
        self._put(os, "write", self._os_write)
        self._put(os, "fsync", self._os_fsync)
        self._put(os, "ftruncate", self._os_ftruncate)
        for module in (io, builtins):
            self._put(module, "open", self._io_open)
        # Weights are written by a library that is not Python's.
        if "safetensors.torch" in sys.modules:
            self._put(sys.modules["safetensors.torch"], "serialize_file", self._serialize)

    def asked(self, what: str, path: Any, given: Any = None) -> int | None:
        """What becomes of an operation; raises ``OSError`` where it fails, with the name that was ``given``, if any."""
        name = _name(path)
        if name is None or not name.startswith(self._folder):
            return None
        answer = self._decide(Operation(what, name))
        if what == "write" and self._full:
            self._full, answer = False, errno.ENOSPC
        if answer == SHORT:
            if what != "write":
                answer = errno.ENOSPC
            else:
                self._full = True
                return SHORT
        if answer is not None:
            # As the system says it: of what is done to an open file it names none.
            raise OSError(answer, os.strerror(answer), *([] if given is None else [os.fsdecode(given)]))
        return None

    def written(self, path: Any, data: Any, write: Callable[[Any], int]) -> int:
        """Write bytes, or half of them."""
        view = memoryview(data).cast("B")
        short = self.asked("write", path) == SHORT
        return write(view[: len(view) // 2] if short else view)

    def _put(self, module: Any, name: str, function: Any) -> None:
        self._real[module, name] = getattr(module, name)
        setattr(module, name, function)

    def _of_paths(self, real: Any, name: str, path_of: Callable[..., Any]) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if not options.get("dir_fd"):
                self.asked(name, path_of(*arguments), path_of(*arguments))
            return real(*arguments, **options)

        return call

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags & CHANGES and not options.get("dir_fd"):
            self.asked("open", path, path)
        file: int = self._real[os, "open"](path, flags, mode, **options)
        return file

    def _os_write(self, file: int, data: Any) -> int:
        return self.written(file, data, lambda view: self._real[os, "write"](file, view))

    def _os_fsync(self, file: Any) -> None:
        path = _name(file if isinstance(file, int) else file.fileno())
        self.asked("fsync", path)
        # Nobody cuts the power here, and hundreds of small sweeps would wait for the disk.
        if path is None or not (path + os.sep).startswith(self._folder):
            self._real[os, "fsync"](file)

    def _os_ftruncate(self, file: int, length: int) -> None:
        self.asked("truncate", file)
        self._real[os, "ftruncate"](file, length)

    def _io_open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        name = _name(file)
        ours = name is not None and not isinstance(file, int) and name.startswith(self._folder)
        if not ours or opener is not None or not set(mode) & set("wax+"):
            return self._real[io, "open"](file, mode, buffering, encoding, errors, newline, closefd, opener)
        self.asked("open", name, file)
        raw = _File(self, name or "", mode.replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text

    def _serialize(self, tensors: Any, path: Any, *arguments: Any, **options: Any) -> Any:
        from safetensors import SafetensorError

        try:
            short = self.asked("write", path) == SHORT
            result = self._real[sys.modules["safetensors.torch"], "serialize_file"](
                tensors, path, *arguments, **options
            )
            if short:
                os.truncate(path, Path(path).stat().st_size // 2)
                self.asked("write", path)
        except OSError as error:
            said = f"Error while serializing: I/O error: {error.strerror} (os error {error.errno})"
            raise SafetensorError(said) from None
        return result


class _File(io.FileIO):
    """A file on the disk that fails."""

    def __init__(self, disk: Disk, path: str, mode: str) -> None:
        self._disk = disk
        super().__init__(path, mode)

    def write(self, data: Any) -> int:
        return self._disk.written(self.name, data, super().write)

    def truncate(self, size: int | None = None) -> int:
        self._disk.asked("truncate", self.name)
        return super().truncate(size)


def _first(path: Any, *_: Any) -> Any:
    return path


def _second(_: Any, path: Any, *__: Any) -> Any:
    return path


NAMES: dict[str, Callable[..., Any]] = {
    "mkdir": _first, "unlink": _first, "remove": _first, "rmdir": _first, "truncate": _first,
    "replace": _second, "rename": _second, "link": _second, "symlink": _second,
}  # fmt: skip
"""Functions of ``os`` that change a folder, or a file by its name, and which of their arguments is what they change."""


def _name(path: Any) -> str | None:
    """The whole path of a file by its name or its descriptor."""
    try:
        if isinstance(path, int):
            return str(Path(f"/proc/self/fd/{path}").readlink())
        return str(Path(os.fsdecode(path)).absolute())
    except (OSError, TypeError):
        return None
