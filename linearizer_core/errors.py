"""The base class of errors that a user can cause."""

from __future__ import annotations


class LinsweepError(Exception):
    """Something that the user can fix: a wrong spec, a missing file, a record that cannot be read.

    The message is self-contained: it names the file and the field, what is wrong, and what would be right. The command
    line prints it without a traceback; code can catch this one class:
    >>> from linearizer_core.errors import LinsweepError
    >>> from linearizer_core.experiment.data.errors import DataError
    >>> try:
    ...     raise DataError("data.root: no folder /images")
    ... except LinsweepError as error:
    ...     print(error)
    data.root: no folder /images
    """


class InputValueError(LinsweepError, ValueError):
    """A tensor or number for which there is no result, such as too few samples or samples of the wrong shape."""


class NotFiniteError(InputValueError, ArithmeticError):
    """NaN or infinite entries where a result would be plausible but wrong; in training, they mean divergence."""
