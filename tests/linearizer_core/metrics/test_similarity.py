"""Structural similarity against loops over windows and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from linearizer_core.metrics.similarity import ssim


def images(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def by_loops(a: np.ndarray, b: np.ndarray, size: int, peak: float) -> float:
    """Equation 13 of Wang et al. (2004) at each place of one channel, with values in 0 … ``peak``."""
    axis = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for i in range(a.shape[0] - size + 1):
        for j in range(a.shape[1] - size + 1):
            x, y = a[i : i + size, j : j + size], b[i : i + size, j : j + size]
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            cov = (weights * (x - mean_x) * (y - mean_y)).sum()
            similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
            values.append(similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("channels", "height", "width", "window"),
    [(1, 16, 13, 11), (3, 11, 12, 11), (1, 8, 8, 7), (2, 7, 20, 7), (1, 4, 5, 3), (1, 1, 6, 1)],
)
def test_by_loops(channels: int, height: int, width: int, window: int) -> None:
    """On the grey values 0 … 255 that files hold, where the published values of SSIM are taken."""
    a = images(3, channels, height, width)
    b = (0.7 * a + 0.3 * images(3, channels, height, width, seed=1)).clamp(-1, 1)
    grey_a, grey_b = ((image.numpy() + 1) * 127.5 for image in (a, b))
    expected = [
        np.mean([by_loops(x, y, window, 255) for x, y in zip(one, other, strict=True)])
        for one, other in zip(grey_a, grey_b, strict=True)
    ]
    torch.testing.assert_close(ssim(a, b), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_equal_images_have_one() -> None:
    a = images(4, 3, 12, 12)
    torch.testing.assert_close(ssim(a, a), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (ssim(a, -a) < 0).all()


@pytest.mark.parametrize(("grey", "other"), [(-1.0, 1.0), (0.0, 0.1), (-0.5, 0.5)])
def test_constant_images_differ_in_luminance_alone(grey: float, other: float) -> None:
    """(2 x y + C1) / (x² + y² + C1), with x and y counted from black."""
    a, b = (torch.full((2, 1, 12, 12), value, dtype=torch.float64) for value in (grey, other))
    x, y, c1 = grey + 1, other + 1, 0.02**2
    expected = torch.full((2,), (2 * x * y + c1) / (x * x + y * y + c1), dtype=torch.float64)
    torch.testing.assert_close(ssim(a, b), expected, rtol=0, atol=1e-10)


def test_a_flat_image_has_no_structure_in_common() -> None:
    """With equal means, C2 / (σ² + C2): stripes ± s of one pixel, seen through a window of one row."""
    s = 0.5
    stripes = torch.tensor([-s, s, -s], dtype=torch.float64).repeat(1, 1, 3, 1)
    edge = np.exp(-1 / (2 * 1.5**2))
    mean = s * (1 - 2 * edge) / (1 + 2 * edge)
    flat = torch.full_like(stripes, mean)
    expected = 0.06**2 / (s**2 - mean**2 + 0.06**2)
    assert float(ssim(stripes, flat)) == pytest.approx(expected, rel=1e-12)


def test_symmetric_and_free_of_units() -> None:
    a, b = images(3, 2, 12, 14), images(3, 2, 12, 14, seed=1)
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    torch.testing.assert_close(ssim(100 * a, 100 * b, peak=200.0), ssim(a, b))
    torch.testing.assert_close(ssim(a.flip(2, 3), b.flip(2, 3)), ssim(a, b))
    torch.testing.assert_close(ssim(a.float(), b.float()), ssim(a, b).float())
    assert ssim(a.float(), b.float()).dtype == torch.float32


def test_differentiable() -> None:
    a, b = images(2, 1, 5, 5), images(2, 1, 5, 5, seed=1)
    u, v = images(2, 1, 5, 5, seed=2), images(2, 1, 5, 5, seed=3)

    def value(step: float | Tensor) -> Tensor:
        x, y = a + step * u, b + step * v
        return ssim(x, y).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)
    assert float(slope) == pytest.approx(float(value(1e-6) - value(-1e-6)) / 2e-6, rel=1e-6)
    assert abs(float(slope)) > 1e-3


def test_images_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 1, 8, 8\) and \(1, 1, 8, 8\)"):
        ssim(images(2, 1, 8, 8), images(1, 1, 8, 8))
