"""Stylisations against scipy's filters, and on images whose results are known by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from linearizer_core.experiment.data.stylise import STYLES

exact = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
styles = pytest.mark.parametrize("style", STYLES)


def random(*shape: int) -> Tensor:
    """Images in [-1, 1] whose values reach both ends."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def constant(value: float, channels: int = 1) -> Tensor:
    return torch.full((1, channels, 8, 8), value, dtype=torch.float64)


def impulse() -> Tensor:
    """Grey, with one pixel of 0.1 at row 4 and column 3."""
    image = constant(0.0)
    image[0, 0, 4, 3] = 0.1
    return image


@styles
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 9, 13), (1, 3, 32, 17)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_range_and_dtype_are_kept(style: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = 1.1 * random(*shape).to(dtype)
    before = images.clone()
    made = STYLES[style](images)
    assert made.shape == images.shape
    assert made.dtype == dtype
    assert float(made.abs().max()) <= 1
    assert torch.equal(images, before)
    assert torch.equal(made, STYLES[style](images))


@styles
def test_every_style_changes_images_in_a_way_of_its_own(style: str) -> None:
    images = random(4, 3, 8, 8)
    made = STYLES[style](images)
    others = [images, *(function(images) for name, function in STYLES.items() if name != style)]
    assert min(float((made - other).abs().max()) for other in others) > 0.1


@styles
def test_images_do_not_mix(style: str) -> None:
    images = random(3, 3, 10, 8)
    exact(STYLES[style](images)[1:2], STYLES[style](images[1:2]))


@pytest.mark.parametrize(
    ("style", "value", "expected"),
    [
        ("blur", 0.3, 0.3),
        ("edges", 0.3, -1.0),
        ("invert", 0.3, -0.3),
        ("emboss", 0.3, 0.3),
        ("posterise", 0.3, 1 / 3),
        ("posterise", 0.7, 1.0),
        ("posterise", -0.1, -1 / 3),
        ("pixelate", 0.3, 0.3),
        ("sepia", -1.0, -1.0),
        ("sepia", 0.0, (1.351 + 1.203 + 0.937) / 3 - 1),
        ("sepia", 1.0, 1.0),
    ],
)
def test_constant_grey_images(style: str, value: float, expected: float) -> None:
    exact(STYLES[style](constant(value)), constant(expected))


@pytest.mark.parametrize(("side", "deviation", "radius"), [(8, 1.0, 2), (32, 2.0, 4)])
def test_blur_is_scipys_gaussian_filter(side: int, deviation: float, radius: int) -> None:
    images = random(2, 3, side, side + 2)
    expected = ndimage.gaussian_filter(images.numpy(), deviation, mode="nearest", radius=radius, axes=(2, 3))
    exact(STYLES["blur"](images), torch.from_numpy(expected))


def test_edges_are_the_length_of_scipys_sobel_gradient() -> None:
    images = random(2, 3, 9, 12)
    # scipy smooths along every other axis, so it is given one plane at a time.
    planes = images.numpy().reshape(-1, 9, 12)
    down, across = (np.stack([ndimage.sobel(plane, axis, mode="nearest") for plane in planes]) for axis in (0, 1))
    expected = torch.from_numpy(np.hypot(down, across) / 4 - 1).clamp(-1, 1).view(images.shape)
    exact(STYLES["edges"](images), expected)


def test_a_full_step_is_a_white_edge() -> None:
    image = constant(-1.0)
    image[..., 4:] = 1.0
    expected = constant(-1.0)
    expected[..., 3:5] = 1.0
    exact(STYLES["edges"](image), expected)
    exact(STYLES["edges"](image.mT), expected.mT)


def test_emboss_of_an_impulse_is_its_kernel_turned_by_half() -> None:
    expected = constant(0.0)
    relief = [[0.2, 0.1, 0.0], [0.1, 0.1, -0.1], [0.0, -0.1, -0.2]]
    expected[0, 0, 3:6, 2:5] = torch.tensor(relief, dtype=torch.float64)
    exact(STYLES["emboss"](impulse()), expected)


def test_posterised_channels_have_four_levels_and_the_nearest() -> None:
    images = random(4, 3, 16, 16)
    made = STYLES["posterise"](images)
    levels = torch.tensor([-1, -1 / 3, 1 / 3, 1], dtype=torch.float64)
    exact(made.unique(), levels)
    nearest = (images[..., None] - levels).abs().argmin(-1)
    exact(made, levels[nearest])


def test_pixels_are_means_of_squares_and_of_what_the_image_leaves_of_them() -> None:
    images = random(2, 3, 9, 8)
    expected = images.clone()
    for top in range(0, 9, 2):
        for left in range(0, 8, 2):
            square = images[..., top : top + 2, left : left + 2]
            expected[..., top : top + 2, left : left + 2] = square.mean((2, 3), keepdim=True)
    exact(STYLES["pixelate"](images), expected)


def test_the_squares_grow_with_the_image() -> None:
    made = STYLES["pixelate"](random(1, 1, 32, 40))
    exact(made[0, 0, :4, :8], made[0, 0, [[0], [0], [0], [0]], [0, 0, 0, 0, 4, 4, 4, 4]])
    assert float(made[0, 0, 0, 0]) != float(made[0, 0, 0, 4])


def test_sepia_takes_pure_colours_to_the_columns_of_its_matrix() -> None:
    green = constant(-1.0, 3)
    green[:, 1] = 0.0  # half of full green
    tint = torch.tensor([0.769, 0.686, 0.534], dtype=torch.float64)
    exact(STYLES["sepia"](green), (tint - 1).view(1, 3, 1, 1).expand(1, 3, 8, 8))
    made = STYLES["sepia"](constant(-0.5, 3))
    assert float(made[0, 0, 0, 0]) > float(made[0, 1, 0, 0]) > float(made[0, 2, 0, 0])
