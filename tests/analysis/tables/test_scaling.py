"""Laws over an axis."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.tables.scaling import scaling
from tests.analysis.record_factory import frame_of
from tests.analysis.tables.grids import gridded


def test_the_law_of_a_grid_is_fitted_at_each_level_of_the_other_axis(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 200.0, "b": 1.0, "depth": 0.0, "both": 0.0})
    frame = frame_of(scaling(record)).set_index(["over", "at", "law"])
    power = frame.xs("power", level="law")
    assert power.loc["rank", "supported"].eq("yes").all()
    assert power.loc["rank", "b"].tolist() == pytest.approx([1.0] * 4, abs=0.15)
    assert power.loc["rank", "c"].tolist() == pytest.approx([20.0] * 4, abs=2.0)
    assert power.loc["depth", "supported"].str.startswith("no: ").all()
    logarithm = frame.xs("logarithm", level="law").loc["depth", "supported"]
    assert (logarithm.str.contains("covers 0") | logarithm.str.contains("of the variance")).all()
