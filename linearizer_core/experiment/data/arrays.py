"""Data sets that are arrays: digits, MNIST, Fashion-MNIST, CIFAR-10 and NumPy archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from linearizer_core.experiment.data import idx
from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.data.order import Splits, split, split_before_test, split_tenths

CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


@dataclass(frozen=True)
class Arrays:
    """A whole data set: ``quanta`` ``(count, *event)`` uint8 below ``levels``, ``labels`` ``(count,)`` int64.

    ``notes`` say which parts of the file were not used, and why.

    The functions below take ``which``, the number of the shuffle that decides the splits; 0 is the fixed one.
    """

    quanta: Tensor
    labels: Tensor
    classes: int
    levels: int
    splits: Splits
    notes: tuple[str, ...] = ()


def digits(which: int = 0) -> Arrays:
    """The 1,797 handwritten 8×8 digits that scikit-learn ships (Alpaydin & Kaynak, 1998); 60 / 20 / 20 %."""
    from sklearn.datasets import load_digits

    source = load_digits()
    quanta = torch.from_numpy(np.asarray(source.images, dtype=np.uint8))[:, None]
    labels = torch.from_numpy(np.asarray(source.target, dtype=np.int64))
    return Arrays(quanta, labels, 10, 17, split(len(quanta), len(quanta) // 5, which))


def mnist(root: Path, size: int, which: int = 0) -> Arrays:
    """MNIST (LeCun et al., 1998): 55,000 / 5,000 images, and the official test set of 10,000.

    Padded with black from 28×28 to 32×32, unless ``size`` is 28.
    """
    return _padded(root, "mnist", size, which)


def fashion_mnist(root: Path, size: int, which: int = 0) -> Arrays:
    """Fashion-MNIST (Xiao et al., 2017), split and padded like ``mnist``."""
    return _padded(root, "fashion-mnist", size, which)


def _padded(root: Path, name: str, size: int, which: int) -> Arrays:
    quanta, labels = idx.read(root, name)
    if size != 28:
        quanta = pad(quanta, (2, 2, 2, 2))
    return Arrays(quanta, labels, 10, 256, split_before_test(60_000, 5_000, 10_000, which))


def find_cifar10(root: Path) -> list[Path]:
    """The files of CIFAR-10 in torchvision's layout; raises ``DataError`` naming those that are missing."""
    paths = [root / CIFAR10_FOLDER / file for file in CIFAR10_FILES]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"cifar10: {', '.join(missing)} not found in {root / CIFAR10_FOLDER}; unpack cifar-10-python.tar.gz in "
            f"{root}, set data.download to fetch it, or set data.root or LINEARIZER_DATA to the folder above"
        )
    return paths


