"""URIs of databases and servers: hiding passwords, quoting paths, finding the file of a database."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"
"""Prefix of the URI of a database in a file; the path follows."""

TRACKING_SCHEMES = ("http://", "https://", SQLITE, "postgresql", "mysql", "mssql")
"""Prefixes of the URI of a tracking server or its database."""

CREDENTIALS = ("user", "password", "passwd", "sslpassword")


def without_password(uri: str) -> str:
    """A URI that may be shown and stored: without user and password."""
    scheme, separator, rest = uri.partition("://")
    if scheme in ("sqlite", "file") or not separator:
        return uri
    if scheme in ("http", "https"):
        host, slash, path = rest.partition("/")
        if "@" not in host and not host.rpartition(":")[2].isdigit() and ":" in host and "@" in path:
            # A "host" whose port is not a number is a user whose password contains a slash.
            return f"{scheme}://{rest.rpartition('@')[2]}"
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    # SQLAlchemy accepts slashes and question marks in a password, so everything up to the last @ is removed.
    host, question, options = rest.rpartition("@")[2].partition("?")
    kept = [option for option in options.split("&") if option.partition("=")[0] not in CREDENTIALS]
    return f"{scheme}://{host}{question if any(kept) else ''}{'&'.join(kept)}"


def sqlite_uri(file: Path) -> str:
    """The URI of a database in a file, with its absolute path; characters special in a URI are quoted.

    >>> sqlite_uri(Path("/data/50%/what?/mlflow.db"))
    'sqlite:////data/50%25/what%3F/mlflow.db'
    """
    return SQLITE + str(file.absolute()).replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str | None) -> Path | None:
    """The file of a database; None if the URI names a server or a database in memory.

    >>> sqlite_file("sqlite:///runs/what%3F.db?timeout=5")
    PosixPath('runs/what?.db')
    """
    path = unquote((uri or "").removeprefix(SQLITE).partition("?")[0])
    return None if not (uri or "").startswith(SQLITE) or not path or path.startswith((":", "file:")) else Path(path)


def at_home(path: str) -> str:
    """A path with a leading ``~`` or ``~user`` expanded, as a shell does.

    Raises ``ValueError`` if that user's home folder is not known.

    >>> at_home("./~/runs")
    './~/runs'
    """
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        user = path.partition("/")[0]
        raise ValueError(f"no home folder is known for {user}; if it is a folder's own name, write ./{path}") from None


def absolute(uri: str) -> str:
    """A URI that does not depend on the working directory: the path of a database file is made absolute.

    Raises ``ValueError`` as ``at_home`` does.

    >>> absolute("https://mlflow.example.org")
    'https://mlflow.example.org'
    """
    file = sqlite_file(uri)
    if file is None or file.is_absolute():
        return uri
    return sqlite_uri(Path(at_home(str(file)))) + "".join(uri.partition("?")[1:])


def without_passwords(text: str) -> str:
    """A text with user and password removed from every URI in it."""
    return re.sub(r"[A-Za-z][\w+.-]*://[^\s,}'\"]+", lambda found: without_password(found[0]), text)


def describe(error: Exception, uri: str) -> str:
    """An error in one line, without the credentials that the URI may contain."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text.replace(uri, without_password(uri)) if uri else text)[:300]
