"""Degradations of images: their shapes, what they keep, and the obvious way back."""

from __future__ import annotations

import pytest
import torch

from linearizer_core.experiment.data.degrade import DEGRADATIONS, check_sides
from linearizer_core.experiment.data.stylise import blur

EVENTS = [(1, 8, 8), (3, 32, 32), (1, 28, 28), (1, 10, 6)]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("name", DEGRADATIONS)
def test_shapes_are_what_they_say(name: str, event: tuple[int, int, int]) -> None:
    each = DEGRADATIONS[name]
    images = torch.rand(2, *event)
    if min(event[1:]) < 8 and name == "blur":
        images, event = torch.rand(2, 1, 8, 8), (1, 8, 8)
    left = each.measured(images)
    assert left.shape[1:] == each.shape(event)
    assert each.filled(left, event).shape == images.shape


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_degradation_is_linear(name: str) -> None:
    a, b = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    degrade = DEGRADATIONS[name].measured
    torch.testing.assert_close(degrade(a + b), degrade(a) + degrade(b))


def test_what_each_leaves() -> None:
    rows = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 1, 8, 8) / 8
    left = {name: each.measured(rows) for name, each in DEGRADATIONS.items()}
    assert left["inpaint"][0, 0, :, 0].tolist() == [0, 1 / 8, 6 / 8, 7 / 8]
    assert left["downsample"][0, 0, :, 0].tolist() == [0.5 / 8, 2.5 / 8, 4.5 / 8, 6.5 / 8]
    assert left["downsample"].shape == (1, 1, 4, 4)
    assert torch.equal(left["noise"], rows)
    assert torch.equal(left["blur"], blur(rows))
    # On a ramp the gap is filled as it was.
    torch.testing.assert_close(DEGRADATIONS["inpaint"].filled(left["inpaint"], (1, 8, 8)), rows)


def test_sides_that_do_not_do() -> None:
    assert check_sides("downsample", (1, 7, 8)) == "downsample needs even image sides, got 7×8"
    assert check_sides("inpaint", (1, 3, 8)) == "inpaint needs at least 4 rows, got 3"
    assert not any(check_sides(name, (1, 8, 8)) for name in DEGRADATIONS)