def cifar10(root: Path, which: int = 0) -> Arrays:
    """CIFAR-10 (Krizhevsky, 2009): nine and one tenths of the official training images, and the official test set.

    The files are pickles, which can run arbitrary code when loaded. They are loaded only after torchvision has verified
    the official checksums. Raises ``DataError`` naming files that are missing or damaged.
    """
    find_cifar10(root)
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    official = [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]
    damaged = [file for file, md5 in official if not check_integrity(root / CIFAR10_FOLDER / file, md5)]
    if damaged:
        raise DataError(
            f"cifar10: {', '.join(damaged)} in {root / CIFAR10_FOLDER} differ from the published files; delete the "
            f"folder and fetch it again"
        )
    parts = [CIFAR10(root, train=train) for train in (True, False)]
    quanta = torch.from_numpy(np.concatenate([part.data for part in parts])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([label for part in parts for label in part.targets])
    count, tests = (len(part.targets) for part in parts)
    return Arrays(quanta, labels, 10, 256, split_before_test(count, count // 10, tests, which))


def find_archive(path: Path) -> Path:
    """The file of an npz data set; raises ``DataError`` if it is not a file."""
    if not path.is_file():
        raise DataError(f"npz: {path} is not a file; set data.root or LINEARIZER_DATA to the .npz file")
    return path


def archive(path: Path, which: int = 0) -> Arrays:
    """A NumPy archive: ``images`` uint8, ``(n, h, w)`` or with 1 or 3 channels last or first, and optional ``labels``.

    If either axis could be the channels, the last one is. ``labels`` ``(n,)`` are whole numbers from 0; if all are
    equal, they count as no labels. Split 80 / 10 / 10 % by the fixed shuffle. Raises ``DataError`` naming the key that
    is missing or wrong.
    """
    find_archive(path)
    with path.open("rb") as opened:
        start = opened.read(6)
    if not start.startswith((b"PK", b"\x93NUMPY")):  # numpy would take it for a pickle and advise to trust it
        raise DataError(f"npz: {path} cannot be read as a NumPy archive: it is not a zip file")
    try:
        file = np.load(path, allow_pickle=False)
    except Exception as error:  # many types: a garbled header is parsed as Python literals
        raise DataError(f"npz: {path} cannot be read as a NumPy archive: {error}") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise DataError(f"npz: {path} holds a single array without a key; save it with numpy.savez(path, images=…)")
    with file:
        if "images" not in file:
            raise DataError(f"npz: {path} has no key images; its keys are {', '.join(file) or 'none'}")
        images = _array(file, "images", path)
        labels = _array(file, "labels", path) if "labels" in file else None
        others = [key for key in file if key not in ("images", "labels")]
    notes = [f"left out: the arrays {', '.join(others)}; only images and labels are read"] if others else []
    return of_images(images, labels, "npz", str(path), tuple(notes), which)


def of_images(
    images: np.ndarray, labels: np.ndarray | None, name: str, source: str, notes: tuple[str, ...] = (), which: int = 0
) -> Arrays:
    """Images and labels in the formats of ``archive``; raises ``DataError`` naming the data set, source and array."""
    quanta = _channels_first(images, name, source)
    splits = split_tenths(len(quanta), f"{name}: images of {source}", which)
    if labels is None:
        return Arrays(quanta, torch.zeros(len(quanta), dtype=torch.int64), 0, 256, splits, notes)
    if labels.shape != (len(quanta),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name}: labels of {source} must be {len(quanta)} whole numbers, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= len(quanta):
        raise DataError(
            f"{name}: labels of {source} must number the classes from 0, with fewer classes than images, "
            f"got {labels.min()} to {labels.max()}"
        )
    if labels.min() == labels.max():
        note = f"labels are all {labels.min()}; they are ignored, since they distinguish nothing"
        return Arrays(quanta, torch.zeros(len(quanta), dtype=torch.int64), 0, 256, splits, (*notes, note))
    kinds = int(labels.max()) + 1
    empty = sorted(set(range(kinds)) - set(labels.tolist()))
    if empty:
        shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        notes += (
            f"labels go up to {kinds - 1}, but no image has {shown}: {kinds} classes, {len(empty)} of them empty",
        )
    return Arrays(quanta, torch.from_numpy(labels.astype(np.int64)), kinds, 256, splits, notes)


def _array(file: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        array = file[key]
    except Exception as error:  # as above
        reason = str(error).strip() or type(error).__name__
        raise DataError(f"npz: {key} of {path} cannot be read: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"npz: {key} of {path} is not an array; save it with numpy.savez(path, {key}=…)")
    return array


def _channels_first(images: np.ndarray, name: str, source: str) -> Tensor:
    if images.dtype == np.uint8 and images.size:
        if images.ndim == 3:
            return torch.from_numpy(images)[:, None]
        if images.ndim == 4 and images.shape[3] in (1, 3):
            return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        if images.ndim == 4 and images.shape[1] in (1, 3):
            return torch.from_numpy(images)
    raise DataError(
        f"{name}: images of {source} must be uint8 of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with c = 1 or 3, "
        f"got {images.dtype} of shape {images.shape}"
    )
