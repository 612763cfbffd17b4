"""Figures of spectra and samples from the files that trials leave, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis import RecordError, load, samples, spectrum
from analysis.figures.pictures import corner
from analysis.record.artifacts import sample_grids, spectra
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, told

SIDE = 10


def artifacts(files: SweepFiles, trial: str, rank: int, level: int) -> Path:
    """Eight by eight grey images of 10 pixels, and the spectra of a B of that rank and of A at two times."""
    folder = files.path / "artifacts" / trial
    folder.mkdir(parents=True)
    for name in ("k100", "k1", "collapsed", "interpolation"):
        Image.new("RGB", (8 * SIDE, 8 * SIDE), (level, level, level)).save(folder / f"samples_{name}.png")
    rows = ["operator,index,singular_value"]
    rows += [f"collapsed,{index},{1.0 if index < rank else 0.01}" for index in range(16)]
    for time, size in (("0", 0.5), ("0.99", 0.9)):
        rows += [f"A(t={time}),{index},{size if index < rank else 1e-12}" for index in range(16)]
    (folder / "spectra.csv").write_text("\n".join(rows) + "\n")
    return folder


def recorded(tmp_path: Path) -> SweepFiles:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}, RANK: {"int": [4, 64]}}, seeds=(0, 1))
    for number, (rank, value) in enumerate([(4, 9.0), (8, 3.0)]):
        for seed in (0, 1):
            trial = files.finished(number, {DEPTH: 2, RANK: rank}, value + seed, seed=seed)
            artifacts(files, trial, rank, 100 + number)
    return files


def test_the_best_ones_operators_are_above_and_every_b_below(tmp_path: Path) -> None:
    figure = spectrum(load([recorded(tmp_path).path]))
    upper, lower = figure.axes
    assert figure.get_suptitle() == "above: t001, depth 2, rank 8"
    named = {line.get_label(): line for line in upper.get_lines()}
    assert list(named) == ["A at t = 0", "A at t = 0.99", "B, collapsed"]
    # What is rounding is not drawn; the rest of B is what A leaves alone.
    assert named["A at t = 0"].get_xdata().tolist() == list(range(1, 9))
    assert named["B, collapsed"].get_ydata().tolist() == [1.0] * 8 + [0.01] * 8
    assert [line.get_label() for line in lower.get_lines()] == ["rank 4", "rank 8"]
    assert lower.get_lines()[0].get_ydata().tolist() == [1.0] * 4 + [0.01] * 12
    assert (upper.get_yscale(), upper.get_xscale()) == ("log", "log")
    assert "t001, A at t = 0.99: 0.9 at index 8" in told(figure)


def test_samples_are_the_first_of_each_configuration_best_first(tmp_path: Path) -> None:
    figure = samples(load([recorded(tmp_path).path]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "t001  3.5\ndepth 2, rank 8", "t000  9.5\ndepth 2, rank 4",
    ]  # fmt: skip
    shown = figure.axes[0].get_images()[0].get_array()
    assert shown is not None
    assert shown.shape[:2] == (4 * SIDE, 4 * SIDE)
    np.testing.assert_allclose(np.asarray(shown)[..., 0], 101 / 255, atol=1e-6)
    assert len(samples(load([tmp_path / "demo"]), most=1).axes) == 1


def test_the_corner_has_sixteen_images(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, 16:] = 255
    Image.fromarray(pixels).save(tmp_path / "grid.png")
    assert corner(tmp_path / "grid.png").shape == (16, 16, 3)
    assert corner(tmp_path / "grid.png").max() == 0


def test_pictures_come_in_an_order_that_is_told(tmp_path: Path) -> None:
    record = load([recorded(tmp_path).path])
    assert list(sample_grids(record, "demo", "t000-s0")) == ["collapsed", "k1", "k100", "interpolation"]
    assert sample_grids(record, "demo", "t009-s0") == {}


def test_a_record_without_artifacts_says_so(tmp_path: Path) -> None:
    files = recorded(tmp_path)
    exported = load([load([files.path]).export(tmp_path / "demo.parquet")])
    assert spectra(exported, "demo", "t000-s0") == {}
    with pytest.raises(RecordError, match=r"no finished trial of the search has a spectra\.csv"):
        spectrum(exported)
    with pytest.raises(RecordError, match=r"the trials of the search have no sample grid samples_k7\.png"):
        samples(load([files.path]), "k7")


def test_broken_files_are_named(tmp_path: Path) -> None:
    files = recorded(tmp_path)
    folder = files.path / "artifacts" / "t001-s0"
    (folder / "spectra.csv").write_text("operator,value\ncollapsed,1\n")
    (folder / "samples_collapsed.png").write_bytes(b"no picture")
    record = load([files.path])
    with pytest.raises(
        RecordError, match=r"t001-s0/spectra\.csv: not a table with the columns operator, index, singular_value"
    ):
        spectrum(record)
    with pytest.raises(RecordError, match=r"t001-s0/samples_collapsed\.png: not an image"):
        samples(record)
