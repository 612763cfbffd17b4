"""Placement of labels, so that none covers another or leaves the frame."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick, XAxis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

GAP = 1.0
"""Pixels between two labels."""
LEGEND_HEIGHT = 0.35
"""Inches of a figure's height reserved for the legend."""
LEGEND_WORDS = 46
"""Characters per line of a legend in a figure one column wide."""
SIDES: Sequence[dict[str, Any]] = (
    {"xytext": (3, 3), "ha": "left", "va": "bottom"},
    {"xytext": (-3, -3), "ha": "right", "va": "top"},
    {"xytext": (3, -3), "ha": "left", "va": "top"},
    {"xytext": (-3, 3), "ha": "right", "va": "bottom"},
)
"""Positions of a name beside its mark, the best first."""


def legend(figure: Figure, handles: Sequence[Any], columns: int, **look: Any) -> Legend | None:
    """A legend above the axes in as many columns as fit, read row by row; None without handles.

    The figure grows if the legend is long.
    """
    if not handles:
        return None
    for handle in handles:
        handle.set_label("\n".join(textwrap.wrap(str(handle.get_label()), LEGEND_WORDS)))
    for across in range(min(columns, len(handles)), 0, -1):
        order = [handle for start in range(across) for handle in handles[start::across]]  # legends fill by columns
        found = figure.legend(handles=order, loc="outside upper left", ncols=across, columnspacing=1.0, **look)
        figure.draw_without_rendering()
        box = found.get_window_extent()
        if across == 1 or box.x1 <= figure.bbox.x1 - GAP:
            # The legend must not reduce the height of the axes.
            figure.set_figheight(figure.get_figheight() + max(0.0, box.height / figure.dpi - LEGEND_HEIGHT))
            return found
        found.remove()
    return None


def uncrowd(figure: Figure) -> None:
    """Rotate tick labels that overlap, and leave out every second one until they no longer do."""
    for axes in figure.axes:
        for axis, across in ((axes.xaxis, True), (axes.yaxis, False)):
            figure.draw_without_rendering()
            if across and _crowded(axis):
                axis.set_tick_params(rotation=90)
                figure.draw_without_rendering()
            shown = _labelled(axis)
            while len(shown) > 2 and _crowded(axis):
                for tick in shown[1::2]:
                    tick.label1.set_visible(False)
                shown = shown[::2]


def fitted(texts: Iterable[tuple[Text, Sequence[str]]], axes: Axes, width: float) -> None:
    """Write the first wording that fits into each cell of ``width`` in data units, or nothing."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    left, right = axes.transData.transform([(0, 0), (width, 0)])[:, 0]
    for text, wordings in texts:
        for words in [*wordings, ""]:
            text.set_text(words)
            if not words or text.get_window_extent().width <= right - left - 2 * GAP:
                break


def name_marks(axes: Axes, named: Iterable[tuple[float, float, str]], **look: Any) -> None:
    """Write a name beside each mark (x, y, name), where it fits; names that fit nowhere are left out."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    taken: list[Bbox] = []
    figure.draw_without_rendering()
    for x, y, name in named:
        for side in SIDES:
            note: Annotation = axes.annotate(name, (x, y), textcoords="offset points", zorder=5, **side, **look)
            box = note.get_window_extent()
            across = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            inside = across and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def _labelled(axis: Axis) -> list[Tick]:
    """The ticks within the limits with visible labels, in the order of the axis."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if tick.label1.get_visible() and tick.label1.get_text()]
    slack = 1e-9 * (high - low)
    within = [tick for tick in ticks if low - slack <= tick.get_loc() <= high + slack]
    return sorted(within, key=lambda tick: float(tick.get_loc()))


def _crowded(axis: Axis) -> bool:
    boxes = [tick.label1.get_window_extent() for tick in _labelled(axis)]
    side = "x" if isinstance(axis, XAxis) else "y"
    ends = np.array([(getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes])
    if len(ends) < 2:
        return False
    order = np.argsort(ends[:, 0])
    return bool((ends[order][1:, 0] < ends[order][:-1, 1] + GAP).any())
