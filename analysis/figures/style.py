"""The style of figures: one column of a paper wide, print-size letters, colours safe for colour-blind readers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.colors import Colormap, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

WIDTH = 3.4
"""The width in inches of a column of a two-column page."""
PAGE = 6.3
"""The width in inches of all columns of a page."""
DPI = 300

GREY = "#666666"
PALE = "#b8b8b8"
INK = "#222222"
SMALL = 6.0
"""The smallest font size in points."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Markers used with the colours, for print without colour."""
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.color": PALE,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.dpi": DPI,
    # Journals reject Type 3 fonts.
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    # Without a fixed salt, the ids in SVG differ each time.
    "svg.hashsalt": "linearizer-sweeps",
}

Paper = Literal["two-column", "one-column"]
GROWTH: Mapping[Paper, tuple[float, float, float]] = {"two-column": (1, 1, 1), "one-column": (5.5 / WIDTH, 1.25, 8 / 7)}
"""Factors on width, height and font size; a one-column page has 5.5-inch lines and an 8-point font."""
Format = Literal["png", "svg", "pdf"]
METADATA: Mapping[Format, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""Metadata on when and how a file was made, which matplotlib must not write."""


@dataclass(frozen=True)
class Mark:
    """The interactive part of a drawn artist.

    ``gid`` is the id of its group in SVG. Marks with the same ``series`` are turned on and off together; those with the
    same ``item`` are highlighted together. ``told`` has a tooltip for each point in drawing order, or one for all.
    """

    gid: str
    series: str
    item: str
    told: tuple[str, ...]


class Chart(Figure):
    """A figure with interactive marks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.marks: list[Mark] = []

    def mark(self, artist: Artist, series: str, item: str = "", told: Sequence[str] = ()) -> None:
        """Give an artist its series, item and tooltips."""
        gid = f"mark{len(self.marks)}"
        artist.set_gid(gid)
        self.marks.append(Mark(gid, series, item, tuple(told)))


@contextmanager
def applied() -> Iterator[None]:
    """A context with the style set; the previous settings are restored afterwards."""
    with mpl.rc_context(cast(Any, {**mpl.rcParamsDefault, **RC})):
        yield


def figure(height: float = 2.6, width: float = WIDTH) -> Chart:
    """An empty figure without a window; sizes in inches."""
    return Chart(figsize=(width, height), layout="constrained")


def rendered(figure: Figure, format: Format) -> bytes:
    """The contents of the figure's file, the same bytes each time."""
    content = io.BytesIO()
    with applied():
        if figure.get_layout_engine() is not None:
            # Laid out once for all formats: each would do it again, with different fractions of a pixel.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(content, format=format, metadata=dict(METADATA[format]))
    return content.getvalue()


def fit(figure: Figure, paper: Paper) -> None:
    """Scale a figure, drawn for two columns, to the size and font of a paper's column.

    The figure grows by more than its text. A figure as wide as a page stays as it is.
    """
    across, up, letters = GROWTH[paper]
    width, height = figure.get_size_inches()
    if width * across > PAGE or across == 1:
        return
    figure.set_size_inches(width * across, height * up)
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * letters)
    for axes in figure.axes:  # including ticks that are created when the axes are drawn
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_tick_params(labelsize=6.5 * letters)


def save(
    figure: Figure, path: Path, formats: Sequence[Format] = ("png", "svg"), paper: Paper = "two-column"
) -> list[Path]:
    """Write ``path`` (without suffix) in each format, with the same bytes each time, and clear the figure.

    ``paper`` is the layout that it will be printed in: two columns, or one as wide as a page.

    >>> from pathlib import Path
    >>> import analysis
    >>> figure = analysis.pareto(analysis.example())
    >>> [path.name for path in analysis.save(figure, Path("front"), ["svg"])]
    ['front.svg']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with applied():
        fit(figure, paper)
    written = []
    for format in formats:
        target = path.with_name(f"{path.name}.{format}")
        target.write_bytes(rendered(figure, format))
        written.append(target)
    figure.clear()
    return written


def sequential() -> Colormap:
    """Viridis without its pale end, which is hard to see on white paper."""
    viridis = mpl.colormaps["viridis"]
    return ListedColormap([viridis(0.9 * step / 255) for step in range(256)], name="viridis-dark")


def colours(count: int) -> Sequence[str]:
    """``count`` colours for lines, from dark to light; thin lines need darker colours than filled areas."""
    return [to_hex(sequential()(0.85 * step / max(count - 1, 1))) for step in range(count)]


def ink_on(colour: Any) -> str:
    """Dark or white, whichever has more contrast as text on a colour (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if (1.05 / (luminance + 0.05)) > ((luminance + 0.05) / 0.0656) else INK
