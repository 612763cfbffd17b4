"""Functions that show sweeps and trials: list, logs.

A module of its own, because one function has the name of a built-in type.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from linearizer_core.bucket import is_address
from sweeps.logs import Logs
from sweeps.record.lookup import find_trial, storage_folder

if TYPE_CHECKING:
    from sweeps.listing import Listing


def list(storage: str | os.PathLike[str] = "runs") -> Listing:
    """List the sweeps of a storage folder, or of one in a bucket: states, trials, best configurations and ages.

    Raises ``LinsweepError`` if the folder does not exist. A sweep that cannot be read is in ``unreadable``.

    >>> import linsweep as ls
    >>> [each.sweep.name for each in ls.list().sweeps]
    ['cut', 'before']
    """
    from sweeps.listing import listing  # imports torch, which logs do not need

    folder = Path(storage)
    return listing(folder if is_address(folder) else storage_folder(folder))


def logs(trial: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs", whole: bool = False) -> Logs:
    """The log of a trial (``"SWEEP/TRIAL"``): iterate over it for its lines; ``follow()`` waits for more.

    Of many final metrics it has the objective, its value on the test split and cost, or with ``whole`` every one.

    Raises ``LinsweepError`` if the sweep or trial does not exist.

    >>> import linsweep as ls
    >>> [line.text for line in ls.logs("before/t002-s0") if line.event == "end"]
    ['stopped after epoch 2: asha: not among the best at epoch 2']
    """
    return Logs(*find_trial(trial, Path(storage)), whole)
