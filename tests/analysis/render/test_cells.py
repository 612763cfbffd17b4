"""Numbers and cells as they are written."""

from __future__ import annotations

import math

import pytest

from analysis import (
    Cell,
    Column,
)
from analysis.render.cells import number_format


@pytest.mark.parametrize(
    ("value", "error", "spec", "expected"),
    [
        (31.4421, 6.8511, ".2f", "31.4 ± 6.9"),
        (1040.01, 133.48, ".2f", "1,040 ± 130"),
        (12345.6, 1049.0, ".2f", "12,300 ± 1,000"),
        (0.123456, 0.00996, ".4f", "0.123 ± 0.010"),
        (5.0, 0.0996, ".1f", "5.00 ± 0.10"),
        (-0.001, 0.5, ".1f", "0.00 ± 0.50"),
        (2.0, 0.0, ".1f", "2.0 ± 0"),
        (1.234e-7, 5.6e-9, ".2e", "(1.234 ± 0.056)e-07"),
        (1e-9, 2e-7, ".2e", "(0.0 ± 2.0)e-07"),
        (0.0, 2e-7, ".2e", "(0.0 ± 2.0)e-07"),
        (math.inf, 1.0, ".1f", "inf"),
        (7, 1.25, "d", "7.0 ± 1.2"),
    ],
)
def test_numbers_are_rounded_to_two_digits_of_their_error(value: float, error: float, spec: str, expected: str) -> None:
    assert Column("x", "x", spec=spec).text(Cell(value, error)) == expected


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        ([1.3, 900.0], ".2f"),
        ([12.0, 3000.5], ".1f"),
        ([0.0123, 4.0], ".4f"),
        ([1e-7, 2.0], ".2e"),
        ([1e30, 5.0], ".2e"),
        ([1200.0, 5.0, math.nan, math.inf], ",.0f"),
        ([], ",.0f"),
    ],
)
def test_number_formats(values: list[float], spec: str) -> None:
    assert number_format(values) == spec


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(84.5, 3e-14), "84.50 ± 0"),
        (Cell(84.5, interval=(84.5 - 1e-14, 84.5 + 1e-14)), "84.50 [84.50, 84.50]"),
        (Cell(84.5, 3e-6), "84.5000000 ± 0.0000030"),
    ],
)
def test_the_digits_of_rounding_errors_are_not_shown(cell: Cell, text: str) -> None:
    assert Column("c", "c", spec=".2f").text(cell) == text
