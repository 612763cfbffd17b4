"""How figures look: one column of a paper wide, letters of print size, colours for everybody."""

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
"""Inches: a column of a two-column page."""
PAGE = 6.3
"""Inches: all columns of a page."""
DPI = 300

GREY = "#666666"
PALE = "#b8b8b8"
INK = "#222222"
SMALL = 6.0
"""Points, of the smallest letters."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Beside the colours, for print without them."""
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
    # Journals refuse Type 3 fonts.
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    # Without a salt of its own, every SVG has other ids.
    "svg.hashsalt": "linearizer-sweeps",
}

Paper = Literal["two-column", "one-column"]
GROWTH: Mapping[Paper, tuple[float, float, float]] = {"two-column": (1, 1, 1), "one-column": (5.5 / WIDTH, 1.25, 8 / 7)}
"""What widths, heights and letters are multiplied by: a line of a one-column page has 5.5 inches and letters of 8."""
Format = Literal["png", "svg", "pdf"]
METADATA: Mapping[Format, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""What matplotlib would write into a file of when and by what it was made."""


@dataclass(frozen=True)
class Mark:
    """What a drawn series tells where it is looked at on a screen.

    ``gid`` is the id of its group in SVG; ``series`` is turned on and off together, ``item`` is lit together; ``told``
    has a text for each point in drawing order, or one for the whole.
    """

    gid: str
    series: str
    item: str
    told: tuple[str, ...]


class Chart(Figure):
    """A figure that knows what its marks mean."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.marks: list[Mark] = []

    def mark(self, artist: Artist, series: str, item: str = "", told: Sequence[str] = ()) -> None:
        """Say what an artist is of and what it tells."""
        gid = f"mark{len(self.marks)}"
        artist.set_gid(gid)
        self.marks.append(Mark(gid, series, item, tuple(told)))


@contextmanager
def applied() -> Iterator[None]:
    """The style, inside; whatever was set before is set again afterwards."""
    with mpl.rc_context(cast(Any, {**mpl.rcParamsDefault, **RC})):
        yield


def figure(height: float = 2.6, width: float = WIDTH) -> Chart:
    """An empty figure, in inches, that belongs to no window."""
    return Chart(figsize=(width, height), layout="constrained")


def rendered(figure: Figure, format: Format) -> bytes:
    """The figure as a file, the same bytes each time."""
    content = io.BytesIO()
    with applied():
        if figure.get_layout_engine() is not None:
            # Laid out once for all formats: each would do it again, to other fractions of a pixel.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(content, format=format, metadata=dict(METADATA[format]))
    return content.getvalue()


def fit(figure: Figure, paper: Paper) -> None:
    """Give a figure the size and letters of a paper's column: those that were drawn are of two columns.

    All that words stand between grows by more than they do. What is as wide as a page stays as it is.
    """
    across, up, letters = GROWTH[paper]
    width, height = figure.get_size_inches()
    if width * across > PAGE or across == 1:
        return
    figure.set_size_inches(width * across, height * up)
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * letters)
    for axes in figure.axes:  # of ticks that are made when the axes are drawn
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_tick_params(labelsize=6.5 * letters)


def save(
    figure: Figure, path: Path, formats: Sequence[Format] = ("png", "svg"), paper: Paper = "two-column"
) -> list[Path]:
    """Write ``path`` (without ending) in each format, the same bytes each time; clears the figure.

    ``paper`` says what it is to be printed in: a column of two, or lines as wide as a page.

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
    """Viridis without its pale end, which is lost on white paper."""
    viridis = mpl.colormaps["viridis"]
    return ListedColormap([viridis(0.9 * step / 255) for step in range(256)], name="viridis-dark")


def colours(count: int) -> Sequence[str]:
    """That many colours of lines in order, from dark to light: what is thin has to be darker than what fills."""
    return [to_hex(sequential()(0.85 * step / max(count - 1, 1))) for step in range(count)]


def ink_on(colour: Any) -> str:
    """Dark or white letters, whichever can be read on a colour (WCAG 2 contrast)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if (1.05 / (luminance + 0.05)) > ((luminance + 0.05) / 0.0656) else INK
