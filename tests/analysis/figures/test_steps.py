"""Quality against solver steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from analysis import (
    RecordError,
    axes_versus_objective,
    load,
    pareto,
    steps_versus_quality,
)
from tests.analysis.figures.drawn import annotations_of, lines, small
from tests.analysis.record_factory import DEPTH, RANK, STUDENT, SweepFiles, gridded, point, told


def test_lines_are_means_over_seeds_and_the_best_has_a_star(tmp_path: Path) -> None:
    axes = steps_versus_quality(load([small(tmp_path).path])).axes[0]
    first, second = (line for line in axes.get_lines() if line.get_gid() in ("mark0", "mark1"))
    assert first.get_xdata().tolist() == [1, 10, 100]
    assert first.get_ydata().tolist() == [31.0, 20.0, 10.0]
    np.testing.assert_array_equal(second.get_ydata(), [20.0, np.nan, 5.0])
    assert second.get_linewidth() > first.get_linewidth()
    assert second.get_color() != first.get_color()
    star = next(line for line in axes.get_lines() if line.get_marker() == "*")
    assert (star.get_xdata().tolist(), star.get_ydata().tolist()) == ([100], [4.5])


def test_controls_are_dashed_and_references_horizontal(tmp_path: Path) -> None:
    figure = steps_versus_quality(load([small(tmp_path).path]))
    *_, control, one, two, three = lines(figure.axes[0], "--")
    references = [one, two, three]
    assert control.get_ydata().tolist() == [80.0, 60.0, 41.0]
    assert [reference.get_ydata() for reference in references] == [[1.0, 1.0], [40.0, 40.0], [42.0, 42.0]]
    names = {text.get_text().replace("\n", " "): text for text in annotations_of(figure)}
    assert set(names) == {
        "g = identity (1 of 2 finished)", "real against real", "Gaussian fitted to the training pixels", "noise",
    }  # fmt: skip
    assert names["g = identity (1 of 2 finished)"].xy[1] == 41.0


def test_labels_do_not_overlap_and_stay_in_the_figure(tmp_path: Path) -> None:
    figure = steps_versus_quality(load([small(tmp_path).path]))
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in annotations_of(figure)]
    assert len(boxes) == 4
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def test_steps_are_logarithmic_and_quality_where_it_spans_a_decade(tmp_path: Path) -> None:
    axes = steps_versus_quality(load([small(tmp_path).path])).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xticks().tolist() == [1, 10, 100]
    flat = SweepFiles(tmp_path, "flat")
    flat.finished(0, point(), 8.0, curve={1: 20.0, 100: 8.0})
    axes = steps_versus_quality(load([flat.path])).axes[0]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "classifier FD (lower is better)"


def test_close_steps_are_not_all_named(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 8.0, curve=dict.fromkeys((1, 2, 4, 8, 90, 100), 9.0))
    assert steps_versus_quality(load([files.path])).axes[0].get_xticks().tolist() == [1, 2, 4, 8, 100]


def test_many_depths_get_a_colour_bar(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for depth in range(1, 10):
        files.finished(depth, point(depth), float(depth), curve={1: 9.0, 2: float(depth)})
    figure = steps_versus_quality(load([files.path]))
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["best (t001)", "best, collapsed"]


def test_the_legend_names_depths_in_order(tmp_path: Path) -> None:
    figure = steps_versus_quality(load([small(tmp_path).path]))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    # Legends fill by columns, of which there are three: the rows read depths; ranks; the best.
    assert texts == ["depth 2", "rank 16", "depth 4", "best (t001)", "rank 8", "best, collapsed"]


def test_an_unknown_curve_is_told_of(tmp_path: Path) -> None:
    record = load([small(tmp_path).path])
    assert steps_versus_quality(record, "classifier_fd").axes[0].get_xlabel() == "solver steps k"
    with pytest.raises(RecordError, match="no curve 'nfe/classifier'; did you mean nfe/classifier_fd"):
        steps_versus_quality(record, "classifier")


def test_without_curves_there_is_no_figure(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 8.0)
    with pytest.raises(RecordError, match="no trial has a curve yet"):
        steps_versus_quality(load([files.path]))


def test_bands_are_student_intervals_over_seeds(tmp_path: Path) -> None:
    figure = steps_versus_quality(gridded(tmp_path))
    bands = figure.axes[0].collections
    assert len(bands) == 6
    heights = bands[1].get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(37.5 + STUDENT * 3.75)
    assert f"t000 (depth 1, rank 4): classifier FD 75 ± {STUDENT * 7.5:.2g} at k = 1" in told(figure)


def test_many_lines_leave_bands_to_the_best_and_the_confirmed(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2))
    for number in range(7):
        for seed in (0, 1, 2):
            value = 10.0 + number + seed
            files.finished(number, point(1, number + 4), value, seed=seed, curve={1: 9 * value, 10: value})
    for seed in (7, 8, 9):
        files.begin(f"k000-s{seed}", 0, point(1, 4), kind="confirm", seed=seed)
        files.complete(f"k000-s{seed}", 12.0, curve={1: 100.0 + seed, 10: 12.0})
    figure = steps_versus_quality(load([files.path]))
    assert [mark.item for mark in figure.marks if mark.series == "intervals"] == ["t000", "k000"]
    assert "fresh seeds" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_both_axes_are_shown_by_colour_and_by_dashes(tmp_path: Path) -> None:
    """Depths 1 and 2 in two colours, ranks 4, 8 and 16 in three dashes with markers of their own."""
    figure = steps_versus_quality(gridded(tmp_path))
    drawn = [line for line in figure.axes[0].get_lines() if (line.get_gid() or "").startswith("mark")][:6]
    looks = [(line.get_color(), str(line.get_linestyle()), str(line.get_marker())) for line in drawn]
    assert len(set(looks)) == 6
    assert len({colour for colour, _, _ in looks}) == 2
    assert len({dashes for _, *dashes in map(tuple, looks) for dashes in [tuple(dashes)]}) == 3
    assert {"rank 4", "rank 8", "rank 16"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_two_seeds_are_dots_and_no_band(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for seed in (0, 1):
        files.finished(0, point(2, 8), 9.0, seed=seed, curve={1: 30.0 + 2 * seed, 10: 20.0})
    figure = steps_versus_quality(load([files.path]))
    assert len(figure.axes[0].collections) == 0
    marks = {mark.gid for mark in figure.marks if mark.series == "seeds"}
    dots = [line.get_ydata().tolist() for line in figure.axes[0].get_lines() if line.get_gid() in marks]
    assert dots == [[30.0, 20.0], [32.0, 20.0]]


def test_every_mark_of_a_configuration_is_its_own(tmp_path: Path) -> None:
    record = gridded(tmp_path)
    for figure in (steps_versus_quality(record), pareto(record), axes_versus_objective(record, DEPTH, RANK)):
        items = {mark.item for mark in figure.marks}
        assert {f"t{number:03d}" for number in range(6)} <= items
        assert all(text.startswith(mark.item) for mark in figure.marks if mark.item for text in mark.told)
    assert "collapsed classifier FD 25 ± 6.2" in told(pareto(record))[0]
