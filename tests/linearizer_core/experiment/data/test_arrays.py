"""NumPy archives, and CIFAR-10 as torchvision keeps it."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import DataError, ImageData, load, locate

SPLITS = ["train", "validation", "test"]


def archive(path: Path, **arrays: Any) -> DataConfig:
    np.savez(path, **arrays)
    return DataConfig(name="npz", root=str(path))


def quanta(data: ImageData) -> list[np.ndarray]:
    """The splits' pixels, 0 … 255."""
    parts = [data.train.head(len(data.train)), data.validation, data.test]
    return [((part.double() + 1) * 127.5).round().byte().numpy() for part in parts]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def shuffle(count: int) -> np.ndarray:
    return torch.randperm(count, generator=torch.Generator().manual_seed(20250101)).numpy()


@pytest.mark.parametrize(
    "shape", [(57, 4, 6), (57, 4, 6, 1), (57, 4, 6, 3), (57, 1, 4, 6), (57, 3, 4, 6), (57, 3, 3, 3)]
)
def test_an_archive_is_split_by_the_fixed_shuffle(shape: tuple[int, ...], tmp_path: Path) -> None:
    images, labels = random(*shape), np.arange(57, dtype=np.int16) % 5
    config = archive(tmp_path / "x.npz", images=images, labels=labels)
    data = load(config)
    assert locate(config) == [tmp_path / "x.npz"]
    if len(shape) == 3:
        images = images[:, None]
    elif shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    order = shuffle(57)
    parts = (order[10:], order[:5], order[5:10])
    for name, found, part in zip(SPLITS, quanta(data), parts, strict=True):
        assert np.array_equal(found, images[part])
        assert getattr(data, f"{name}_labels").tolist() == labels[part].tolist()
        assert getattr(data, f"{name}_labels").dtype == torch.int64
    assert data.event == images.shape[1:]
    assert (data.classes, data.levels) == (5, 256)


def test_an_archive_without_labels(tmp_path: Path) -> None:
    data = load(archive(tmp_path / "x.npz", images=random(20, 4, 4)))
    assert data.classes == 0
    for name, images in zip(SPLITS, quanta(data), strict=True):
        assert getattr(data, f"{name}_labels").tolist() == [0] * len(images)


def test_another_size_cuts_the_centred_square(tmp_path: Path) -> None:
    images = random(10, 6, 10, 3)
    images[:, :, :2], images[:, :, 8:] = 255, 255
    images[:, :, 2:8] = 51
    config = archive(tmp_path / "x.npz", images=images)
    data = load(DataConfig(name="npz", root=config.root, size=4))
    assert data.event == (3, 4, 4)
    assert all((part == 51).all() for part in quanta(data))


def test_checksum_depends_on_pixels_labels_and_shape(tmp_path: Path) -> None:
    images, labels = random(20, 4, 4), np.arange(20) % 2
    other_images, other_labels = images.copy(), labels.copy()
    other_images[3, 2, 1] ^= 1
    other_labels[3] ^= 1
    sets = [
        {"images": images},
        {"images": images, "labels": labels},
        {"images": other_images, "labels": labels},
        {"images": images, "labels": other_labels},
        {"images": images.reshape(20, 2, 8), "labels": labels},
    ]
    sums = [load(archive(tmp_path / f"{i}.npz", **arrays)).checksum for i, arrays in enumerate(sets)]
    assert len(set(sums)) == len(sums)
    assert load(archive(tmp_path / "again.npz", images=images, labels=labels, extra=1)).checksum == sums[1]


