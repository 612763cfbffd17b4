"""Perceptual losses against numpy and closed forms; LPIPS through stand-ins, and itself where it is installed."""

from __future__ import annotations

import hashlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from linearizer_core.metrics import imagenet, perceptual
from linearizer_core.metrics.perceptual import ALEXNET, EarlyLayers, distance, gradient_ssim, missing, mse
from linearizer_core.metrics.similarity import ssim


def images(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch hub's empty folder of checkpoints."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_mse_by_hand() -> None:
    a = torch.zeros(2, 1, 1, 2)
    b = torch.tensor([1.0, 2.0, 0.0, 3.0]).view(2, 1, 1, 2)
    assert float(mse(a, b)) == (1 + 4 + 9) / 4
    assert distance("mse") is mse


def halved(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    return image[..., : 2 * height, : 2 * width].reshape(*image.shape[:-2], height, 2, width, 2).mean((-3, -1))


@pytest.mark.parametrize(
    ("shape", "scales"), [((2, 1, 8, 8), 2), ((3, 3, 12, 8), 2), ((1, 1, 4, 9), 1), ((1, 2, 16, 33), 3)]
)
def test_gradient_ssim_by_numpy(shape: tuple[int, ...], scales: int) -> None:
    a, b = images(*shape), images(*shape, seed=1)
    x, y = a.numpy(), b.numpy()
    expected = ((x - y) ** 2).mean()
    for _ in range(scales):
        across = np.abs(np.diff(x, axis=-1) - np.diff(y, axis=-1)).mean()
        down = np.abs(np.diff(x, axis=-2) - np.diff(y, axis=-2)).mean()
        unlike = 1 - float(ssim(torch.from_numpy(x), torch.from_numpy(y)).mean())
        expected += (across + down + unlike) / scales
        x, y = halved(x), halved(y)
    assert float(gradient_ssim(a, b)) == pytest.approx(expected, rel=1e-12)
    assert distance("gradient_ssim") is gradient_ssim


def test_gradient_ssim_of_constant_images() -> None:
    """No edges, and at every scale the luminance's 1 - (2 x y + C1) / (x² + y² + C1)."""
    a, b = (torch.full((2, 1, 16, 16), value, dtype=torch.float64) for value in (0.0, 0.5))
    expected = 0.25 + 1 - (2 * 1.5 + 0.0004) / (1 + 2.25 + 0.0004)
    assert float(gradient_ssim(a, b)) == pytest.approx(expected, rel=1e-10)


def test_gradient_ssim_is_a_distance_that_a_loss_can_be() -> None:
    a, b = images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)
    assert float(gradient_ssim(a, a)) == pytest.approx(0, abs=1e-12)
    assert float(gradient_ssim(a, b)) == pytest.approx(float(gradient_ssim(b, a)), rel=1e-12)
    u, v = images(2, 1, 8, 8, seed=2), images(2, 1, 8, 8, seed=3)

    def value(step: float | Tensor) -> Tensor:
        x, y = a + step * u, b + step * v
        return gradient_ssim(x, y)

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)
    assert float(slope) == pytest.approx(float(value(1e-6) - value(-1e-6)) / 2e-6, rel=1e-6)
    assert abs(float(slope)) > 1e-3


