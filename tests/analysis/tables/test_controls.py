"""Controls of configurations: how many times worse, and whether they are beaten."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analysis import Configurations, RecordError, controls, load
from analysis.configuration.controls import Control, controls_of, judged, spec_controls, subject_of
from analysis.statistics.intervals import Estimate
from analysis.tables.layout import _verdict
from tests.analysis.operators import NAMES, TEST, control, measured, operators, write
from tests.analysis.record_factory import DEPTH, STUDENT, SweepFiles, frame_of


def test_each_control_has_its_value_its_ratio_and_a_verdict(tmp_path: Path) -> None:
    table = controls(load([operators(tmp_path).path]))
    frame = frame_of(table)
    assert frame["configuration"].tolist() == ["t000", "t001", "g = identity"]
    assert frame["beaten"].tolist() == ["all", "not flat", "all"]
    assert frame[TEST].tolist() == [10, 20, 50]
    assert frame["test/recall_collapsed"].tolist() == pytest.approx([0.7, 0.7, 0.2])
    # 17, 18 and 19 beside 10.
    first = frame.iloc[0]
    assert first["test flat"] == pytest.approx(18)
    assert first["test flat ci95"] == pytest.approx(STUDENT)
    assert first["times flat"] == pytest.approx(1.8)
    assert first["times flat ci95"] == pytest.approx(0.1 * STUDENT)
    assert first[[f"times {name}" for name in NAMES[1:]]].tolist() == pytest.approx([4] * 5)
    assert frame["times flat"].iloc[1] == 1
    # Five times the best, seed by seed; the configurations of the search are no control of it.
    assert frame["times the best"].iloc[2] == 5
    assert frame["times the best"].iloc[:2].isna().all()
    assert [row.block for row in table.rows] == ["", "", "controls"]
    assert "compared with t000, the best, by seed" in table.to_markdown()


@pytest.mark.parametrize(
    ("flat", "beaten", "marker"),
    [
        ((1.7, 1.8, 1.9), "all", ""),
        ((1.2, 1.3, 1.4), "not flat", "✗"),  # by more than the interval, but not by 1.5 times
        ((1.0, 1.8, 3.0), "not flat", "✗"),  # by 1.9 times, but not by more than the interval
        ((0.5, 0.5, 0.5), "not flat", "✗"),
        ((1.5, 1.5, 1.5), "all", ""),
    ],
)
def test_beaten_is_by_more_than_the_interval_and_by_one_and_a_half_times(
    tmp_path: Path, flat: tuple[float, ...], beaten: str, marker: str
) -> None:
    table = controls(load([operators(tmp_path, flat=flat).path]))
    assert table.rows[0].cells[1].value == beaten
    place = [column.key for column in table.columns].index("times flat")
    assert table.rows[0].cells[place].marker == marker


def test_one_seed_tells_nothing(tmp_path: Path) -> None:
    table = controls(load([operators(tmp_path, seeds=(1,)).path]))
    assert [row.cells[1].value for row in table.rows] == ["?", "?", "?"]
    assert "with one seed there is no interval" in table.to_markdown()


def test_what_is_better_the_higher_is_compared_the_other_way_round(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [4]}}, seeds=(0, 1))
    for seed, value in ((0, 0.8), (1, 0.6)):
        files.begin(f"t000-s{seed}", 0, {DEPTH: 4}, seed=seed)
        scalars, _ = measured(10.0, {"flat": 2.0})
        write(files, f"t000-s{seed}", scalars | {"test/recall_collapsed": value, "test/recall_flat": 0.2})
    configurations = Configurations(load([files.path]))
    row = judged(configurations)
    assert row is not None
    (found,) = controls_of(configurations.record, row, "recall")
    assert found.ratio.mean == pytest.approx((4 + 3) / 2)
    assert controls(configurations, "recall").rows[0].cells[2].value == pytest.approx(0.7)


def test_what_has_no_ratio_has_none(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [4]}})
    files.begin("t000-s0", 0, {DEPTH: 4})
    scalars, _ = measured(10.0, {"flat": 2.0})
    write(files, "t000-s0", scalars | {TEST: -0.1, "test/classifier_fd_flat": 0.1})
    (row,) = controls(load([files.path])).rows
    assert row.cells[1].value == "?"
    assert isinstance(row.cells[-1].value, float)
    assert math.isnan(row.cells[-1].value)


def test_controls_of_the_spec_are_against_fresh_seeds_where_there_are_any(tmp_path: Path) -> None:
    files = operators(tmp_path, identity=(45.0, 55.0, 50.0))
    for seed in (7, 8):
        files.begin(f"k000-s{seed}", 0, {DEPTH: 4}, kind="confirm", seed=seed)
        write(files, f"k000-s{seed}", *measured(12.5, {"flat": 1.6 if seed == 7 else 1.8}))
    configurations = Configurations(load([files.path]))
    row = judged(configurations)
    assert row is not None
    assert (row["kind"], row["name"]) == ("confirm", "k000")
    (flat,) = controls_of(configurations.record, row, "classifier_fd")
    assert flat.ratio.mean == pytest.approx(1.7)
    assert flat.ratio.n == 2
    # No seed in common: the ratio of the means, 50 / 12.5, of which nothing is told.
    (identity,) = spec_controls(configurations, row, "classifier_fd")
    assert (identity.ratio.mean, identity.told, identity.beaten) == (4.0, False, False)


def test_a_control_is_of_what_it_sets() -> None:
    sets = {
        '{"model.flow.kind": "identity", "model.operator.kind": "affine"}': "g",
        '{"model.operator.rank": 0, "model.operators.by": "one"}': "A",
        '{"family": "flow_matching"}': "",
        '{"train.loss.flow": 1.0, "model.noise_flow": "same"}': "",
        "{}": "",
    }
    assert {text: subject_of({"overrides": text}) for text in sets} == sets
    assert subject_of({"overrides": None}) == ""


def test_without_controls_there_is_no_table(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [4]}})
    files.finished(0, {DEPTH: 4}, 8.0)
    with pytest.raises(RecordError, match="no control was recorded"):
        controls(load([files.path]))
    with pytest.raises(RecordError, match="no metric of a control 'swd'"):
        controls(load([operators(tmp_path).path]), "swd")


def test_controls_of_the_spec_alone_make_a_table_too(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [4]}}, seeds=(0, 1))
    for seed in (0, 1):
        files.begin(f"t000-s{seed}", 0, {DEPTH: 4}, seed=seed)
        write(files, f"t000-s{seed}", measured(10.0, {})[0])
        control(files, "g linear", {"model.flow.kind": "linear"}, seed, 20.0)
    frame = frame_of(controls(load([files.path])))
    assert frame["times the best"].dropna().tolist() == [2]
    assert frame["beaten"].fillna("").tolist() == ["", "all"]


def test_a_ratio_of_one_seed_is_not_called_beaten_or_not() -> None:
    ratios = Estimate(3.0, 1), Estimate(1.2, 3, 1.0, 1.4), Estimate(3.0, 3, 2.5, 3.5)
    told = [_verdict(Control("random", "A", Estimate(30.0, 3), ratio)) for ratio in ratios]
    assert told == [" (one seed)", " (not beaten)", ""]
