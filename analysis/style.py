"""How figures look: one column of a paper wide, fonts that can still be read there, colours for everybody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import matplotlib as mpl
from matplotlib.colors import Colormap, ListedColormap, to_hex
from matplotlib.figure import Figure

WIDTH = 5.0
"""Inches."""

GREY = "#666666"
INK = "#222222"
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    # Without a salt of its own, every SVG has other ids.
    "svg.hashsalt": "linearizer-sweeps",
}


@contextmanager
def applied() -> Iterator[None]:
    """The style, inside; whatever was set before is set again afterwards."""
    with mpl.rc_context(cast(Any, {**mpl.rcParamsDefault, **RC})):
        yield


def figure(height: float = 3.4, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, that belongs to no window."""
    return Figure(figsize=(width, height), layout="constrained")


def sequential() -> Colormap:
    """Viridis without its pale end, which is lost on white paper."""
    viridis = mpl.colormaps["viridis"]
    return ListedColormap([viridis(0.9 * step / 255) for step in range(256)], name="viridis-dark")


def colours(count: int) -> Sequence[str]:
    """That many colours in order, from dark to light."""
    return [to_hex(sequential()(step / max(count - 1, 1))) for step in range(count)]
