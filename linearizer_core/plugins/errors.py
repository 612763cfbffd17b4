"""Errors of plugins, told by the file and the line that they come from."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from linearizer_core.errors import LinsweepError


class PluginError(LinsweepError, ValueError):
    """A plugin that cannot be used, or whose code raised; the message begins with its file and line.

    >>> raise PluginError("mine.py:12: metric swd: there is one of this name")
    Traceback (most recent call last):
    linearizer_core.plugins.errors.PluginError: mine.py:12: metric swd: there is one of this name
    """


def located(error: BaseException, files: frozenset[str]) -> str:
    """An exception in one line, behind the last place in some files that it passed; where it passed none, alone.

    >>> located(ZeroDivisionError("division by zero"), frozenset())
    'ZeroDivisionError: division by zero'
    """
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    text = " ".join(str(error).split())[:1000]
    if not isinstance(error, LinsweepError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{places[-1].filename}:{places[-1].lineno}: {text}" if places else text


def reason(error: BaseException, files: frozenset[str]) -> str:
    """Why something ended: the type of an exception and its message in one line, or where in some files it came from.

    >>> reason(ValueError("no such  file"), frozenset())
    'ValueError: no such file'
    """
    passed = any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__))
    plain = f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}"
    return located(error, files) if passed else plain


@contextmanager
def told(files: frozenset[str]) -> Iterator[None]:
    """Within it, what passes through some files is raised as a ``PluginError`` that says where.

    Errors that say already what is wrong are left as they are.
    """
    try:
        yield
    except LinsweepError:
        raise
    except Exception as error:
        passed = any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__))
        if not passed:
            raise
        raise PluginError(located(error, files)) from error
