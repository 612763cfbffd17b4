"""Functions that write specs and delete records."""

from __future__ import annotations

import os
from pathlib import Path

from sweeps.record.lookup import own_sweep
from sweeps.record.removal import Removal, removal_of, remove
from sweeps.spec.first import write_first


def init(
    path: str | os.PathLike[str] = "spec.yaml",
    *,
    data: str | os.PathLike[str] = "digits",
    family: str = "diffusion",
    question: str = "depth-rank",
    name: str | None = None,
) -> Path:
    """Write a first spec, with a comment for each part, to a new file, and return its path.

    ``data`` is the name of a data set, a folder of images or an .npz file; ``family`` is ``diffusion``, ``idempotent``
    or ``style``; ``question`` is ``depth-rank`` (how do both affect quality?), ``rank`` (which rank is enough?) or
    ``best`` (which configuration is best?). ``name`` is the name of the sweep, by default that of the file.

    Raises ``LinsweepError`` if the file exists, the family or question is unknown, or the images cannot be used.

    >>> import linsweep as ls
    >>> ls.plan(ls.init("first.yaml", question="rank")).sweep.search.space["model.operator.rank"].grid
    (1, 2, 4, 8, 16, 32, 64)
    """
    return write_first(Path(path), os.fspath(data), family, question, name)


def delete(
    sweep: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs", dry_run: bool = False
) -> Removal:
    """Delete a sweep's whole record without asking; with ``dry_run`` only list what would be deleted.

    MLflow keeps its runs, and other sweeps keep the trials that they reused.

    Raises ``LinsweepError`` if the sweep does not exist or is running.

    >>> import linsweep as ls
    >>> [entry.name for entry in ls.delete("cut", dry_run=True).entries][:3]
    ['artifacts', 'journal', 'ledger.json']
    >>> ls.delete("cut").done
    True
    """
    folder = own_sweep(sweep, Path(storage))
    return removal_of(folder) if dry_run else remove(os.fspath(sweep), folder)
