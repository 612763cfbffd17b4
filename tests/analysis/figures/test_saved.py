"""Files of figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from analysis import (
    load,
    save,
    steps_versus_quality,
)
from tests.analysis.figures.drawn import small


def test_saved_files_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    path = small(tmp_path).path
    contents = []
    for name in ("one", "two"):
        figure = steps_versus_quality(load([path]))
        files = save(figure, tmp_path / name / "steps.v1")
        assert [file.name for file in files] == ["steps.v1.png", "steps.v1.svg"]
        assert figure.axes == []
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]
    png, svg = contents[0]
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 1020  # 3.4 inches at 300 dpi
    assert mpl.__version__.encode() not in png + svg
    assert b"<dc:date>" not in svg


def test_no_global_setting_is_left_behind(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save(steps_versus_quality(load([small(tmp_path).path])), tmp_path / "steps")
    assert dict(mpl.rcParams) == before