IMAGES = random(20, 4, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "has no key images; its keys are pictures"),
        ({"images": IMAGES / 255}, r"images of .* must be uint8 .* got float64 of shape \(20, 4, 4\)"),
        ({"images": IMAGES[0]}, r"images of .* got uint8 of shape \(4, 4\)"),
        ({"images": random(20, 4, 4, 2)}, r"images of .* got uint8 of shape \(20, 4, 4, 2\)"),
        ({"images": random(20, 0, 4)}, r"images of .* got uint8 of shape \(20, 0, 4\)"),
        ({"images": IMAGES[:9]}, "images of .*: only 9; at least 10 are needed"),
        ({"images": np.array([None] * 20)}, "images of .* cannot be read"),
        ({"images": IMAGES, "labels": np.arange(19)}, r"labels of .* must be 20 whole numbers, got int64 of .*\(19,\)"),
        (
            {"images": IMAGES, "labels": np.zeros(0, int)},
            r"labels of .* must be 20 whole numbers, got int64 of .*\(0,\)",
        ),
        ({"images": IMAGES, "labels": np.zeros(20)}, "labels of .* must be 20 whole numbers, got float64"),
        ({"images": IMAGES, "labels": np.array(["a"] * 20)}, "labels of .* must be 20 whole numbers, got <U1"),
        ({"images": IMAGES, "labels": np.arange(20) - 1}, "labels of .* got -1 to 18"),
        ({"images": IMAGES, "labels": np.arange(20) + 1}, "labels of .* got 1 to 20"),
        ({"images": IMAGES, "labels": np.array([None] * 20)}, "labels of .* cannot be read"),
    ],
)
def test_a_wrong_key_is_named(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = archive(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load(config)
    assert config.root in str(error.value)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    config = DataConfig(name="npz", root=str(path))
    with pytest.raises(DataError, match=f"npz: {path} is not a file; set data.root or LINEARIZER_DATA to the .npz"):
        load(config)
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match=f"{path} holds a single array without a key"):
        load(config)
    for content in (b"", b"words", b"PK\3\4 words"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path} cannot be read as a NumPy archive"):
            load(config)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    config = archive(path, images=IMAGES)
    content = bytearray(path.read_bytes())
    content[300] ^= 1  # in the pixels: the archive's own checksum tells
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"npz: images of {path} cannot be read"):
        load(config)


def test_real_images_of_an_archive(data_root: Path) -> None:
    path = data_root / "cifar10-4k.npz"
    if not path.is_file():
        pytest.skip(f"not found: {path}")
    with np.load(path) as file:
        images, labels = file["images"], file["labels"]
    data = load(DataConfig(name="npz", root=str(path)))
    assert [len(part) for part in quanta(data)] == [3200, 400, 400]
    assert (data.event, data.classes) == ((3, 32, 32), 10)
    counts = sum(getattr(data, f"{name}_labels").bincount(minlength=10) for name in SPLITS)
    assert counts.tolist() == np.bincount(labels).tolist()
    totals = sum(part.sum(axis=(0, 2, 3), dtype=np.int64) for part in quanta(data))
    assert totals.tolist() == images.sum(axis=(0, 1, 2), dtype=np.int64).tolist()
    first = shuffle(4000)[800]
    assert np.array_equal(quanta(data)[0][0], images[first].transpose(2, 0, 1))
    assert data.train_labels[0] == labels[first]


BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def cifar10(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """A small CIFAR-10 in its files' form, of 20 images each: its pixels ``(120, 3, 32, 32)`` and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = random(120, 3, 32, 32), np.arange(120) % 10
    for i, name in enumerate([*BATCHES, "test_batch"]):
        part = slice(20 * i, 20 * i + 20)
        batch = {"data": images[part].reshape(20, -1), "labels": labels[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return images, labels


def accept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision take the files as they are now for the official ones."""
    from torchvision.datasets import CIFAR10

    def md5(name: str) -> str:
        return hashlib.md5((root / "cifar-10-batches-py" / name).read_bytes()).hexdigest()

    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(name)] for name in BATCHES])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5("test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5("batches.meta")})


def test_cifar10_is_split_by_the_fixed_shuffle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = cifar10(tmp_path)
    accept(tmp_path, monkeypatch)
    config = DataConfig(name="cifar10", root=str(tmp_path))
    data = load(config)
    order = shuffle(100)
    parts = (order[10:], order[:10], np.arange(100, 120))
    for name, found, part in zip(SPLITS, quanta(data), parts, strict=True):
        assert np.array_equal(found, images[part])
        assert getattr(data, f"{name}_labels").tolist() == labels[part].tolist()
    assert (data.classes, data.levels, data.event) == (10, 256, (3, 32, 32))
    assert [path.name for path in locate(config)] == [*BATCHES, "test_batch", "batches.meta"]


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [*BATCHES, "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_official_one_is_not_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(tmp_path)
    accept(tmp_path, monkeypatch)
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(trap)
    with pytest.raises(DataError, match=f"cifar10: {name} in .* differ from the published files; delete the folder"):
        load(DataConfig(name="cifar10", root=str(tmp_path)))
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists()


def test_missing_batches_are_named(tmp_path: Path) -> None:
    cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"data_batch_3 not found in .*cifar-10-batches-py; unpack cifar-10-python.tar"):
        load(DataConfig(name="cifar10", root=str(tmp_path)))
