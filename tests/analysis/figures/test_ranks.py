"""Quality against the rank used for sampling, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import RecordError, load, rank_curves, ranks_versus_quality, steps_versus_quality
from tests.analysis.figures.drawn import annotations_of, lines
from tests.analysis.operators import operators
from tests.analysis.record_factory import DEPTH, RANK, STUDENT, SweepFiles, told


def test_lines_are_means_over_seeds_with_bands_and_the_best_is_also_on_the_test_split(tmp_path: Path) -> None:
    figure = ranks_versus_quality(load([operators(tmp_path).path]))
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xticks().tolist() == [1, 8, 64]
    best, other = lines(axes, "-")
    assert (best.get_xdata().tolist(), best.get_ydata().tolist()) == ([1, 8, 64], [40.0, 20.0, 30.0])
    assert other.get_ydata().tolist() == [45.0, 25.0, 35.0]
    tested = lines(axes, "--")[0]
    np.testing.assert_allclose(tested.get_ydata(), [44.0, 22.0, 33.0])
    assert tested.get_color() == best.get_color()
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(20 - STUDENT)
    assert "t000 (depth 4): classifier FD 40 ± 2.5 at rank 1" in told(figure)
    assert "t000, test split: classifier FD 22 ± 2.7 at rank 8" in told(figure)


def test_the_star_is_where_most_seeds_are_sampled_in_the_end(tmp_path: Path) -> None:
    figure = ranks_versus_quality(load([operators(tmp_path).path]))
    star = next(line for line in figure.axes[0].get_lines() if line.get_marker() == "*")
    assert (star.get_xdata().tolist(), star.get_ydata().tolist()) == ([8.0], [9.0])  # of 8, 8 and 64
    assert [text.get_text() for text in annotations_of(figure)] == ["real against\nreal"]
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1


def test_curves_over_steps_and_over_rank_do_not_mix(tmp_path: Path) -> None:
    files = operators(tmp_path)
    with pytest.raises(RecordError, match="no trial has a curve yet"):
        steps_versus_quality(load([files.path]))
    for seed in (0, 1, 2):
        files.add(f"t000-s{seed}", "curve", metric="nfe/classifier_fd", steps=[1, 10], values=[60.0, 50.0])
    record = load([files.path])
    assert lines(steps_versus_quality(record).axes[0], "-")[0].get_ydata().tolist() == [60.0, 50.0]
    assert lines(ranks_versus_quality(record).axes[0], "-")[0].get_ydata().tolist() == [40.0, 20.0, 30.0]


def test_real_images_in_fewer_components_are_a_floor_over_ranks_by_no_rank_of_their_own(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8, 16]}})
    for number, (depth, rank) in enumerate([(1, 4), (1, 8), (1, 16), (2, 4), (2, 8), (2, 16)]):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, {DEPTH: depth, RANK: rank})
        files.add(trial, "curve", metric="rank/classifier_fd", steps=[1, 4, 16], values=[60.0, 50.0, 40.0])
        files.complete(trial, 50.0 - number)
    files.begin("r000", 0, kind="reference", label="real images in 8 principal components", seed=None)
    files.add(
        "r000", "curve", metric="rank/classifier_fd", steps=[1, 4, 8, 16, 32], values=[30.0, 20.0, 10.0, 5.0, 4.0]
    )
    files.complete("r000", 10.0)
    record = load([files.path])
    for figure in (ranks_versus_quality(record), rank_curves(record)):
        names = [text.get_text().replace("\n", " ") for text in annotations_of(figure)]
        assert names == ["real images in r principal components"]
    floor = next(line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3 and 5.0 in line.get_ydata())
    assert (floor.get_xdata().tolist(), floor.get_ydata().tolist()) == ([4, 8, 16], [20.0, 10.0, 5.0])
