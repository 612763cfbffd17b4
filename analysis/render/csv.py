"""A table as CSV, in full precision."""

from __future__ import annotations

import pandas as pd

from analysis.render.cells import Content
from analysis.render.values import by_column


def csv(table: Content) -> str:
    """The values in full precision; intervals, counts and remarks on cells are columns of their own."""
    # As objects, so that integers stay integers if some are missing.
    return pd.DataFrame(by_column(table), dtype=object).to_csv(index=False, lineterminator="\n")
