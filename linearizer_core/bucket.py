"""Objects in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

Who may read and write there is told by the environment alone, as each service names its variables, or by the machine's
own role; an address never has credentials in it, so that it can be recorded.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from linearizer_core.errors import LinsweepError
from linearizer_core.files import whole

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az")
"""What the addresses of buckets begin with."""

ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}([^/].*)?")
"""Of a path that was made of an address only one slash is left."""

FILE = re.compile(r"file:/+(?:localhost/)?")

RETRY_SECONDS = 20
"""How long a request is tried again by itself, where the service is busy or the connection breaks."""

TRIES = 3

REQUEST_SECONDS = 30
"""How long one request may take that moves nothing."""


class BucketError(LinsweepError):
    """A bucket that cannot be reached, or that refuses what it is asked.

    ``passing`` says whether it may go well later: the service is away, or the credentials have to be renewed, which is
    ``expired``.
    """

    def __init__(self, message: str, passing: bool = False, expired: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        self.expired = expired

    def __reduce__(self) -> tuple[type[BucketError], tuple[str, bool, bool]]:
        return type(self), (str(self), self.passing, self.expired)


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a text is the address of something in a bucket, and no path.

    >>> is_address("s3://bucket/runs"), is_address("runs"), is_address("sqlite:///mlflow.db")
    (True, False, False)
    """
    return ADDRESS.fullmatch(os.fspath(text)) is not None


def address(text: str | os.PathLike[str]) -> str:
    """An address as it is written everywhere: no slash at its end, and two behind its scheme.

    Raises ``ValueError`` for one without a bucket, with a user or password, with a query, or with ``..`` in it.

    >>> address(Path("s3://bucket/runs/"))
    's3://bucket/runs'
    """
    whole_text = os.fspath(text)
    found = ADDRESS.fullmatch(whole_text)
    if found is None or not found[2]:
        raise ValueError(f"{whole_text}: must name a bucket, as s3://BUCKET/FOLDER")
    scheme, rest = found[1], found[2].rstrip("/")
    if "@" in rest.partition("/")[0]:
        raise ValueError(f"{scheme}://…: has credentials in it; give them in the environment, and the bucket alone")
    if any(sign in rest for sign in "?#\0") or any(part in ("", ".", "..") for part in rest.split("/")):
        raise ValueError(f"{scheme}://{rest}: must be a bucket and plain names, as {scheme}://BUCKET/FOLDER")
    return f"{scheme}://{rest}"


def local_path(text: str) -> str:
    """The path of a ``file://`` address; any other text as it is.

    >>> local_path("file:///srv/runs"), local_path("runs")
    ('/srv/runs', 'runs')
    """
    found = FILE.match(text)
    return f"/{text[found.end() :]}" if found else text


@dataclass(frozen=True)
class Entry:
    """An object: its name below the bucket's folder, its bytes, its tag, which changes with it, and when it came."""

    name: str
    size: int
    tag: str
    modified: datetime


