"""Every table that a record supports, and why others are not made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import RecordError, load
from analysis.report.list_of_tables import ablation_tables, statistics_tables
from analysis.tables.anytime import best_so_far
from analysis.tables.importance import importance
from analysis.tables.interaction import interaction
from analysis.tables.pareto import front
from analysis.tables.scaling import scaling
from tests.analysis.record_factory import DEPTH, FD, RANK, SweepFiles
from tests.analysis.tables.grids import GRID, PARAMS, gridded


@pytest.mark.parametrize(
    "of", [front, importance, scaling, best_so_far, lambda record: interaction(record, DEPTH, RANK)]
)
def test_unequal_training_is_refused(tmp_path: Path, of: Any) -> None:
    files = SweepFiles(tmp_path, space=GRID)
    for number, depth in enumerate((1, 2, 4)):
        files.begin(f"t{number:03d}-s0", number, {DEPTH: depth, RANK: 4})
        files.add(f"t{number:03d}-s0", "summary", metrics={FD: 1.0, PARAMS: 2.0})
        files.end(f"t{number:03d}-s0", epoch=10 * depth)
    with pytest.raises(RecordError, match=r"unequal training: 1 trial of 10 epochs .* --unequal"):
        of(load([files.path]))


def test_every_table_that_a_record_supports_is_made_and_the_others_say_why(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 6.0})
    tables = ablation_tables(record)
    assert [table.name for table in tables.made] == ["configurations", "marginal-depth", "marginal-rank"]
    assert tables.refused == []
    grid = ablation_tables(record, [FD], DEPTH, RANK, ci="bootstrap")
    assert [table.name for table in grid.made] == ["pivot-depth-rank", "comparisons-depth-rank"]
    assert [table.name for table in ablation_tables(record, cols=RANK).made] == ["marginal-rank"]
    further = statistics_tables(record)
    assert [table.name for table in further.made] == [
        "one-factor", "importance", "importance-pairs", "partial-dependence", "scaling", "expected-best",
        "interaction-depth-rank",
    ]  # fmt: skip
    path, *at_best, front = further.refused
    assert path == "grid: no configuration between the base and t004 was trained; use a grid"
    for axis, told in zip((DEPTH, RANK), at_best, strict=True):
        assert f"the best of each {axis} is chosen on validation" in told
    assert front == f"grid: a front needs two objectives, got {FD}"
    for table in [*tables.made, *grid.made, *further.made]:
        for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()):
            assert text.endswith("\n")
        assert table.to_rich(120).row_count >= len(table.rows)
