"""A table as CSV, in full precision."""

from __future__ import annotations

import pandas as pd

from analysis.render.cells import Content
from analysis.render.values import by_column


def csv(table: Content) -> str:
    """The values in full precision; intervals, counts and what is said of a cell have columns of their own."""
    # As objects, so that whole numbers stay whole beside missing ones.
    return pd.DataFrame(by_column(table), dtype=object).to_csv(index=False, lineterminator="\n")
