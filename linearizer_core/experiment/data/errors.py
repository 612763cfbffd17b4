"""The error raised when images are unavailable."""

from __future__ import annotations

from linearizer_core.errors import LinsweepError


class DataError(LinsweepError, ValueError):
    """Files of a data set are missing or wrong. The message names them and says what to do."""