@dataclass(frozen=True)
class Bucket:
    """What is below an address, such as ``s3://bucket/runs/demo``; names have slashes and are relative to it.

    Every method raises ``BucketError`` in one line where the service does not answer or refuses.
    """

    uri: str

    @cached_property
    def _store(self) -> ObjectStore:
        from obstore.store import from_url  # a fifth of a second, which a sweep in a folder does without

        quick: Any = {
            "max_retries": 6,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=4), "base": 2},
        }
        options: Any = {"timeout": timedelta(seconds=REQUEST_SECONDS), "connect_timeout": timedelta(seconds=5)}
        # A server of one's own may have no certificate: whoever names it so has chosen that.
        if any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS):
            options["allow_http"] = True
        return self._asked(lambda: from_url(self.uri, client_options=options, retry_config=quick))

    def read(self, name: str) -> bytes:
        """An object's content; raises ``FileNotFoundError`` where there is none."""
        import obstore

        return self._asked(lambda: bytes(obstore.get(self._store, name).bytes()), name)

    def entry(self, name: str) -> Entry | None:
        """The object of this name, None if there is none."""
        import obstore

        try:
            # Not by HEAD: an answer without a body does not say what is wrong.
            return self._asked(lambda: _entry(obstore.get(self._store, name).meta, name), name)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes | Path | IO[bytes]) -> None:
        """Write an object, or all of a file as one, whole."""
        import obstore

        self._asked(lambda: obstore.put(self._store, name, content), name)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that is not there; False where it is. Of two that try at once, one succeeds."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def created() -> bool:
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return self._asked(created, name)

    def entries(self, prefix: str = "") -> list[Entry]:
        """All objects below a folder of names, by name."""
        import obstore

        def listed() -> list[Entry]:
            # As a list at once: an error can come with any page.
            found: list[Mapping[str, Any]] = obstore.list(self._store, prefix or None).collect()  # type: ignore[assignment]
            return sorted((_entry(row, row["path"]) for row in found), key=lambda entry: entry.name)

        return self._asked(listed)

    def top(self) -> tuple[list[str], list[str]]:
        """The first parts of all names: of those that have several, and of those that have no more."""
        import obstore

        found = self._asked(lambda: obstore.list_with_delimiter(self._store))
        folders = sorted(str(name).rstrip("/") for name in found["common_prefixes"])
        return folders, sorted(row["path"] for row in found["objects"])

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the service; raises ``FileNotFoundError`` where there is none."""
        import obstore

        self._asked(lambda: obstore.copy(self._store, name, to), name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there count as removed."""
        import obstore

        wanted = list(names)
        if wanted:
            with suppress(FileNotFoundError):
                self._asked(lambda: obstore.delete(self._store, wanted))

    def fetch(self, name: str, path: Path, sha256: str | None = None) -> None:
        """Write an object into a file, whole or not at all.

        Raises ``FileNotFoundError`` where there is no such object, and ``BucketError`` where its SHA-256 is another.
        """
        import obstore

        def fetched() -> str:
            digest = hashlib.sha256()
            with temporary.open("wb") as file:
                for piece in obstore.get(self._store, name).stream():
                    digest.update(piece)
                    file.write(piece)
            return digest.hexdigest()

        with whole(path) as temporary:
            found = self._asked(fetched, name)
            if sha256 is not None and found != sha256:
                raise BucketError(f"{self.uri}/{name}: is damaged: its SHA-256 is another than it was written with")

    def _asked(self, ask: Callable[[], T], name: str = "") -> T:
        """What a question gives, with the service's errors as ours; those of this machine's disk stay as they are.

        The library tries again by itself, but where an answer breaks off.
        """
        for left in reversed(range(TRIES)):
            try:
                return ask()
            except Exception as error:  # its errors have no common root that could be imported before it
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                if not left or "response body" not in str(error):
                    raise self._told(error, name) from None
        raise AssertionError("the last try returns or raises")

    def _told(self, error: Exception, name: str = "") -> BucketError | FileNotFoundError:
        """An error of the service in one line, without the address of its server and without what it was sent."""
        text = str(error)
        where = f"{self.uri}/{name}".rstrip("/")
        code = re.search(r"<Code>(\w+)</Code>", text)
        reason = code[1] if code else ""
        if isinstance(error, FileNotFoundError) and reason != "NoSuchBucket":
            return FileNotFoundError(f"{where}: there is no such object")
        for sign, (message, passing) in REASONS.items():
            if sign in (reason or text):
                said = f"{where}: {message}" + (f" ({reason})" if reason else "")
                return BucketError(said, passing, expired=message == RENEW)
        first = " ".join(text.partition("Debug source")[0].partition("<?xml")[0].split())
        return BucketError(f"{where}: {reason or first[:200]}", passing="status code: 4" not in text)


def _entry(row: Mapping[str, Any], name: str) -> Entry:
    return Entry(name, row["size"], row["e_tag"] or "", row["last_modified"])


ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "GOOGLE_BASE_URL", "AZURE_ENDPOINT")
"""Variables that name a server other than the service's own."""

RENEW = "the credentials have expired: renew them in the environment"
REFUSED = "refused to these credentials: they must be allowed to list, read, write and delete there"
REASONS: Mapping[str, tuple[str, bool]] = {
    "NoSuchBucket": ("there is no such bucket", False),
    "ExpiredToken": (RENEW, True),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", True),
    "InvalidAccessKeyId": (REFUSED, False),
    "SignatureDoesNotMatch": (REFUSED, False),
    "AccessDenied": (REFUSED, False),
    "InvalidBucketName": ("no bucket can be called so", False),
    "PermanentRedirect": ("the bucket is in another region: set AWS_REGION", False),
    "169.254.169.254": (
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION) in the environment",
        False,
    ),
    "Account must be specified": ("no account: set AZURE_STORAGE_ACCOUNT_NAME in the environment", False),
    "error sending request": ("does not answer", True),
    "timed out": ("does not answer in time", True),
}
"""What is said of an error by what its code or its text has in it, and whether it may pass."""
