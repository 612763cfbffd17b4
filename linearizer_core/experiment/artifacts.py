"""Files that a trial leaves to be looked at."""

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
"""Pixels: smaller images are enlarged by a whole factor, or a grid of 8×8 digits would be a stamp."""


def write_grids(folder: Path, grids: Mapping[str, Tensor]) -> list[str]:
    """One PNG ``samples_<name>.png`` for each set of images in [-1, 1]; the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in grids.items():
        with whole(folder / f"samples_{name}.png") as temporary:
            Image.fromarray(image_grid(images).numpy()).save(temporary, format="PNG")
    return [f"samples_{name}.png" for name in grids]


def image_grid(images: Tensor) -> Tensor:
    """``(count, channels, height, width)`` in [-1, 1] as one picture of bytes ``(height, width, 3)``, eight a row."""
    factor = max(1, -(-SMALLEST_SIDE // images.shape[-1]))
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
    framed = pad(pixels, (BORDER, BORDER, BORDER, BORDER), value=255)
    blank = framed.new_full((-len(framed) % GRID_COLUMNS, *framed.shape[1:]), 255)
    rows = torch.cat([framed, blank]).split(GRID_COLUMNS)
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1).permute(1, 2, 0).contiguous()


def write_curves(folder: Path, curves: Mapping[str, Curve]) -> list[str]:
    """A row for each metric and place: ``curves.csv`` over solver steps, ``ranks.csv`` of ``rank/…``; their names."""
    rows: dict[bool, list[tuple[str, int, float]]] = {False: [], True: []}
    for metric, curve in curves.items():
        points = zip(curve.steps, curve.values, strict=True)
        rows[metric.startswith("rank/")] += [(metric, place, value) for place, value in points]
    return [
        *_write_rows(folder / "curves.csv", ("metric", "steps", "value"), rows[False]),
        *_write_rows(folder / "ranks.csv", ("metric", "rank", "value"), rows[True]),
    ]


def write_spectra(folder: Path, spectra: Mapping[str, Tensor]) -> list[str]:
    """``spectra.csv`` with a row for each operator and singular value; the names of the files."""
    rows = [(operator, i, value) for operator, values in spectra.items() for i, value in enumerate(values.tolist())]
    return _write_rows(folder / "spectra.csv", ("operator", "index", "singular_value"), rows)


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A CSV file and its name, neither where there are no rows."""
    if not rows:
        return []
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return [path.name]
