"""Functions on single trials: sampling their models and reproducing them."""

from __future__ import annotations

import os
from pathlib import Path

from sweeps.record.lookup import find_trial
from sweeps.reproduction import Reproduction
from sweeps.reproduction import reproduce as run_again
from sweeps.samples import Samples, write_samples


def sample(
    trial: str | os.PathLike[str],
    *,
    storage: str | os.PathLike[str] = "runs",
    count: int = 64,
    seed: int = 0,
    out: str | os.PathLike[str] = "samples",
    device: str = "cpu",
) -> Samples:
    """Sample images from the model of a trial (``"SWEEP/TRIAL"``) and write them to a folder, as PNG and .npz.

    The same seed gives the same images. ``device`` is a PyTorch device name.

    Raises ``LinsweepError`` if the trial does not exist or keeps no model, or if the model cannot be read.

    >>> import linsweep as ls
    >>> made = ls.sample("before/t000-s0", count=16, seed=3)
    >>> made.images.shape, made.grid.name
    ((16, 1, 8, 8), 'before-t000-s0-seed3.png')
    """
    return write_samples(*find_trial(trial, Path(storage)), count, seed, Path(out), device)


def reproduce(
    trial: str | os.PathLike[str],
    *,
    storage: str | os.PathLike[str] = "runs",
    out: str | os.PathLike[str] = "reproduced",
    data_root: str | os.PathLike[str] | None = None,
) -> Reproduction:
    """Train a trial (``"SWEEP/TRIAL"``) again in this process, with its configuration and seed, and compare metrics.

    ``out`` is the folder for the new record, ``data_root`` the folder of the images if they have moved.

    Raises ``LinsweepError`` if the trial does not exist or has no result, and if the images are missing.

    >>> import linsweep as ls
    >>> again = ls.reproduce("before/t003-s1")
    >>> again.state, [each.what for each in again.origin][:1]
    ('finished', ['commit'])
    """
    root = None if data_root is None else Path(data_root)
    return run_again(*find_trial(trial, Path(storage)), Path(out), root)
