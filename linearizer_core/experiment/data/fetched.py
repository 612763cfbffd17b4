"""Data sets in a bucket: this machine's copy of their files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from linearizer_core.bucket import Bucket, BucketError
from linearizer_core.experiment.data.errors import DataError
from linearizer_core.mirror import cache_folder, folder_name, mirrored


@lru_cache
def fetched(uri: str) -> Path:
    """The copy of the file, or of the folder, at an address: fetched once for all processes of this machine.

    A process looks once whether anything has changed there. Raises ``DataError`` where nothing is there, or the bucket
    cannot be read.
    """
    folder = cache_folder() / "data" / folder_name(uri)
    parent, _, name = uri.rpartition("/")
    try:
        bucket = Bucket(uri)
        entries = bucket.entries()
        if entries:
            mirrored(bucket, folder, entries)
            return folder
        beside = Bucket(parent)
        entry = None if parent.endswith("/") else beside.entry(name)
        if entry is None:
            raise DataError(f"{uri}: there is neither an object of this name nor any below it")
        mirrored(beside, folder, [entry])
        return folder / name
    except (BucketError, OSError) as error:
        raise DataError(str(error)) from None
