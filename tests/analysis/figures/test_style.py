"""Colours that everybody can tell apart, letters that can be read in print, files without a date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from analysis import heat_map, parallel_coordinates, rank_curves, save, steps_versus_quality
from analysis.figures.style import INK, SMALL, WIDTH, colours, figure, ink_on, rendered, sequential
from tests.analysis.record_factory import gridded

Array = np.ndarray[Any, np.dtype[np.float64]]

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: Any) -> Array:
    """sRGB to linear RGB."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: Array) -> Array:
    """CIELAB, D65, of linear RGB."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = matrix @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = [t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("count", [2, 4, 8])
def test_colours_can_be_told_apart(deficiency: str, count: int) -> None:
    seen = [lab(DEFICIENCIES[deficiency] @ linear(colour)) for colour in colours(count)]
    gaps = [float(np.linalg.norm(a - b)) for place, a in enumerate(seen) for b in seen[place + 1 :]]
    assert min(gaps) > 6  # about 2.3 can just be told apart


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_grow_lighter_in_order(deficiency: str) -> None:
    scale = sequential()
    light = [lab(DEFICIENCIES[deficiency] @ linear(scale(step)))[0] for step in range(0, 256, 15)]
    assert (np.diff(light) > 0).all()


def test_lines_stand_out_from_the_paper() -> None:
    for colour in colours(8):
        luminance = float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour))
        assert 1.05 / (luminance + 0.05) > 2


def test_letters_have_the_better_contrast() -> None:
    assert (ink_on("#000000"), ink_on("#ffffff"), ink_on("#440154"), ink_on("#bddf26")) == (
        "#ffffff", INK, "#ffffff", INK,
    )  # fmt: skip


def test_a_figure_is_a_column_wide_and_its_letters_are_of_print_size(tmp_path: Path) -> None:
    record = gridded(tmp_path)
    for drawn in (steps_versus_quality(record), heat_map(record), rank_curves(record), parallel_coordinates(record)):
        assert drawn.get_figwidth() == WIDTH == 3.4
        sizes = [float(text.get_fontsize()) for text in drawn.findobj(Text) if text.get_text()]
        assert min(sizes) >= SMALL == 6


def test_a_pdf_has_no_date_and_fonts_that_journals_take(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        drawn = figure()
        drawn.add_subplot().set_xlabel("rank")
        (path,) = save(drawn, tmp_path / name, ("pdf",))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert b"CreationDate" not in contents[0]
    assert b"/Type3" not in contents[0]
    assert b"/TrueType" in contents[0] or b"/Type0" in contents[0]


def test_every_format_is_rendered_alike() -> None:
    drawn = figure()
    drawn.add_subplot()
    assert rendered(drawn, "png").startswith(b"\x89PNG")
    assert rendered(drawn, "svg").startswith(b"<?xml")
    assert rendered(drawn, "pdf").startswith(b"%PDF")
