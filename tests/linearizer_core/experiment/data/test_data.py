"""The digits against scikit-learn's, and what every data set has in common."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from linearizer_core.experiment.configuration import DataConfig, from_mapping, to_mapping
from linearizer_core.experiment.data import DataError, ImageData, TensorImages, load, locate
from linearizer_core.experiment.data.order import split_before_test

SPLITS = ["train", "validation", "test"]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataConfig())


def pixels(data: ImageData, split: str) -> torch.Tensor:
    images = getattr(data, split)
    return images if isinstance(images, torch.Tensor) else images.head(len(images))


def rows(images: torch.Tensor, labels: torch.Tensor) -> Counter[bytes]:
    """How often each image with its label occurs."""
    quanta = (images.flatten(1) * 8 + 8).numpy().astype(np.uint8)
    return Counter(p.tobytes() + bytes([y]) for p, y in zip(quanta, labels.tolist(), strict=True))


def split_rows(digits: ImageData) -> list[Counter[bytes]]:
    return [rows(pixels(digits, name), getattr(digits, f"{name}_labels")) for name in SPLITS]


def test_every_image_is_in_exactly_one_split(digits: ImageData) -> None:
    source = load_digits()
    images = torch.from_numpy(source.images)[:, None] / 8 - 1
    assert sum(split_rows(digits), Counter()) == rows(images, torch.from_numpy(source.target))
    assert [len(getattr(digits, name)) for name in SPLITS] == [1079, 359, 359]


def test_splits_are_disjoint(digits: ImageData) -> None:
    train, validation, test = (set(part) for part in split_rows(digits))
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_splits_are_those_of_the_fixed_shuffle(digits: ImageData) -> None:
    source = load_digits()
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(20250101))
    images = (torch.from_numpy(np.asarray(source.images, dtype=np.float32))[:, None] / 8 - 1)[order]
    labels = torch.from_numpy(source.target)[order]
    for name, part in zip(SPLITS, (slice(718, None), slice(359), slice(359, 718)), strict=True):
        assert torch.equal(pixels(digits, name), images[part])
        assert torch.equal(getattr(digits, f"{name}_labels"), labels[part])


def test_another_split_has_the_same_images_in_other_places(digits: ImageData) -> None:
    other = load(DataConfig(name="digits", split=1))
    parts = [split_rows(each) for each in (digits, other)]
    assert [part.total() for part in parts[0]] == [part.total() for part in parts[1]]
    assert sum(parts[0], Counter()) == sum(parts[1], Counter())
    # A fifth of the validation images are drawn again by chance: 72 of 359, with a deviation of about 7.
    assert 40 < (parts[0][1] & parts[1][1]).total() < 110
    assert other.checksum != digits.checksum


def test_published_test_images_stay_whatever_the_split() -> None:
    first, second = (split_before_test(100, 20, 30, which) for which in (0, 1))
    assert torch.equal(first.test, second.test)
    assert first.test.tolist() == list(range(100, 130))
    assert not torch.equal(first.validation, second.validation)
    assert sorted([*second.train.tolist(), *second.validation.tolist()]) == list(range(100))


def test_form(digits: ImageData) -> None:
    assert digits.name == "digits"
    assert digits.event == (1, 8, 8)
    assert digits.levels == 17
    for name in SPLITS:
        images, labels = pixels(digits, name), getattr(digits, f"{name}_labels")
        assert images.shape == (len(labels), 1, 8, 8)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert float(images.min()) == -1
        assert float(images.max()) == 1
        assert set(labels.tolist()) == set(range(digits.classes))


def test_every_class_is_in_every_split_in_proportion(digits: ImageData) -> None:
    for name in SPLITS:
        share = getattr(digits, f"{name}_labels").bincount().double() / len(getattr(digits, name))
        assert float((share - 0.1).abs().max()) < 0.04


def test_checksum_is_the_same_in_another_process(digits: ImageData, other_process: dict[str, str]) -> None:
    assert len(digits.checksum) == 64
    assert other_process["data"] == digits.checksum


def test_training_images_can_be_limited_to_the_first(digits: ImageData) -> None:
    few = load(DataConfig(images=100))
    assert len(few.train) == len(few.train_labels) == 100
    assert torch.equal(few.train.head(100), digits.train.head(100))
    assert torch.equal(few.train_labels, digits.train_labels[:100])
    assert torch.equal(few.validation, digits.validation)
    assert len(load(DataConfig(images=1079)).train) == 1079
    with pytest.raises(DataError, match=r"data.images = 1080 exceeds the 1079 training images of digits"):
        load(DataConfig(images=1080))


@pytest.mark.parametrize("size", [5, 16])
def test_another_size_is_pillows_resizing_at_256_levels(size: int) -> None:
    large, own = load(DataConfig(size=size)), load(DataConfig())
    assert large.levels == 256
    assert large.event == (1, size, size)
    for found, small in zip(large.test, own.test, strict=True):
        grey = Image.fromarray(((small[0].double() + 1) * 127.5).round().byte().numpy())
        expected = np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float64) * 2 / 255 - 1
        np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-7)


def test_own_size_by_number_is_the_own_size(digits: ImageData) -> None:
    assert load(DataConfig(size=8)).checksum == digits.checksum


def test_checksum_depends_on_what_the_images_are(digits: ImageData) -> None:
    configs = [DataConfig(images=100), DataConfig(images=101), DataConfig(size=16), DataConfig(size=5)]
    assert len({digits.checksum, *(load(config).checksum for config in configs)}) == 5


def test_what_was_loaded_is_kept() -> None:
    assert load(DataConfig()) is load(DataConfig(download=True))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_are_spread_evenly_from_minus_one_to_one(levels: int) -> None:
    images = TensorImages(torch.arange(levels, dtype=torch.uint8).view(-1, 1, 1, 1), levels).head(levels)
    expected = np.linspace(-1, 1, levels, dtype=np.float64)
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images.flatten().numpy(), expected, rtol=0, atol=6e-8)
    assert (images[0], images[-1]) == (-1, 1)


def test_batches_of_a_tensor_follow_the_order_and_are_full() -> None:
    images = TensorImages(torch.arange(10, dtype=torch.uint8).view(-1, 1, 1, 1), 11)
    order = torch.tensor([7, 2, 9, 0, 1, 3, 5, 4])
    found = [((batch + 1) * 5).round().flatten().tolist() for batch in images.batches(order, 3)]
    assert found == [[7, 2, 9], [0, 1, 3]]
    assert list(images.batches(order, 9)) == []
    assert len(list(images.batches(order, 8))) == 1
    assert ((images.head(2) + 1) * 5).round().flatten().tolist() == [0, 1]
    assert len(images.head(99)) == len(images) == 10
    assert ((images.to("cpu").batch(order[:2]) + 1) * 5).round().flatten().tolist() == [7, 2]


def test_unknown_data_set() -> None:
    with pytest.raises(DataError, match="unknown data set 'letters'"):
        load(DataConfig(name="letters"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "letters"), ("size", -1), ("size", 1025), ("images", -1), ("download", 1), ("root", None), ("size", 8.0)],
)
def test_a_configuration_out_of_bounds_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"DataConfig.{field} cannot be"):
        from_mapping(DataConfig, {field: value})


def test_a_configuration_within_bounds_is_read_back() -> None:
    config = DataConfig(name="folder", root="pictures", size=1024, images=7, download=True)
    assert from_mapping(DataConfig, to_mapping(config)) == config


def test_where_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(root: str) -> str:
        with pytest.raises(DataError) as error:
            locate(DataConfig(name="cifar10", root=root))
        return str(error.value)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LINEARIZER_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert f"{tmp_path / 'data' / 'cifar-10-batches-py'}" in place("")
    monkeypatch.setenv("LINEARIZER_DATA", str(tmp_path / "named"))
    assert f"{tmp_path / 'named' / 'cifar-10-batches-py'}" in place("")
    assert f"{tmp_path / 'given' / 'cifar-10-batches-py'}" in place("given")
    assert f"{tmp_path / 'home' / 'x' / 'cifar-10-batches-py'}" in place("~/x")


def test_another_environment_is_another_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (3, 4):
        np.savez(tmp_path / f"{value}.npz", images=np.full((10, 2, 2), value, dtype=np.uint8))
        monkeypatch.setenv("LINEARIZER_DATA", str(tmp_path / f"{value}.npz"))
        assert float(load(DataConfig(name="npz")).test[0, 0, 0, 0]) == pytest.approx(2 * value / 255 - 1)


def test_digits_need_no_files(tmp_path: Path) -> None:
    assert locate(DataConfig(root=str(tmp_path / "none"))) == []


class Downloads:
    """Stands for torchvision: records what it is asked to fetch, and may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
        self.asked: list[Any] = []

        def fetch(kind: str) -> Any:
            def construct(root: Path, download: bool) -> None:
                self.asked.append((kind, Path(root), download))
                if failure:
                    raise failure

            return construct

        kinds = {kind: fetch(kind) for kind in ("MNIST", "FashionMNIST", "CIFAR10", "CelebA")}
        datasets = SimpleNamespace(**kinds)
        monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=datasets))  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)  # type: ignore[arg-type]


