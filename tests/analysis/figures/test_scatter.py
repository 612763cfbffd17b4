"""Every configuration over two axes."""

from __future__ import annotations

from pathlib import Path

from analysis import (
    axes_versus_objective,
    load,
)
from tests.analysis.figures.drawn import small
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles


def test_the_scatter_shows_every_configuration(tmp_path: Path) -> None:
    figure = axes_versus_objective(load([small(tmp_path).path]), DEPTH, RANK)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("depth", "rank", "log")
    drawn = [tuple(collection.get_offsets()[0]) for collection in axes.collections]
    # The best one, at (4, 16), has a ring as well.
    assert drawn == [(2, 8), (4, 16), (4, 16), (3, 60), (3, 30)]
    filled = [len(collection.get_facecolor()) > 0 for collection in axes.collections]
    assert filled == [True, True, False, False, True]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["finished", "stopped or unfinished", "failed", "best"]


def test_words_stand_side_by_side(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={"model.kind": {"choice": ["mlp", "conv"]}, RANK: {"int": [4, 64]}})
    files.finished(0, {"model.kind": "conv", RANK: 4}, 1.0)
    files.finished(1, {"model.kind": "mlp", RANK: 8}, 2.0)
    figure = axes_versus_objective(load([files.path]), "model.kind", RANK)
    figure.draw_without_rendering()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["mlp", "conv"]
