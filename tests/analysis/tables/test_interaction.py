"""Whether two axes act together."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import RecordError, Table
from analysis.tables.interaction import interaction
from tests.analysis.record_factory import DEPTH, RANK, frame_of
from tests.analysis.tables.grids import gridded


def analysed(table: Table) -> pd.DataFrame:
    return frame_of(table).set_index("source")


def test_the_interaction_of_a_grid(tmp_path: Path) -> None:
    planted = gridded(tmp_path / "a", {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 6.0})
    table = interaction(planted, DEPTH, RANK)
    frame = analysed(table)
    assert frame["degrees of freedom"].tolist() == [3, 4, 12, 40]
    assert frame.loc["depth × rank", "p"] < 1e-3
    assert "They act together" in table.notes[0]
    null = gridded(tmp_path / "b", {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 0.0})
    table = interaction(null, DEPTH, RANK)
    assert analysed(table).loc["depth × rank", "p"] > 0.01
    linear = analysed(interaction(null, DEPTH, RANK, kind="linear"))
    assert linear.index.tolist() == ["depth", "log₂ rank", "depth × rank", "residual"]
    # A configuration can be off a slope by itself, at all of its seeds: twenty observations, not sixty.
    assert linear["degrees of freedom"].tolist() == [1, 1, 1, 16]


def test_one_value_a_cell_has_no_error_to_test_against(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 0.0}, seeds=1)
    with pytest.raises(RecordError, match=r"as many cells as values.*more seeds"):
        interaction(record, DEPTH, RANK)
    assert analysed(interaction(record, DEPTH, RANK, kind="linear"))["p"].notna().sum() == 3
