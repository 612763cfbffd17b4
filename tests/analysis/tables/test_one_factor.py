"""One change at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from analysis import (
    RecordError,
    load,
)
from analysis.tables.one_factor import one_factor
from tests.analysis.record_factory import DEPTH, FD, RANK, frame_of
from tests.analysis.tables.ablations import gridded, half_width


def test_one_change_at_a_time_from_the_values_of_the_spec(tmp_path: Path) -> None:
    files = gridded(tmp_path)
    files.sweep["spec"]["model"] = {"flow": {"depth": 1}, "operator": {"rank": 4}}
    files.write_sweep()
    for seed in range(6):
        files.begin(f"c000-s{seed}", 0, {DEPTH: 1, RANK: 4}, kind="control", label="g linear", seed=seed)
        files.complete(f"c000-s{seed}", 50.0 + seed % 2)
    record = load([files.path])
    table = one_factor(record)
    assert [(row.block, row.cells[0].value) for row in table.rows] == [
        ("", "base: t000"), ("depth", "depth = 2"), ("rank", "rank = 8"), ("controls", "g linear"),
    ]  # fmt: skip
    assert "one change at a time from depth 1, rank 4" in table.title
    values = record.runs[record.runs["kind"] == "search"].pivot(index="seed", columns=[DEPTH, RANK], values=FD)
    frame = frame_of(table)
    gap = values[2, 4] - values[1, 4]
    assert frame["difference from the base"][1] == pytest.approx(gap.mean())
    assert frame["difference from the base ci95"][1] == pytest.approx(half_width(gap.tolist()))
    # The base was not chosen by its value: three comparisons, no more.
    assert "corrected for 3 comparisons, those shown. " in table.to_markdown()
    assert frame["p holm"][2] == pytest.approx(stats.ttest_rel(values[1, 8], values[1, 4]).pvalue, rel=1e-6)
    named = one_factor(record, base="t003")
    assert [row.cells[0].value for row in named.rows][:3] == ["base: t003", "depth = 1", "rank = 4"]
    with pytest.raises(RecordError, match="no configuration 't009'"):
        one_factor(record, base="t009")


def test_one_change_at_a_time_from_the_best_corrects_for_its_choice(tmp_path: Path) -> None:
    table = one_factor(load([gridded(tmp_path).path]))
    assert table.rows[0].cells[0].value == "base: t000"
    assert any("corrected for 6 comparisons" in note and "chosen by its value" in note for note in table.notes)
