"""Heat maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import RecordError, heat_map, load
from analysis.figures.maps import depth_and_rank
from tests.analysis.record_factory import DEPTH, LR, RANK, SweepFiles, gridded, told


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


def test_a_map_is_of_depth_and_rank_or_of_two_other_axes(tmp_path: Path) -> None:
    def axes_of(name: str, space: dict[str, object]) -> tuple[str, str]:
        files = SweepFiles(tmp_path, name, space=space)
        files.finished(0, dict.fromkeys(space, 2), 3.0)
        return depth_and_rank(load([files.path]))

    number = {"int": [1, 8]}
    assert axes_of("a", {LR: number, RANK: number, DEPTH: number}) == (DEPTH, RANK)
    assert axes_of("b", {LR: number, RANK: number}) == (LR, RANK)
    assert axes_of("c", {LR: number, "train.warmup": number}) == (LR, "train.warmup")
    with pytest.raises(RecordError, match=r"a map needs two searched numeric axes, got train\.lr"):
        axes_of("d", {LR: number})
