"""Images from a trial's checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import linsweep as ls
from sweeps.spec.load import load

Cli = Callable[..., int]
RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a trial that keeps its model, before/t000-s0."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


def test_the_same_seed_gives_the_same_images_and_another_others() -> None:
    first, again = (ls.sample("before/t000-s0", count=9, seed=1, out=out) for out in ("a", "b"))
    assert first.images.shape == (9, 1, 8, 8)
    assert first.images.dtype == np.float32
    assert np.abs(first.images).max() <= 1
    assert np.array_equal(first.images, again.images)
    assert first.grid.read_bytes() == again.grid.read_bytes()
    assert not np.array_equal(first.images, ls.sample("before/t000-s0", count=9, seed=2).images)


def test_files_hold_what_was_made(run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("sample", "before/t000-s0", "-n", "10", "--out", "made", "--seed", "7") == 0
    assert capsys.readouterr().out == (
        "10 images of 1×8×8 from before/t000-s0 at seed 7:\n"
        "  made/before-t000-s0-seed7.png\n  made/before-t000-s0-seed7.npz\n"
    )
    made = ls.sample("before/t000-s0", count=10, seed=7)
    with np.load("made/before-t000-s0-seed7.npz") as archive:
        assert np.array_equal(archive["values"], made.images)
        assert np.array_equal(archive["images"], ((made.images + 1) * 127.5).round())
        assert archive["images"].dtype == np.uint8
        assert archive["seed"] == 7
    # Ten images of eight pixels, four times as large, each with a border: two rows of eight.
    assert Image.open("made/before-t000-s0-seed7.png").size == (8 * 34, 2 * 34)


def test_an_archive_of_samples_is_a_data_set() -> None:
    made = ls.sample("before/t000-s0", count=100)
    sweep = load(str(ls.init("again.yaml", data=made.archive, question="rank")))
    assert sweep.base_leaves["data.name"] == "npz"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["before/t002-s0"], "before/t002-s0: has no checkpoint; only trials that finished keep one"),
        (["before/r000"], "before/r000: has no checkpoint"),
        (["before"], "before: give the sweep and the trial, as SWEEP/TRIAL"),
        (["before/t000-s0", "--device", "cuda:77"], "--device: cuda:77: "),
        (["before/t000-s0", "--device", "gpu"], "--device: gpu: "),
    ],
)
def test_what_cannot_be_sampled(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run_cli("sample", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert not Path("samples").exists()


def test_weights_that_cannot_be_read_are_refused() -> None:
    weights = Path("runs/before/artifacts/t000-s0/checkpoint/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ls.LinsweepError, match=r"model\.safetensors: not the weights"):
        ls.sample("before/t000-s0")
    with pytest.raises(ls.LinsweepError, match="must be at least 1, got 0"):
        ls.sample("before/t000-s0", count=0)