PUBLISHED = [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("cifar10", "CIFAR10"), ("celeba", "CelebA")]


@pytest.mark.parametrize(("name", "kind"), PUBLISHED)
def test_nothing_is_fetched_unless_asked(name: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = Downloads(monkeypatch)
    config = DataConfig(name=name, root=str(tmp_path))
    with pytest.raises(
        DataError, match=rf"{name}: .* not found in .* set data.download to fetch .* data.root or LINEARIZER_DATA"
    ):
        load(config)
    assert downloads.asked == []
    with pytest.raises(DataError, match=f"{name}: .* not found in"):
        load(dataclasses.replace(config, download=True))
    assert downloads.asked == [(kind, tmp_path, True)]


@pytest.mark.parametrize("failure", [OSError("no route"), RuntimeError("no route"), ModuleNotFoundError("no route")])
def test_a_failed_download_is_told(failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Downloads(monkeypatch, failure)
    with pytest.raises(DataError, match=r"mnist: train-images.* not found in .*the download failed: no route"):
        load(DataConfig(name="mnist", root=str(tmp_path), download=True))


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_what_nobody_publishes_is_not_fetched(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = Downloads(monkeypatch)
    with pytest.raises(DataError, match=r"set data\.root or LINEARIZER_DATA to"):
        load(DataConfig(name=name, root=str(tmp_path / "none"), download=True))
    assert downloads.asked == []
