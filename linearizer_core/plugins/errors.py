"""Plugin errors, reported with the file and line that they come from."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from linearizer_core.errors import LinsweepError


class PluginError(LinsweepError, ValueError):
    """A plugin cannot be used, or its code raised; the message begins with its file and line.

    >>> raise PluginError("mine.py:12: metric swd: this name is already taken")
    Traceback (most recent call last):
    linearizer_core.plugins.errors.PluginError: mine.py:12: metric swd: this name is already taken
    """


def located(error: BaseException, files: frozenset[str]) -> str:
    """An exception as one line, prefixed with the last place in ``files`` that it passed, if it passed any.

    >>> located(ZeroDivisionError("division by zero"), frozenset())
    'ZeroDivisionError: division by zero'
    """
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    text = " ".join(str(error).split())[:1000]
    if not isinstance(error, LinsweepError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{places[-1].filename}:{places[-1].lineno}: {text}" if places else text


def reason(error: BaseException, files: frozenset[str]) -> str:
    """Why something ended: an exception's type and message as one line, prefixed with its place in ``files``, if any.

    >>> reason(ValueError("no such  file"), frozenset())
    'ValueError: no such file'
    """
    passed = any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__))
    plain = f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}"
    return located(error, files) if passed else plain


@contextmanager
def told(files: frozenset[str]) -> Iterator[None]:
    """Re-raise exceptions that pass through ``files`` as a ``PluginError`` that says where.

    ``LinsweepError``s are left unchanged, since they already explain what is wrong.
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
