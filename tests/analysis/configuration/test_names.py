"""What people call axes and metrics, and what these are called where people read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import Record, RecordError, configurations, load, marginal, pivot, rank_curves, steps_versus_quality
from analysis.configuration.labels import label_of
from analysis.configuration.names import axis_of, metric_of
from tests.analysis.record_factory import DEPTH, FD, RANK, SweepFiles

SWD = "quality/swd_collapsed"
METRICS = {
    SWD: 0.5, "test/swd_collapsed": 0.6, "test/classifier_fd_collapsed": 2.0, "test/precision_collapsed": 0.9,
    "linearity/collapse_psnr": 130.0, "cost/params": 900.0, "cost/train_seconds": 60.0,
}  # fmt: skip


def recorded(tmp_path: Path, labels: Any = None, space: dict[str, Any] | None = None) -> Record:
    """Two depths at two ranks, one seed each, of a sweep whose spec has those labels."""
    space = space or {DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8]}}
    files = SweepFiles(tmp_path, space=space)
    if labels is not None:
        files.sweep["spec"]["labels"] = labels
        files.write_sweep()
    for number in range(4):
        point = dict(zip(space, (1 + number // 2, 4 + 4 * (number % 2)), strict=True))
        files.finished(number, point, 4.0 - number, curve={1: 9.0 - number, 100: 5.0 - number}, **METRICS)
    files.reference(0, "real against real", 0.5)
    return load([files.path])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("classifier_fd", FD),
        ("classifier FD", FD),
        ("collapsed", FD),
        ("collapsed ↓", FD),
        ("test", "test/classifier_fd_collapsed"),
        ("k=1", "quality/classifier_fd_k1"),
        ("k=100 ↓", "quality/classifier_fd_k100"),
        ("swd", SWD),
        ("sliced W2", SWD),
        ("precision test", "test/precision_collapsed"),
        ("params", "cost/params"),
        ("parameters ↓", "cost/params"),
        ("collapse PSNR (dB) ↑", "linearity/collapse_psnr"),
        ("train_seconds", "cost/train_seconds"),
        ("training time", "cost/train_seconds"),
        ("swd_collapsed", "quality/swd_collapsed"),  # on the objective's split
        (FD, FD),
    ],
)
def test_a_metric_is_known_by_what_tables_print(tmp_path: Path, name: str, key: str) -> None:
    assert metric_of(recorded(tmp_path), name) == key


def test_every_head_of_a_table_names_its_column(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    columns = [column for column in configurations(record).columns if "/" in column.key]
    assert len(columns) >= 6
    assert [metric_of(record, column.header) for column in columns] == [column.key for column in columns]


def test_an_axis_is_known_by_its_end(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    assert [axis_of(record, name) for name in ("depth", "flow.depth", DEPTH, "rank")] == [DEPTH, DEPTH, DEPTH, RANK]
    short, whole = pivot(record, "depth", "rank", "swd"), pivot(record, DEPTH, RANK, SWD)
    assert short.to_markdown() == whole.to_markdown()
    assert short.name == "pivot-depth-rank"
    assert rank_curves(record, "rank", "depth").axes[0].get_xlabel() == "rank"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda r: marginal(r, "depth"),
            r"axis 'depth' could be model.flow.depth, model.other.depth; give one of these",
        ),
        (lambda r: marginal(r, "dpth"), r"no axis 'dpth'; did you mean model.flow.depth"),
        (lambda r: metric_of(r, "clasifier_fd_collapsed"), r"no metric 'clasifier_fd_collapsed'; did you mean "),
        (lambda r: pivot(r, "flow.depth", DEPTH), r"must be two axes, got 'model.flow.depth' twice"),
    ],
)
def test_what_is_ambiguous_or_unknown_is_told_with_candidates(tmp_path: Path, ask: Any, message: str) -> None:
    record = recorded(tmp_path, space={DEPTH: {"grid": [1, 2]}, "model.other.depth": {"grid": [4, 8]}})
    with pytest.raises(RecordError, match=message):
        ask(record)


def test_labels_of_a_spec_are_shown_and_understood(tmp_path: Path) -> None:
    labels = {DEPTH: "layers", "classifier_fd": "FD", "cost/train_seconds": "fit", "linearity/collapse_psnr": "PSNR"}
    record = recorded(tmp_path, labels)
    table = configurations(record)
    headers = [column.header for column in table.columns]
    assert table.title == "demo: FD of every configuration"
    assert headers[1:3] == ["layers", "rank"]
    assert "PSNR (dB) ↑" in headers  # what it is called may change, not what it is measured in
    assert str(label_of(record, "cost/train_seconds")) == "fit (s)"
    assert (axis_of(record, "layers"), metric_of(record, "FD"), metric_of(record, "fit")) == (
        DEPTH, FD, "cost/train_seconds",
    )  # fmt: skip
    grid = pivot(record, "rank", "layers")
    assert grid.title == "demo: mean collapsed FD by rank (rows) and layers (columns)"
    assert r"rank / layers" in grid.to_latex()
    assert grid.name == "pivot-rank-depth"  # names of files do not change with labels
    assert steps_versus_quality(record).axes[0].get_ylabel() == "FD (lower is better)"


def test_a_key_alone_is_labelled_before_its_metric(tmp_path: Path) -> None:
    record = recorded(tmp_path, {"swd": "W2", "test/swd_collapsed": "held-out W2"})
    labels = [str(label_of(record, key)) for key in (SWD, "test/swd_collapsed")]
    assert labels == ["collapsed W2", "held-out W2"]


def test_labels_that_are_no_texts_are_refused_by_file_and_field(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"sweep.json: spec.labels must be a mapping of keys to strings, got"):
        recorded(tmp_path, {"swd": 3})
