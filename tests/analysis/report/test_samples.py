"""The samples on the page: the best, the median and the worst are what their names say."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from analysis import cost, failures, load, provenance
from analysis.report.page import page
from tests.analysis.record_factory import DEPTH, FD, SweepFiles

PICTURED = re.compile(r'<h3>(\w+): (t\d+)</h3><div class="samples"><figure><img[^>]*base64,([^"]+)"')


def shown(tmp_path: Path, values: Sequence[float], way: str, without: Sequence[int] = ()) -> dict[str, tuple[str, int]]:
    """Word to the configuration that is shown under it, and the grey level of its picture, which is its number."""
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 9]}}, objective={FD: way})
    for number, value in enumerate(values):
        trial = files.finished(number, {DEPTH: 1 + number}, value)
        folder = files.path / "artifacts" / trial
        folder.mkdir(parents=True)
        if number not in without:
            Image.new("L", (8, 8), number).save(folder / "samples_collapsed.png")
    record = load([files.path])
    text = page(record, [], [], [], [cost(record), failures(record), provenance(record)], [])
    return {
        word: (name, Image.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)))  # type: ignore[misc]
        for word, name, data in PICTURED.findall(text)
    }


@pytest.mark.parametrize(("way", "best", "worst"), [("min", 3, 1), ("max", 1, 3)])
def test_best_median_and_worst_are_what_they_say(tmp_path: Path, way: str, best: int, worst: int) -> None:
    places = {"Best": best, "Median": 4, "Worst": worst}
    found = shown(tmp_path, [20.0, 90.0, 40.0, 10.0, 30.0], way)
    assert found == {word: (f"t00{place}", place) for word, place in places.items()}


def test_of_two_there_is_no_median_and_who_left_no_picture_is_passed_over(tmp_path: Path) -> None:
    assert shown(tmp_path, [20.0, 90.0, 10.0], "min", without=[2]) == {"Best": ("t000", 0), "Worst": ("t001", 1)}