def test_gradient_ssim_prefers_the_sharp_image_that_is_off_by_a_grey_value_to_the_blurred_one() -> None:
    """Two images at one mean squared distance from a chequered one."""
    chequers = ((torch.arange(16)[:, None] // 2 + torch.arange(16) // 2) % 2).double().view(1, 1, 16, 16) - 0.5
    brighter, grey = chequers + 0.5, torch.zeros_like(chequers)
    assert float(mse(chequers, brighter)) == float(mse(chequers, grey)) == 0.25
    assert 2 * float(gradient_ssim(chequers, brighter)) < float(gradient_ssim(chequers, grey))


def test_images_too_small_for_edges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sides of at least 4 pixels, got \(3, 8\)"):
        gradient_ssim(images(1, 1, 3, 8), images(1, 1, 3, 8))


@pytest.mark.parametrize("ask", [distance, missing])
def test_an_unknown_distance_is_refused_with_those_that_are_known(ask: object) -> None:
    with pytest.raises(ValueError, match="unknown distance 'vgg'; use one of mse, gradient_ssim, imagenet, lpips"):
        ask("vgg")  # type: ignore[operator]


def test_what_lpips_lacks_is_said(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing("mse") is None
    assert missing("gradient_ssim") is None
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    reason = missing("lpips")
    assert reason is not None
    assert "pip install lpips" in reason
    assert ALEXNET in reason
    assert str(hub) in reason
    (hub / ALEXNET).write_bytes(b"")
    assert missing("lpips") == "LPIPS needs the package lpips (pip install lpips); nothing is downloaded"
    with pytest.raises(ValueError, match="pip install lpips"):
        distance("lpips")


class StandIn(nn.Module):
    """Two of a backbone's layers, numbered and sliced as the package does it, and their squared difference."""

    def __init__(self, net: str, pnet_rand: bool, verbose: bool) -> None:
        super().__init__()
        assert (net, pnet_rand, verbose) == ("alex", True, False)
        self.net = nn.ModuleDict()
        self.net["slice1"] = nn.ModuleDict({"0": nn.Conv2d(3, 2, 1)})
        self.net["slice2"] = nn.ModuleDict({"3": nn.Conv2d(2, 2, 1), "4": nn.Dropout()})
        self.seen: list[Tensor] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.seen.append(a)
        out = [self.net["slice2"]["4"](self.net["slice2"]["3"](self.net["slice1"]["0"](x))) for x in (a, b)]
        return (out[0] - out[1]).square().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def stand_in(hub: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Puts a stand-in in the package's place, and random weights, which it gives, in the backbone's."""
    package = ModuleType("lpips")
    package.__spec__ = ModuleSpec("lpips", None)
    package.LPIPS = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", package)
    shapes = {"features.0.weight": (2, 3, 1, 1), "features.0.bias": (2,), "features.3.weight": (2, 2, 1, 1)}
    shapes |= {"features.3.bias": (2,), "classifier.1.weight": (4, 4)}
    weights = {name: images(*shape, seed=i).float() for i, (name, shape) in enumerate(shapes.items())}
    torch.save(weights, hub / "part")
    name = f"net-{hashlib.sha256((hub / 'part').read_bytes()).hexdigest()[:8]}.pth"
    (hub / "part").rename(hub / name)
    monkeypatch.setattr(perceptual, "ALEXNET", name)
    return weights


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (2, 3, 8, 16), (2, 3, 64, 80)])
def test_lpips_gives_the_package_what_it_takes(stand_in: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    assert missing("lpips") is None
    a, b = images(*shape).requires_grad_(), images(*shape, seed=1)
    value = distance("lpips")(a, b)
    first, second = (stand_in[f"features.{layer}.weight"][..., 0, 0].double() for layer in (0, 3))
    size = {(8, 8): (64, 64), (8, 16): (64, 128), (64, 80): (64, 80)}[shape[2:]]
    gap = interpolate((a - b).expand(-1, 3, -1, -1), size, mode="bilinear")
    expected = torch.einsum("oc,bchw->bohw", second @ first, gap).square().mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(expected, a)
    torch.testing.assert_close(torch.autograd.grad(value, a)[0], gradient, rtol=1e-4, atol=1e-8)
    assert float(distance("lpips")(a, a).detach()) == 0


def test_damaged_weights_are_refused(stand_in: dict[str, Tensor], hub: Path) -> None:
    distance.cache_clear()
    (path,) = hub.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        distance("lpips")


def test_lpips_is_that_of_the_package(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights where torchvision looks for AlexNet's."""
    package = pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    torch.save(models.alexnet().state_dict(), hub / ALEXNET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = package.LPIPS(net="alex", verbose=False)
    with (hub / ALEXNET).open("rb") as file:
        name = f"alexnet-{hashlib.file_digest(file, 'sha256').hexdigest()[:8]}.pth"
    (hub / ALEXNET).rename(hub / name)
    monkeypatch.setattr(perceptual, "ALEXNET", name)
    ours = distance("lpips")
    a, b = images(2, 3, 64, 64).float(), images(2, 3, 64, 64, seed=1).float()
    assert float(ours(a, b)) == pytest.approx(float(original(a, b).mean().detach()), rel=1e-5)
    assert float(ours(a, b)) > 0
    small = ours(images(2, 1, 8, 8).requires_grad_(), images(2, 1, 8, 8, seed=1))
    assert small.requires_grad
    assert float(ours(a, a)) == 0


imagenet_installed = pytest.mark.skipif(missing("imagenet") is not None, reason=str(missing("imagenet")))


def test_what_early_layers_lack_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGE", "a_package_that_nobody_has")
    assert "need the extra imagenet" in str(missing("imagenet"))
    with pytest.raises(ValueError, match="need the extra imagenet"):
        EarlyLayers()


@imagenet_installed
def test_early_layers_see_a_blur_that_pixels_miss() -> None:
    """A shift of all grey levels is farther in pixels than a blur, which people see more; the gradient leads back."""
    picture = torch.from_numpy(load_sample_images().images[0].copy()).permute(2, 0, 1)[None, :, 100:228, 200:328]
    picture = picture.float() / 127.5 - 1
    blurred, brighter = gaussian_blur(picture, [9, 9]), (picture + 0.6).clamp(-1, 1)
    measure = distance("imagenet")
    assert float(measure(picture, picture)) == pytest.approx(0, abs=1e-6)
    assert mse(picture, blurred) < mse(picture, brighter)
    assert measure(picture, blurred) > measure(picture, brighter)
    assert float(measure(blurred, picture)) == pytest.approx(float(measure(picture, blurred)), rel=1e-5)
    moved = blurred.clone().requires_grad_(True)
    before = measure(moved, picture)
    (gradient,) = torch.autograd.grad(before, moved)
    assert torch.isfinite(gradient).all()
    assert measure(blurred - 0.5 * gradient / gradient.norm(), picture) < before


@imagenet_installed
def test_grey_images_of_a_few_pixels_are_compared_as_well() -> None:
    a, b = images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)
    assert 0 < float(distance("imagenet")(a, b)) < 4
