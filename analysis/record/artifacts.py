"""What trials left beside their journals: sample grids and spectra (docs/record.md)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.record.runs import Record, RecordError, natural

CURVES, RANKS, SPECTRA, SAMPLES = "curves.csv", "ranks.csv", "spectra.csv", "samples_"
"""The files of metrics against solver steps, of metrics against rank and of singular values, and what those of sample
grids begin with."""
FIRST = ("collapsed", "k", "samples")
"""What the names of sample grids begin with, in the order in which they are shown; the others follow."""


def folder_of(record: Record, sweep: str, trial: str) -> Path | None:
    """The artifacts of a trial; None if it has none, or the record was not read from the sweep's folder."""
    source = Path(record.sweep(sweep).source)
    folder = source.parent / "artifacts" / trial
    return folder if source.name == "sweep.json" and folder.is_dir() else None


def sample_grids(record: Record, sweep: str, trial: str) -> dict[str, Path]:
    """A trial's pictures by name (``collapsed``, ``k100``, …): eight images a row."""
    folder = folder_of(record, sweep, trial)
    if folder is None:
        return {}
    names = {path.stem.removeprefix(SAMPLES): path for path in folder.glob(f"{SAMPLES}*.png")}

    def order(name: str) -> tuple[int, tuple[tuple[int, str], ...]]:
        places = (place for place, start in enumerate(FIRST) if name.startswith(start))
        return next(places, len(FIRST)), natural(name)

    return {name: names[name] for name in sorted(names, key=order)}


def spectra(record: Record, sweep: str, trial: str) -> dict[str, pd.Series[float]]:
    """Singular values by operator, in descending order, of a trial; empty if it has none.

    Raises ``RecordError`` naming a file that is not a table of them.
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
        raise RecordError(f"{path}: is not a table of {wanted} ({' '.join(str(error).split())})") from None
