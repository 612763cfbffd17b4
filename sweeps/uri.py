"""URIs as they may be shown and stored."""

from __future__ import annotations

CREDENTIALS = ("user", "password", "passwd")


def without_password(uri: str) -> str:
    """A URI as it may be shown and stored: user and password left out."""
    scheme, separator, rest = uri.partition("://")
    if scheme in ("sqlite", "file") or not separator:
        return uri
    if scheme in ("http", "https"):
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    # SQLAlchemy takes a password as it stands, with slashes and question marks in it: all up to the last @ goes.
    host, question, options = rest.rpartition("@")[2].partition("?")
    kept = [option for option in options.split("&") if option.partition("=")[0] not in CREDENTIALS]
    return f"{scheme}://{host}{question if any(kept) else ''}{'&'.join(kept)}"
