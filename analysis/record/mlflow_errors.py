"""Turns errors of MLflow, its database or its server into one line that says what to do."""

from __future__ import annotations

import re
import shlex
import sys
from urllib.parse import urlsplit

from analysis.record.uri import describe, without_password

SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+), but expected (\w+)\)")
SILENT = re.compile(r"Read timed out|ConnectTimeout|timed out\.")
ABSENT = re.compile(r"NewConnectionError|Connection refused|NameResolutionError|Name or service not known")
ANSWER = re.compile(r"(?:error code|too many) ([45]\d\d)\b|\b([45]\d\d) error responses")
ANOTHER = re.compile(r"not in a valid JSON format|error code 404\b|Exceeded \d+ redirects")
"""Matches errors about a server that speaks HTTP but is not MLflow."""
REFUSED = ("401", "403")
READ_ONLY = "attempt to write a readonly database"


def explain(error: Exception, uri: str) -> str:
    """An error in one line, without the credentials that the URI may contain.

    >>> explain(ValueError("attempt to write a readonly database [SQL: INSERT ...]"), "sqlite:///a.db")
    'sqlite:///a.db cannot be written: it is read-only'
    """
    text, shown = " ".join(str(error).split()), without_password(uri)
    schema = SCHEMA.search(text)
    if schema is not None:
        found, expected = schema.groups()
        upgrade = shlex.join([sys.executable, "-m", "mlflow", "db", "upgrade", shown])
        return (
            f"the database is of another version of MLflow (its schema is {found}, the installed MLflow has {expected})"
            f": if the database is older, copy it and then upgrade it with: {upgrade} "
            "- if it is newer, install the MLflow that wrote it"
        )
    if READ_ONLY in text:
        return f"{shown} cannot be written: it is read-only"
    if uri.startswith(("http://", "https://")):
        host = urlsplit(shown).netloc
        if ANOTHER.search(text):
            return f"{host} answers, but not as MLflow does: the server or the path is wrong"
        answered = ANSWER.search(text)
        if answered is not None:
            code = answered[1] or answered[2]
            remedy = ": set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            return f"{host} answers with error {code}{remedy if code in REFUSED else ''}"
        if SILENT.search(text):
            return f"{host} does not answer"
        if ABSENT.search(text):
            return f"{host} cannot be reached"
    # SQLAlchemy adds the statement and a link to its manual.
    told = text.partition(" [SQL:")[0].partition(" (Background on this error")[0]
    return describe(RuntimeError(told) if told != text else error, uri)
