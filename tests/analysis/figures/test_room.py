"""Words of figures: none over another one, none outside of the frame, whatever a record holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from matplotlib.axis import Axis
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis import Record, example, load
from analysis.figures import style
from analysis.figures.style import Chart
from analysis.report.list_of_figures import list_of_figures
from tests.analysis.figures.awkward import awkward
from tests.analysis.figures.drawn import small
from tests.analysis.operators import operators

SLACK = 0.5
"""Pixels, of a hundred an inch: a 200th of an inch of two boxes, which are wider than their letters, may be shared."""


@pytest.fixture
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Record:
    made = {
        "example": example,
        "awkward": lambda: awkward(tmp_path),
        "small": lambda: load([small(tmp_path).path]),
        "operators": lambda: load([operators(tmp_path).path]),
    }
    return made[request.param]()


@pytest.mark.parametrize(
    ("record", "paper"),
    [
        ("example", "two-column"),
        ("small", "two-column"),
        ("operators", "one-column"),
        *product(["awkward"], style.GROWTH),
    ],
    indirect=["record"],
)
def test_words_neither_overlap_nor_leave_the_frame(record: Record, paper: style.Paper) -> None:
    made = list_of_figures(record).made
    assert len(made) >= 2
    for each in made:
        width = each.chart.get_figwidth()
        with style.applied():
            style.fit(each.chart, paper)
        assert each.chart.get_figwidth() == pytest.approx(5.5 if paper == "one-column" and width < 4 else width)
    wrong = [f"{each.name}: {fault}" for each in made for fault in faults(each.chart)]
    assert not wrong, "\n".join(wrong)


def faults(chart: Chart) -> Iterator[str]:
    """Each text outside of the figure, and each pair of texts that overlap."""
    with style.applied():
        chart.draw_without_rendering()
    boxes = list(boxes_of(chart))
    assert boxes
    for place, (words, box) in enumerate(boxes):
        frame = chart.bbox.padded(SLACK)
        if not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1):
            yield f"{words!r} leaves the frame"
        for others, other in boxes[place + 1 :]:
            if box.padded(-SLACK).overlaps(other.padded(-SLACK)):
                yield f"{words!r} is over {others!r}"


def boxes_of(chart: Chart) -> Iterator[tuple[str, Bbox]]:
    """The texts that are drawn: labels of ticks beyond the limits of their axis are not."""
    unseen = {id(text) for axes in chart.axes for axis in (axes.xaxis, axes.yaxis) for text in unseen_of(axis)}
    unseen |= {id(text) for axes in chart.axes if not axes.axison for text in axes_texts(axes)}
    for text in chart.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen:
            yield text.get_text(), Text.get_window_extent(text)


def unseen_of(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-6 * (high - low)
    for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
        hidden = not axis.get_visible() or not low - slack <= tick.get_loc() <= high + slack
        yield from (text for text in (tick.label1, tick.label2) if hidden or not text.get_visible())


def axes_texts(axes: object) -> Iterator[Text]:
    for axis in (axes.xaxis, axes.yaxis):  # type: ignore[attr-defined]
        yield axis.label
        yield axis.offsetText
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            yield from (tick.label1, tick.label2)


def test_the_faults_are_found() -> None:
    chart = style.figure()
    axes = chart.add_subplot()
    axes.text(0.5, 0.5, "one")
    axes.text(0.51, 0.5, "two")
    axes.annotate("out", (1, 0.5), xytext=(1.6, 0.5), xycoords="axes fraction", annotation_clip=False, in_layout=False)
    found = list(faults(chart))
    assert any("'one' is over 'two'" in fault for fault in found)
    assert any("'out' leaves the frame" in fault for fault in found)
