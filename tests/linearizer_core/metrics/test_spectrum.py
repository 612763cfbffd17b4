"""Ranks of spectra by hand."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from linearizer_core.metrics.spectrum import effective_rank, energy_rank, numerical_rank, stable_rank
from linearizer_core.operators import DenseOperator


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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], 1.0),
        ([2.0] * 8, 8.0),
        ([5.0, 0.0, 0.0], 1.0),
        ([1.0, 2.0, 2.0], 2.25),  # in any order
        ([4.0, 3.0], 1.5625),
    ],
)
def test_stable_rank(values: list[float], expected: float) -> None:
    singular = torch.tensor(values, dtype=torch.float64)
    assert stable_rank(singular) == pytest.approx(expected, rel=1e-14)
    assert stable_rank(1e-200 * singular) == pytest.approx(expected, rel=1e-14)  # whose squares are 0


def test_stable_rank_is_the_quotient_of_the_matrix_norms() -> None:
    matrix = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.linalg.norm(matrix.numpy(), "fro") ** 2 / np.linalg.norm(matrix.numpy(), 2) ** 2
    assert stable_rank(torch.linalg.svdvals(matrix)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "rcond", "expected"),
    [
        ([1.0, 1.0, 1.0], None, 3),
        ([1.0, 0.0, 0.0], None, 1),
        ([0.0, 0.0], None, 0),
        ([], None, 0),
        ([8.0, 4.0, 2.0, 1.0], 0.25, 2),  # what equals the threshold does not count
        ([1.0, 2.0, 8.0, 4.0], 0.24, 3),
        ([8.0, 4.0, 2.0, 1.0], 0.0, 4),
    ],
)
def test_numerical_rank(values: list[float], rcond: float | None, expected: int) -> None:
    assert numerical_rank(torch.tensor(values), rcond) == expected
    assert numerical_rank(1e-3 * torch.tensor(values, dtype=torch.float64), rcond) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numerical_rank_starts_above_the_rounding_of_its_dtype(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    assert numerical_rank(torch.tensor([1.0, 3.5 * eps, 2.5 * eps], dtype=dtype)) == 2
    assert numerical_rank(torch.tensor([1.0, 3.5 * eps, 2.5 * eps, 0.0], dtype=dtype)) == 1


def test_numerical_rank_of_a_rounded_product_as_numpy_and_the_operator_have_it() -> None:
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = draw(40, 7) @ draw(7, 40)
    assert numerical_rank(torch.linalg.svdvals(matrix)) == np.linalg.matrix_rank(matrix.numpy()) == 7
    assert DenseOperator(matrix).rank() == 7
