"""Files that a trial writes for people to look at."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from linearizer_core.experiment.evaluation import Curve
from linearizer_core.files import whole

GRID_COLUMNS = 8
BORDER = 1
SMALLEST_SIDE = 32
"""Side in pixels below which images are enlarged by an integer factor: a grid of 8×8 digits would be tiny otherwise."""


def write_grids(folder: Path, grids: Mapping[str, Tensor]) -> list[str]:
    """Write each set of images in [-1, 1] to ``samples_<name>.png``; returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in grids.items():
        with whole(folder / f"samples_{name}.png") as temporary:
            Image.fromarray(image_grid(images).numpy()).save(temporary, format="PNG")
    return [f"samples_{name}.png" for name in grids]


def image_grid(images: Tensor) -> Tensor:
    """``(count, channels, height, width)`` in [-1, 1] as one uint8 picture ``(height, width, 3)``, eight per row."""
    factor = max(1, -(-SMALLEST_SIDE // images.shape[-1]))
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
    framed = pad(pixels, (BORDER, BORDER, BORDER, BORDER), value=255)
    blank = framed.new_full((-len(framed) % GRID_COLUMNS, *framed.shape[1:]), 255)
    rows = torch.cat([framed, blank]).split(GRID_COLUMNS)
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1).permute(1, 2, 0).contiguous()


def write_curves(folder: Path, curves: Mapping[str, Curve]) -> list[str]:
    """Write ``curves.csv`` over solver steps, and ``ranks.csv`` for ``rank/…``, with a row per metric and point.

    Returns the names of the files.
    """
    rows: dict[bool, list[tuple[str, int, float]]] = {False: [], True: []}
    for metric, curve in curves.items():
        points = zip(curve.steps, curve.values, strict=True)
        rows[metric.startswith("rank/")] += [(metric, place, value) for place, value in points]
    return [
        *_write_rows(folder / "curves.csv", ("metric", "steps", "value"), rows[False]),
        *_write_rows(folder / "ranks.csv", ("metric", "rank", "value"), rows[True]),
    ]


def write_spectra(folder: Path, spectra: Mapping[str, Tensor]) -> list[str]:
    """Write ``spectra.csv`` with a row per operator and singular value; returns the names of the files."""
    rows = [(operator, i, value) for operator, values in spectra.items() for i, value in enumerate(values.tolist())]
    return _write_rows(folder / "spectra.csv", ("operator", "index", "singular_value"), rows)


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Write a CSV file and return its name in a list; without rows, write nothing and return an empty list."""
    if not rows:
        return []
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return [path.name]
