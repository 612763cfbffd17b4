"""The example record that ships with the package."""

from __future__ import annotations

from importlib import resources

from analysis.record.runs import Record, load


def example() -> Record:
    """A sweep over depth and rank on 8×8 digits: 12 configurations at two seeds, with controls and references.

    >>> import analysis
    >>> analysis.example()
    <Record of digits; 29 trials: 29 finished>
    """
    with resources.as_file(resources.files("analysis").joinpath("examples", "digits.parquet")) as path:
        return load(path)
