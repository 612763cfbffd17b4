"""Eigenvalues beside a known angle: right ones are found right, and wrong ones wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.metrics.harmonics import harmonics
from linearizer_core.models.motion import drifted
from linearizer_core.operators.transitions import rotations

PERIOD = 12
STEP = math.tau / PERIOD


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def drift() -> tuple[Tensor, Tensor]:
    """The matrix of a shift by one pixel of twelve in random coordinates, and latents of images that drift."""
    turns = torch.arange(PERIOD).double() / PERIOD
    matrix = drifted(torch.eye(PERIOD).double().view(PERIOD, 1, 1, PERIOD), turns[:1] + turns[1]).view(PERIOD, PERIOD).T
    images = normal(20, 1, 1, PERIOD)
    series = torch.stack([drifted(images, turns[time].expand(20)).flatten(1) for time in range(PERIOD)], 1)
    basis = normal(PERIOD, PERIOD, seed=1)
    return torch.linalg.solve(basis, matrix @ basis), torch.linalg.solve(basis, series.mT).mT


def test_eigenvalues_of_drift_are_exact(drift: tuple[Tensor, Tensor]) -> None:
    found = harmonics(*drift)
    assert found.angles.tolist() == pytest.approx([STEP * k for k in range(1, 6)], abs=1e-9)
    summary = found.summary()
    assert summary["degrees"] == pytest.approx(30)
    for name in ("angle_error", "angle_error_mean", "angle_error_max", "modulus_error"):
        assert summary[name] < 1e-7
    assert float(found.energy.sum()) == pytest.approx(1)


def test_an_error_of_three_percent_is_measured_as_such() -> None:
    frame = torch.linalg.qr(normal(4, 4))[0]
    angles = torch.tensor([STEP, 2 * STEP]).double()
    times = torch.arange(PERIOD).double()
    start = normal(10, 4)
    series = torch.stack([start @ (frame @ rotations(angles * time, 4) @ frame.T).T for time in times], 1)
    wrong = 0.9 * frame @ rotations(angles * torch.tensor([1.03, 0.98]).double(), 4) @ frame.T
    found = harmonics(wrong, series)
    assert found.errors[:2].tolist() == pytest.approx([0.03, 0.02], abs=1e-6)
    summary = found.summary()
    assert (summary["angle_error"], summary["angle_error_max"]) == pytest.approx((3, 3), abs=1e-4)
    assert 2 < summary["angle_error_mean"] < 3
    assert summary["modulus_error"] == pytest.approx(0.1, abs=1e-6)


def test_eigenvalues_that_have_nothing_to_do_with_the_motion_are_far_off(drift: tuple[Tensor, Tensor]) -> None:
    """Eigenvalues of 64 dimensions lie densely on the circle, so some are near every angle; they are not chosen."""
    matrix, series = drift
    wide = torch.cat([series, torch.zeros(20, PERIOD, 52).double()], 2)
    errors = []
    for seed in range(5):
        chance = torch.linalg.qr(normal(64, 64, seed=seed))[0]
        nearest = (torch.linalg.eigvals(chance).angle() - STEP).abs().min()
        assert float(nearest) < 0.1 * STEP
        errors.append(harmonics(chance, wide).summary()["angle_error_mean"])
    assert min(errors) > 20
    still = harmonics(torch.eye(PERIOD).double(), series).summary()
    assert still["angle_error_mean"] == pytest.approx(100)
    back = harmonics(matrix, series.flip(1)).summary()
    assert back["angle_error_mean"] == pytest.approx(200)


@pytest.mark.parametrize(
    ("matrix", "series", "said"),
    [
        (torch.eye(3), torch.ones(2, 8, 4), r"are needed, got \(3, 3\) and \(2, 8, 4\)"),
        (torch.eye(4), torch.ones(2, 2, 4), r"period ≥ 3"),
        (torch.eye(4), torch.zeros(2, 8, 4), "do not move"),
    ],
)
def test_what_is_refused(matrix: Tensor, series: Tensor, said: str) -> None:
    with pytest.raises(InputValueError, match=said):
        harmonics(matrix, series)
