"""Changes to a sweep in a bucket, by whoever has only a copy of its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from analysis.record.copies import copied, copies_of, kept_by_launches, origin_of, work_folder
from linearizer_core.bucket import Bucket
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import Requests
from sweeps.record.upload import kept_in_bucket
from sweeps.record.writers import only_launch
from sweeps.spec.validation import InputError, Problem


def copy_of(folder: Path) -> str | None:
    """The address of the sweep that a folder is the copy of; None for a folder that a launch works in."""
    storage = origin_of(folder.parent)
    if storage is None or folder.parent != copies_of(storage):
        return None
    return f"{storage}/{folder.name}"


def now(paths: SweepPaths) -> SweepPaths:
    """A sweep's files as they are now: of a copy, after another look into the bucket."""
    uri = copy_of(paths.root)
    return paths if uri is None else SweepPaths(copied(uri))


def requests_to(source: str, paths: SweepPaths) -> Requests | None:
    """The requests to the launch of a sweep in a bucket, by its copy; None for a folder, where they are files.

    Raises ``InputError`` where no launch will ever look for them.
    """
    uri = copy_of(paths.root)
    if uri is None:
        return None
    bucket = Bucket(uri)
    if not kept_by_launches(bucket):
        message = "is the copy of a folder, which can only be read: give this command where the sweep was launched"
        raise InputError(source, [Problem("", f"{uri} {message}")])
    return Requests(bucket, paths)


@contextmanager
def changed(source: str, paths: SweepPaths) -> Iterator[SweepPaths]:
    """The files of a sweep that no launch carries out, to be changed; of one in a bucket they are sent afterwards.

    Raises ``InputError`` if a launch holds the sweep, and ``BucketError``.
    """
    uri = copy_of(paths.root)
    if uri is None:
        with only_launch(source, paths):
            yield paths
        return
    own = SweepPaths(work_folder(uri.rpartition("/")[0]) / paths.root.name)
    with kept_in_bucket(source, uri, own, Console(quiet=True), lambda reason: None), only_launch(source, own):
        yield own
