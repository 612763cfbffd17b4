"""What is raised where images cannot be had."""

from __future__ import annotations


class DataError(ValueError):
    """Files of a data set are missing or wrong; the message names them and says what to do."""
