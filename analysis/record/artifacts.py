"""The artifacts of trials that figures show: sample grids and spectra (docs/record.md)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.record.copies import fetch_artifacts
from analysis.record.runs import Record, RecordError, natural

CURVES, RANKS, SPECTRA, SAMPLES = "curves.csv", "ranks.csv", "spectra.csv", "samples_"
"""File names: metrics against solver steps, metrics against rank, singular values; and the prefix of sample grids."""
FIRST = ("collapsed", "k", "samples")
"""Prefixes of the names of sample grids, in the order in which they are shown; the other grids follow."""


def folder_of(record: Record, sweep: str, trial: str) -> Path | None:
    """The folder of a trial's artifacts; None if it has none or the record was not read from a sweep's folder."""
    source = Path(record.sweep(sweep).source)
    folder = source.parent / "artifacts" / trial
    if source.name == "sweep.json":
        fetch_artifacts(source.parent, trial, lambda name: "/" not in name)  # neither weights nor folders of one's own
    return folder if source.name == "sweep.json" and folder.is_dir() else None


def sample_grids(record: Record, sweep: str, trial: str) -> dict[str, Path]:
    """A trial's sample grids by name (``collapsed``, ``k100``, …), with eight images per row."""
    folder = folder_of(record, sweep, trial)
    if folder is None:
        return {}
    names = {path.stem.removeprefix(SAMPLES): path for path in folder.glob(f"{SAMPLES}*.png")}

    def order(name: str) -> tuple[int, tuple[tuple[int, str], ...]]:
        places = (place for place, start in enumerate(FIRST) if name.startswith(start))
        return next(places, len(FIRST)), natural(name)

    return {name: names[name] for name in sorted(names, key=order)}


def spectra(record: Record, sweep: str, trial: str) -> dict[str, pd.Series[float]]:
    """A trial's singular values by operator, in descending order; empty if it has none.

    Raises ``RecordError`` naming the file if it is not such a table.
    """
    folder = folder_of(record, sweep, trial)
    path = None if folder is None else folder / SPECTRA
    if path is None or not path.exists():
        return {}
    try:
        frame = pd.read_csv(path)
        groups = frame.groupby("operator", sort=False)["singular_value"]
        return {str(name): values.reset_index(drop=True).astype("float64") for name, values in groups}
    except (ValueError, KeyError) as error:
        wanted = "operator, index, singular_value"
        raise RecordError(f"{path}: not a table with the columns {wanted} ({' '.join(str(error).split())})") from None
