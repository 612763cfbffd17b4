"""Figures over two axes, against cost and over all axes: what is drawn where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import RecordError, heat_map, load, parallel_coordinates, pareto, rank_curves
from analysis.figures.maps import depth_and_rank
from tests.analysis.record_factory import DEPTH, LR, RANK, STUDENT, SweepFiles, gridded, told


def point(depth: int = 3, rank: int = 16, lr: float = 2e-3) -> dict[str, object]:
    return {DEPTH: depth, RANK: rank, LR: lr}


def test_the_heat_map_is_the_pivot(tmp_path: Path) -> None:
    figure = heat_map(gridded(tmp_path))
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("depth", "rank")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4", "8", "16"]
    cells = {text.get_position(): text for text in axes.texts}
    assert len(cells) == 6
    assert cells[1, 2].get_text().split("\n")[0] == "3.12"
    assert cells[1, 2].get_weight() == "bold"
    assert "depth 1, rank 8: 12.5 ± 3.1 (3)" in told(figure)


def test_pairs_without_a_value_say_why(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8]}})
    files.finished(0, {DEPTH: 1, RANK: 4}, 3.0)
    files.failed(1, {DEPTH: 2, RANK: 8}, "out of memory")
    axes = heat_map(load([files.path])).axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "3", (1, 0): "", (0, 1): "", (1, 1): "failed",
    }  # fmt: skip


def test_letters_can_be_read_on_every_colour(tmp_path: Path) -> None:
    axes = heat_map(gridded(tmp_path)).axes[0]
    colours = {text.get_position(): text.get_color() for text in axes.texts}
    assert (colours[0, 0], colours[1, 2]) == ("#222222", "#ffffff")  # on the lightest, and on the darkest


def test_rank_curves_have_a_line_for_each_depth(tmp_path: Path) -> None:
    figure = rank_curves(gridded(tmp_path))
    axes = figure.axes[0]
    named = {line.get_label(): line for line in axes.get_lines() if line.get_label() in ("depth 1", "depth 2")}
    # The lines stand beside each other: bars at one place would hide each other.
    left, right = (np.asarray(named[name].get_xdata()) for name in ("depth 1", "depth 2"))
    np.testing.assert_allclose(left, [4, 8, 16], rtol=0.02)
    np.testing.assert_allclose(left * right, [4**2, 8**2, 16**2])
    assert (left < right).all()
    np.testing.assert_allclose(named["depth 2"].get_ydata(), [12.5, 6.25, 3.125])
    assert named["depth 1"].get_marker() != named["depth 2"].get_marker()
    assert axes.get_xscale() == "log"
    assert any(set(line.get_ydata()) == {1.0} for line in axes.get_lines())  # the floor
    bar = axes.collections[0].get_segments()[0]
    np.testing.assert_allclose(bar, [[left[0], 25 - STUDENT * 2.5], [left[0], 25 + STUDENT * 2.5]])


def test_unequal_training_is_not_drawn_unless_asked_for(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}, RANK: {"int": [4, 64]}})
    files.finished(0, {DEPTH: 1, RANK: 4}, 3.0)
    files.stopped(1, {DEPTH: 2, RANK: 8}, 5.0)
    record = load([files.path])
    with pytest.raises(RecordError, match="stopped early"):
        heat_map(record)
    assert len(heat_map(record, unequal=True).axes[0].texts) == 4
    assert "depth 2" not in [mark.series for mark in rank_curves(record).marks]


def test_the_front_has_what_nothing_is_better_than_in_both(tmp_path: Path) -> None:
    figure = pareto(gridded(tmp_path))
    axes = figure.axes[0]
    assert axes.get_xlabel() == "cost/params (lower is better)"
    series = {mark.item: mark.series for mark in figure.marks if mark.told}
    # Size grows with rank within a depth, and every model of depth 2 is larger than all of depth 1.
    front = [name for name, where in series.items() if where == "front"]
    assert front == ["t000", "t001", "t002", "t005"]
    stair = next(line for line in axes.get_lines() if line.get_drawstyle().startswith("steps"))
    np.testing.assert_allclose(stair.get_xdata(), [1004, 1008, 1016, 2016])
    assert stair.get_drawstyle() == "steps-post"


def test_a_front_needs_two_metrics(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 3.0)
    record = load([files.path])
    with pytest.raises(RecordError, match="no second objective and no cost"):
        pareto(record)
    with pytest.raises(RecordError, match="no metric 'cost/param'"):
        pareto(record, "cost/param")


def test_parallel_coordinates_go_through_every_axis(tmp_path: Path) -> None:
    figure = parallel_coordinates(gridded(tmp_path))
    axes = figure.axes[0]
    configurations = [line for line in axes.get_lines() if len(line.get_xdata()) == 4]
    assert len(configurations) == 6
    worst, best = configurations[0], configurations[-1]
    np.testing.assert_allclose(worst.get_ydata(), [0, 0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(best.get_ydata(), [1, 1, 0, 1], atol=1e-9)
    assert best.get_linewidth() > worst.get_linewidth()
    names = [text.get_text() for text in axes.texts]
    assert {"depth", "rank", "params ↓", "classifier\nfd collapsed ↓"} <= set(names)


def test_parallel_coordinates_show_what_did_not_finish(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(2, 8), 9.0)
    files.finished(1, point(4, 16), 4.5)
    files.stopped(2, point(3, 60), 50.0)
    files.failed(3, point(3, 30), "out of memory")
    figure = parallel_coordinates(load([files.path]))
    assert [mark.series for mark in figure.marks] == ["not finished", "not finished", "finished", "best"]


def test_an_axis_that_was_never_used_is_left_out(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}, "model.flow.kernel": {"choice": [3, 5]}})
    files.finished(0, {DEPTH: 1}, 3.0)
    files.finished(1, {DEPTH: 2}, 5.0)
    lines = parallel_coordinates(load([files.path])).axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == [0, 1]


def test_a_map_is_of_depth_and_rank_or_of_two_other_axes(tmp_path: Path) -> None:
    def axes_of(name: str, space: dict[str, object]) -> tuple[str, str]:
        files = SweepFiles(tmp_path, name, space=space)
        files.finished(0, dict.fromkeys(space, 2), 3.0)
        return depth_and_rank(load([files.path]))

    number = {"int": [1, 8]}
    assert axes_of("a", {LR: number, RANK: number, DEPTH: number}) == (DEPTH, RANK)
    assert axes_of("b", {LR: number, RANK: number}) == (LR, RANK)
    assert axes_of("c", {LR: number, "train.warmup": number}) == (LR, "train.warmup")
    with pytest.raises(RecordError, match=r"a map needs two searched axes of numbers; there is train\.lr"):
        axes_of("d", {LR: number})
