"""Sample grids and curves as files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from linearizer_core.experiment.artifacts import write_curves, write_grids, write_spectra
from linearizer_core.experiment.evaluation import Curve


def pixels(path: Path) -> Tensor:
    """A PNG's values, ``(3, height, width)``."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("shape", "rows", "side"),
    [
        ((64, 1, 8, 8), 8, 32),
        ((9, 3, 20, 20), 2, 40),
        ((3, 1, 32, 32), 1, 32),
        ((1, 1, 48, 48), 1, 48),
    ],
)
def test_grids(tmp_path: Path, shape: tuple[int, ...], rows: int, side: int) -> None:
    """Eight images a row, enlarged by a whole factor, with a white frame of a pixel around each."""
    images = torch.full(shape, -1.0)
    images[-1] = 0.5
    folder = tmp_path / "artifacts" / "t000-s0"
    assert write_grids(folder, {"k1": images, "collapsed": images}) == ["samples_k1.png", "samples_collapsed.png"]
    assert {path.name for path in folder.iterdir()} == {"samples_k1.png", "samples_collapsed.png"}
    step, last = side + 2, shape[0] - 1
    expected = torch.full((3, rows * step, 8 * step), 255)
    for i in range(shape[0]):
        top, left = 1 + i // 8 * step, 1 + i % 8 * step
        expected[:, top : top + side, left : left + side] = 191 if i == last else 0  # 1.5 × 127.5 = 191.25
    assert torch.equal(pixels(folder / "samples_k1.png").int(), expected.int())


def test_images_beyond_the_range_are_clamped(tmp_path: Path) -> None:
    images = torch.stack([torch.full((1, 32, 32), 9.0), torch.full((1, 32, 32), -9.0)])
    write_grids(tmp_path, {"a": images})
    grid = pixels(tmp_path / "samples_a.png")
    assert (int(grid[0, 3, 3]), int(grid[0, 3, 40])) == (255, 0)


def test_an_enlarged_image_repeats_its_pixels(tmp_path: Path) -> None:
    image = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).view(1, 1, 2, 2)
    write_grids(tmp_path, {"a": torch.cat([image, image])})
    grid = pixels(tmp_path / "samples_a.png")
    square = grid[0, 1:33, 1:33]
    assert (square[:16, :16] == 0).all()
    assert (square[:16, 16:] == 255).all()
    assert (square[16:, :16] == 255).all()


def test_no_grids(tmp_path: Path) -> None:
    assert write_grids(tmp_path / "new", {}) == []
    assert list((tmp_path / "new").iterdir()) == []


def test_curves(tmp_path: Path) -> None:
    curves = {"nfe/swd": Curve([1, 10], [0.5, 0.25]), "nfe/classifier_fd": Curve([1], [1e-7])}
    assert write_curves(tmp_path, curves) == ["curves.csv"]
    assert (tmp_path / "curves.csv").read_bytes() == (
        b"metric,steps,value\r\nnfe/swd,1,0.5\r\nnfe/swd,10,0.25\r\nnfe/classifier_fd,1,1e-07\r\n"
    )


def test_curves_over_rank_have_a_table_that_says_so(tmp_path: Path) -> None:
    curves = {"rank/swd": Curve([1, 64], [0.5, 0.25]), "nfe/swd": Curve([10], [0.75])}
    assert write_curves(tmp_path, curves) == ["curves.csv", "ranks.csv"]
    assert (tmp_path / "curves.csv").read_bytes() == b"metric,steps,value\r\nnfe/swd,10,0.75\r\n"
    assert (tmp_path / "ranks.csv").read_bytes() == b"metric,rank,value\r\nrank/swd,1,0.5\r\nrank/swd,64,0.25\r\n"


def test_no_curves(tmp_path: Path) -> None:
    assert write_curves(tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []


def test_spectra(tmp_path: Path) -> None:
    spectra = {"red": torch.tensor([2.0, 0.25]), "blue": torch.tensor([1e-7], dtype=torch.float64)}
    assert write_spectra(tmp_path, spectra) == ["spectra.csv"]
    assert (tmp_path / "spectra.csv").read_bytes() == (
        b"operator,index,singular_value\r\nred,0,2.0\r\nred,1,0.25\r\nblue,0,1e-07\r\n"
    )


def test_a_file_that_cannot_be_written_whole_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal's ``artifact`` line says that a file is complete: a half one must not stand under its name."""
    write_grids(tmp_path, {"a": torch.zeros(1, 1, 32, 32)})
    write_curves(tmp_path, {"nfe/swd": Curve([1], [0.5])})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"samples_a.png", "curves.csv"}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*samples_a\.png"):
        write_grids(tmp_path, {"a": torch.ones(1, 1, 32, 32)})
    with pytest.raises(OSError, match=r"No space left on device: .*curves\.csv"):
        write_curves(tmp_path, {"nfe/swd": Curve([1, 2], [0.5, 0.25])})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_spectra(tmp_path: Path) -> None:
    assert write_spectra(tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []
