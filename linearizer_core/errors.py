"""The root of the errors that a user can cause."""

from __future__ import annotations


class LinsweepError(Exception):
    """Something that the user can put right: a wrong spec, a missing file, a record that cannot be read.

    The message stands on its own: it names the file and the field, what is wrong, and what would be right. The
    command line prints it without a traceback; code catches one class:

    >>> from linearizer_core.errors import LinsweepError
    >>> from linearizer_core.experiment.data.errors import DataError
    >>> try:
    ...     raise DataError("data.root: no folder /images")
    ... except LinsweepError as error:
    ...     print(error)
    data.root: no folder /images
    """


class InputValueError(LinsweepError, ValueError):
    """A tensor or a number for which what is asked has no answer, such as samples too few or of another shape."""


class NotFiniteError(InputValueError, ArithmeticError):
    """NaN or an infinite entry where a result would be a plausible wrong number; of a training, it has diverged."""
