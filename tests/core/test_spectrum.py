"""Ranks of spectra by hand."""

from __future__ import annotations

import math

import pytest
import torch

from linearizer_core.metrics.spectrum import effective_rank, energy_rank


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], 1.0),
        ([2.0] * 8, 8.0),
        ([5.0, 0.0, 0.0], 1.0),
        ([3.0, 3.0, 0.0, 0.0], 2.0),
        ([2.0, 1.0, 1.0], math.exp(0.5 * math.log(2) + 2 * 0.25 * math.log(4))),
        ([0.9, 0.1], 0.9**-0.9 * 0.1**-0.1),
    ],
)
def test_effective_rank(values: list[float], expected: float) -> None:
    singular = torch.tensor(values, dtype=torch.float64)
    assert effective_rank(singular) == pytest.approx(expected, rel=1e-12)
    assert effective_rank(1e-3 * singular) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ([1.0], 0.99, 1),
        ([1.0] * 100, 0.985, 99),
        ([3.0, 2.0, 1.0], 0.64, 1),  # energies 9, 4, 1 of 14: 0.643, 0.929, 1
        ([3.0, 2.0, 1.0], 0.65, 2),
        ([3.0, 2.0, 1.0], 0.93, 3),
        ([1.0, 3.0, 2.0], 0.65, 2),  # in any order
        ([3.0, 4.0], 1.0, 2),
        ([5.0, 0.0, 0.0], 1.0, 1),
    ],
)
def test_energy_rank(values: list[float], fraction: float, expected: int) -> None:
    assert energy_rank(torch.tensor(values), fraction) == expected


def test_energy_rank_defaults_to_99_percent() -> None:
    assert energy_rank(torch.tensor([10.0, 0.9])) == 1  # 100 / 100.81 = 0.992
    assert energy_rank(torch.tensor([10.0, 1.1])) == 2  # 100 / 101.21 = 0.988
