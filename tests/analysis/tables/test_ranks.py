"""Quality against the rank used for sampling, as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import RecordError, load, quality_by_rank
from tests.analysis.operators import measured, operators, write
from tests.analysis.record_factory import DEPTH, STUDENT, SweepFiles, frame_of


def test_validation_and_test_stand_side_by_side_and_the_best_rank_is_marked(tmp_path: Path) -> None:
    table = quality_by_rank(load([operators(tmp_path).path]))
    frame = frame_of(table)
    assert frame["configuration"].tolist() == ["t000"] * 3 + ["t001"] * 3
    assert frame["rank"].tolist() == [1, 8, 64] * 2
    assert frame["validation"].tolist() == pytest.approx([40, 20, 30, 45, 25, 35])
    assert frame["test"].tolist() == pytest.approx([44, 22, 33, 49.5, 27.5, 38.5])
    # The seeds are one apart, on the test split a tenth more.
    assert frame["validation ci95"].tolist() == pytest.approx([STUDENT] * 6)
    assert frame["test ci95"].tolist() == pytest.approx([1.1 * STUDENT] * 6)
    assert frame["test recall"].tolist() == pytest.approx([0.1, 0.2, 0.3] * 2)
    assert [row.bold for row in table.rows] == [False, True, False] * 2
    assert frame["chosen"].fillna("").tolist() == ["", "2 of 3 at 1.25", "1 of 3 at 1.25"] * 2


def test_what_is_better_the_higher_it_is_marked_where_it_is_highest(tmp_path: Path) -> None:
    files = operators(tmp_path)
    for seed in (0, 1, 2):
        files.add(f"t000-s{seed}", "curve", metric="rank/recall", steps=[1, 8, 64], values=[0.1, 0.2, 0.3])
    table = quality_by_rank(load([files.path]), "recall")
    assert [(row.cells[0].value, row.cells[1].value) for row in table.rows if row.bold] == [("t000", 64)]


def test_names_of_older_records_are_known(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [4]}})
    files.begin("t000-s0", 0, {DEPTH: 4})
    scalars, curves = measured(10.0, {})
    write(files, "t000-s0", {key.replace("sampling/", "operators/"): value for key, value in scalars.items()}, curves)
    frame = frame_of(quality_by_rank(load([files.path])))
    assert frame["chosen"].fillna("").tolist() == ["", "1 of 1 at 1.25", ""]
    assert "validation ci95" not in frame  # one seed has no interval


def test_without_curves_over_rank_there_is_no_table(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, {DEPTH: 1}, 8.0, curve={1: 9.0, 10: 8.0})
    with pytest.raises(RecordError, match="no curve 'rank/classifier_fd'"):
        quality_by_rank(load([files.path]))
    with pytest.raises(RecordError, match=r"no curve 'rank/test_classifier_fd'; did you mean rank/classifier_fd"):
        quality_by_rank(load([operators(tmp_path).path]), "rank/test_classifier_fd")
