"""Moving images: rotation and drift against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import load
from linearizer_core.models.motion import Motion, check_motion, drifted, turned

ROTATION, DRIFT = Motion("rotation", 24, 2, 0.0), Motion("drift", 24, 2, 0.0)
MOTIONS = pytest.mark.parametrize("motion", [ROTATION, DRIFT], ids=["rotation", "drift"])


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return load(DataConfig()).train.head(64).double()


def test_quarter_turns_are_exact(digits: Tensor) -> None:
    upright = ROTATION.at(digits, 0)
    for quarter in (1, 2, 3):
        there = ROTATION.at(digits, 6 * quarter)
        turns = [torch.rot90(upright, way * quarter, (2, 3)) for way in (1, -1)]
        assert min(float((there - each).abs().max()) for each in turns) < 1e-9


def test_nothing_leaves_the_frame_and_no_ink_is_lost_by_rotation(digits: Tensor) -> None:
    ink = torch.stack([(ROTATION.at(digits, time) + 1).sum((1, 2, 3)) for time in range(24)])
    assert float((ink / ink[0] - 1).abs().max()) < 0.02
    # Without padding the corners lie outside of the circle, at every angle, so that a turn still ends where it began.
    tight = Motion("rotation", 24, 0, 0.0)
    ones = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    assert float(tight.at(ones, 0)[0, 0, 0, 0]) == -1.0
    torch.testing.assert_close(tight.at(ones, 24), tight.at(ones, 0))


@MOTIONS
def test_a_frame_is_made_in_one_step_and_the_period_closes(motion: Motion, digits: Tensor) -> None:
    torch.testing.assert_close(motion.at(digits, 24 * 5 + 7), motion.at(digits, 7), rtol=0, atol=1e-9)
    assert float((motion.at(digits, 12) - motion.at(digits, 0)).abs().max()) > 0.5
    # Rows may be at different times.
    times = torch.arange(64).double() % 24
    found = motion.frames(digits, times)
    for row in (0, 13, 63):
        torch.testing.assert_close(found[row], motion.at(digits[row : row + 1], float(times[row]))[0])


def test_drift_by_whole_pixels_rolls_an_image_and_fractions_add_up(digits: Tensor) -> None:
    start = DRIFT.at(digits, 0)
    torch.testing.assert_close(DRIFT.at(digits, 2), start.roll(1, 3), rtol=0, atol=1e-9)  # 12 pixels in 24 steps
    twice = drifted(
        drifted(start, torch.full((64,), 0.013, dtype=torch.float64)), torch.full((64,), 0.4, dtype=torch.float64)
    )
    torch.testing.assert_close(twice, drifted(start, torch.full((64,), 0.413, dtype=torch.float64)), rtol=0, atol=1e-12)
    torch.testing.assert_close(DRIFT.again(start, 3.3), DRIFT.at(digits, 3.3), rtol=0, atol=1e-9)


@pytest.mark.parametrize("width", [7, 8])
def test_the_eigenvalues_of_drift_are_roots_of_unity(width: int) -> None:
    """A shift by s pixels of n has the eigenvalues e^{2πi k s / n}; an even n loses its highest frequency."""
    eye = torch.eye(width, dtype=torch.float64).view(width, 1, 1, width)
    matrix = drifted(eye, torch.full((width,), 0.3 / width, dtype=torch.float64)).view(width, width).T
    values = torch.linalg.eigvals(matrix)
    most = (width - 1) // 2
    known = [complex(math.cos(a), math.sin(a)) for a in (math.tau * 0.3 * k / width for k in range(-most, most + 1))]
    known += [0j] * (width % 2 == 0)
    for value in known:
        assert float((values - value).abs().min()) < 1e-12
    assert float(values.abs().sum()) == pytest.approx(2 * most + 1)


def test_contrast_saturates_and_can_be_undone(digits: Tensor) -> None:
    strong = Motion("drift", 24, 2, 1.5)
    plain, seen = DRIFT.at(digits, 5), strong.at(digits, 5)
    torch.testing.assert_close(torch.atanh(seen * math.tanh(1.5)) / 1.5, plain)
    torch.testing.assert_close(strong.again(seen, 2), strong.at(digits, 7), rtol=0, atol=1e-6)
    # A shift by whole pixels commutes with it, one by half a pixel does not: frames are not linear in what moves.
    torch.testing.assert_close(strong.at(digits, 7), seen.roll(1, 3), rtol=0, atol=1e-9)
    assert (
        float((drifted(seen, torch.full((64,), 1 / 24, dtype=torch.float64)) - strong.at(digits, 6)).abs().max()) > 0.1
    )


def test_turning_is_by_the_angle_asked_for() -> None:
    """The principal axis of a bar turns by the angle."""
    bar = -torch.ones(1, 1, 16, 16, dtype=torch.float64)
    bar[..., 3:13, 7:9] = 1.0
    places = torch.arange(16).double() - 7.5

    def axis(angle: float) -> float:
        ink = turned(bar, torch.tensor([angle]).double())[0, 0] + 1
        xx, yy = (ink * places.square()).sum(), (ink * places.square()[:, None]).sum()
        xy = (ink * places * places[:, None]).sum()
        return float(0.5 * torch.atan2(2 * xy, xx - yy))

    for angle in (0.1, 0.5, 1.0):
        turn = (axis(angle) - axis(0.0)) % math.pi
        assert min(turn, math.pi - turn) == pytest.approx(angle, abs=0.01)


def test_what_cannot_turn() -> None:
    assert check_motion("rotation", (1, 8, 6)) == "rotation needs square images, got 8×6"
    assert not check_motion("drift", (1, 8, 6))
    assert not check_motion("rotation", (3, 8, 8))
