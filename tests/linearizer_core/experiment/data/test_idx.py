"""MNIST and Fashion-MNIST against the raw files, numpy and torchvision."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import DataError, ImageData, TensorImages, load, locate
from linearizer_core.experiment.data.idx import read_idx

NAMES = ["mnist", "fashion-mnist"]
FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
TRAIN_LABELS = {"mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], "fashion-mnist": [6000] * 10}
TEST_LABELS = {"mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], "fashion-mnist": [1000] * 10}
MOMENTS = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}
"""Mean and standard deviation of the training pixels in [0, 1], as commonly used to normalise them."""


def content(root: Path, name: str, file: str) -> bytes:
    path = root / name / f"{file}.gz"
    if not path.is_file():
        pytest.skip(f"not found: {path}")
    return gzip.decompress(path.read_bytes())


def raw(root: Path, name: str, file: str) -> np.ndarray:
    offset = 16 if "idx3" in file else 8
    return np.frombuffer(content(root, name, file), dtype=np.uint8, offset=offset)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def data(data_root: Path, name: str) -> ImageData:
    content(data_root, name, FILES[0])
    return load(DataConfig(name=name, root=str(data_root)))  # type: ignore[arg-type]


def quanta(images: torch.Tensor) -> np.ndarray:
    return ((images.double() + 1) * 127.5).round().byte().numpy()


def test_counts_and_form(data: ImageData) -> None:
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.event == data.validation.shape[1:] == data.test.shape[1:] == (1, 32, 32)
    assert (data.classes, data.levels) == (10, 256)
    assert (float(data.test.min()), float(data.test.max())) == (-1, 1)
    assert data.test.dtype == data.validation.dtype == data.train.head(1).dtype == torch.float32


def test_labels_are_distributed_as_published(data: ImageData, name: str) -> None:
    assert (data.train_labels.bincount() + data.validation_labels.bincount()).tolist() == TRAIN_LABELS[name]
    assert data.test_labels.bincount().tolist() == TEST_LABELS[name]


def test_training_pixels_have_the_published_moments(data: ImageData, name: str) -> None:
    assert isinstance(data.train, TensorImages)
    counts = data.train.quanta[:, :, 2:30, 2:30].flatten().bincount(minlength=256)
    counts += torch.from_numpy(quanta(data.validation)[:, :, 2:30, 2:30]).flatten().bincount(minlength=256)
    grey = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / (60_000 * 28 * 28)
    mean = float(share @ grey)
    assert mean == pytest.approx(MOMENTS[name][0], abs=1e-4)
    assert float(share @ (grey - mean).square()) ** 0.5 == pytest.approx(MOMENTS[name][1], abs=1e-4)


def test_the_test_split_is_the_official_one_in_its_order(data: ImageData, name: str, data_root: Path) -> None:
    expected = raw(data_root, name, FILES[2]).reshape(-1, 28, 28)
    assert np.array_equal(quanta(data.test)[:, 0, 2:30, 2:30], expected)
    assert np.array_equal(data.test_labels.numpy(), raw(data_root, name, FILES[3]))


def test_training_and_validation_are_the_official_training_images_shuffled(
    data: ImageData, name: str, data_root: Path
) -> None:
    images, labels = raw(data_root, name, FILES[0]).reshape(-1, 28, 28), raw(data_root, name, FILES[1])
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(20250101)).numpy()
    assert isinstance(data.train, TensorImages)
    assert np.array_equal(data.train.quanta[:, 0, 2:30, 2:30].numpy(), images[order[5_000:]])
    assert np.array_equal(data.train_labels.numpy(), labels[order[5_000:]])
    assert np.array_equal(quanta(data.validation)[:, 0, 2:30, 2:30], images[order[:5_000]])
    assert np.array_equal(data.validation_labels.numpy(), labels[order[:5_000]])


def test_batches_are_the_images_scaled(data: ImageData) -> None:
    assert isinstance(data.train, TensorImages)
    index = torch.tensor([54_999, 0, 7])
    assert np.array_equal(quanta(data.train.batch(index)), data.train.quanta[index].numpy())


def test_the_border_is_black(data: ImageData) -> None:
    images = data.validation.clone()
    images[:, :, 2:30, 2:30] = -1
    assert bool((images == -1).all())


def test_size_28_is_without_the_border(data: ImageData, name: str, data_root: Path) -> None:
    small = load(DataConfig(name=name, root=str(data_root), size=28, images=10))  # type: ignore[arg-type]
    assert small.event == (1, 28, 28)
    assert torch.equal(small.train.head(10), data.train.head(10)[:, :, 2:30, 2:30])
    assert torch.equal(small.test, data.test[:, :, 2:30, 2:30])


def test_unpacked_files_in_torchvisions_layout_are_what_torchvision_reads(
    data: ImageData, name: str, data_root: Path, tmp_path: Path
) -> None:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    folder = tmp_path / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    for file in FILES:
        (folder / file).write_bytes(content(data_root, name, file))
    config = DataConfig(name=name, root=str(tmp_path))  # type: ignore[arg-type]
    assert locate(config) == [folder / file for file in FILES]
    assert load(config).checksum == data.checksum
    theirs = kind(tmp_path, train=False, download=False)
    assert np.array_equal(quanta(data.test)[:, 0, 2:30, 2:30], theirs.data.numpy())
    assert torch.equal(data.test_labels, theirs.targets)


@pytest.mark.parametrize("file", FILES)
def test_a_changed_byte_is_refused(file: str, data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for other in FILES:
        content(data_root, "mnist", other)
        (folder / f"{other}.gz").symlink_to(data_root / "mnist" / f"{other}.gz")
    changed = bytearray(content(data_root, "mnist", file))
    changed[-1000] ^= 1
    (folder / f"{file}.gz").unlink()
    (folder / file).write_bytes(changed)
    with pytest.raises(DataError, match=f"{folder / file} is damaged or not the official file"):
        load(DataConfig(name="mnist", root=str(tmp_path)))


def test_a_truncated_file_is_refused(data_root: Path, tmp_path: Path) -> None:
    content(data_root, "mnist", FILES[3])
    path = tmp_path / f"{FILES[3]}.gz"
    path.write_bytes((data_root / "mnist" / path.name).read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{path} cannot be unpacked"):
        read_idx(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "FashionMNIST" / "raw" / FILES[0]).touch()
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "fashion-mnist" / f"{FILES[2]}.gz").touch()
    with pytest.raises(DataError) as error:
        locate(DataConfig(name="fashion-mnist", root=str(tmp_path)))
    message = str(error.value)
    assert f"{FILES[1]}, {FILES[3]} (or .gz) not found in {tmp_path / 'fashion-mnist'} or" in message
    assert str(tmp_path / "FashionMNIST" / "raw") in message
    assert "data.download" in message
    assert "LINEARIZER_DATA" in message


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("shape", [(5,), (3, 300), (2, 3, 4)])
@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read_back(shape: tuple[int, ...], packed: bool, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    assert np.array_equal(read_idx(path), array)


GOOD = idx_bytes(np.zeros((2, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"", "is not an idx file of unsigned bytes"),
        (GOOD[:3], "is not an idx file of unsigned bytes"),
        (GOOD[:9], "is not an idx file of unsigned bytes"),
        (b"\0\0\x0d" + GOOD[3:], "is not an idx file of unsigned bytes"),
        (b"\1" + GOOD[1:], "is not an idx file of unsigned bytes"),
        (GOOD[:-1], "has 17 bytes, which do not match its shape 2×3"),
        (GOOD + b"\0", "has 19 bytes, which do not match its shape 2×3"),
    ],
)
def test_a_malformed_idx_file_is_refused(broken: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(broken)
    with pytest.raises(DataError, match=f"{path} {message}"):
        read_idx(path)


def test_another_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match=f"{path} is damaged or not the official file"):
        read_idx(path, "0" * 64)
