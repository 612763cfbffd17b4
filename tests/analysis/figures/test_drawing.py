"""What figures share."""

from __future__ import annotations

import pytest

from analysis.figures.drawing import spread


@pytest.mark.parametrize(
    ("wanted", "sizes", "expected"),
    [
        ([0.2, 0.8], [0.1, 0.1], [0.2, 0.8]),
        ([0.5, 0.5], [0.2, 0.2], [0.4, 0.6]),
        ([0.0, 1.0], [0.2, 0.2], [0.1, 0.9]),
        ([0.0, 0.0], [0.2, 0.4], [0.1, 0.4]),
        ([0.2, 0.5, 0.52], [0.1, 0.2, 0.2], [0.2, 0.41, 0.61]),
        ([0.3, 0.5, 0.52], [0.1, 0.2, 0.2], [0.82 / 3, 1.27 / 3, 1.87 / 3]),
    ],
)
def test_spread(wanted: list[float], sizes: list[float], expected: list[float]) -> None:
    assert spread(wanted, sizes) == pytest.approx(expected)
