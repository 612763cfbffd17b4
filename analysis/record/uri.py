"""URIs as they may be shown and stored."""

from __future__ import annotations

import re

CREDENTIALS = ("user", "password", "passwd", "sslpassword")


def without_password(uri: str) -> str:
    """A URI as it may be shown and stored: user and password left out."""
    scheme, separator, rest = uri.partition("://")
    if scheme in ("sqlite", "file") or not separator:
        return uri
    if scheme in ("http", "https"):
        host, slash, path = rest.partition("/")
        if "@" not in host and not host.rpartition(":")[2].isdigit() and ":" in host and "@" in path:
            # What looks like a host with a port that is no number is a user with a password that has a slash in it.
            return f"{scheme}://{rest.rpartition('@')[2]}"
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    # SQLAlchemy takes a password as it stands, with slashes and question marks in it: all up to the last @ goes.
    host, question, options = rest.rpartition("@")[2].partition("?")
    kept = [option for option in options.split("&") if option.partition("=")[0] not in CREDENTIALS]
    return f"{scheme}://{host}{question if any(kept) else ''}{'&'.join(kept)}"


def without_passwords(text: str) -> str:
    """A text with the user and password left out of every URI in it."""
    return re.sub(r"[A-Za-z][\w+.-]*://[^\s,}'\"]+", lambda found: without_password(found[0]), text)


def describe(error: Exception, uri: str) -> str:
    """An error in one line, without the credentials that the URI of its server may hold."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text.replace(uri, without_password(uri)) if uri else text)[:300]
