"""Every configuration over two axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import (
    axes_versus_objective,
    load,
)
from analysis.figures import maps
from analysis.figures.style import Chart
from analysis.report.interactive import svg
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


def test_many_configurations_are_drawn_in_a_few_pieces_that_show_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = load([small(tmp_path).path])
    apart = axes_versus_objective(record, DEPTH, RANK)
    monkeypatch.setattr(maps, "MOST_APART", 2)
    together = axes_versus_objective(record, DEPTH, RANK)

    def drawn(figure: Chart) -> list[tuple[float, ...]]:
        """Each dot's place, colour and size."""
        found = []
        for dots in figure.axes[0].collections:
            colours = dots.get_edgecolor() if not len(dots.get_facecolor()) else dots.get_facecolor()
            colours = np.broadcast_to(colours, (len(dots.get_offsets()), 4))
            rows = zip(dots.get_offsets(), colours, strict=True)
            found += [(*place, *colour.round(6), float(dots.get_sizes()[0])) for place, colour in rows]
        return sorted(found)

    assert drawn(together) == drawn(apart)
    assert len(together.axes[0].collections) < len(apart.axes[0].collections)
    told = [sorted(text for mark in figure.marks for text in mark.told) for figure in (apart, together)]
    assert told[0] == told[1]
    # A text for each dot that is drawn, or this raises.
    assert svg(together, "a", "map").count("data-told") == len(told[0])
