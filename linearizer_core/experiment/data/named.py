"""The data sets by name."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linearizer_core.bucket import address, is_address, local_path
from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import idx
from linearizer_core.experiment.data.arrays import (
    Arrays,
    archive,
    cifar10,
    digits,
    fashion_mnist,
    find_archive,
    find_cifar10,
    mnist,
    of_images,
)
from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.data.fetched import fetched
from linearizer_core.experiment.data.folders import Listing, celeba, find_celeba, find_folder, folder
from linearizer_core.experiment.data.images import Images, StreamedImages, TensorImages, scaled
from linearizer_core.experiment.data.order import Splits
from linearizer_core.experiment.data.pictures import decode_all, resized
from linearizer_core.plugins.errors import told
from linearizer_core.plugins.marks import Registration, data_set, table

IN_MEMORY = 2 * 2**30
"""Largest size in bytes of decoded training images for which a set of files is held as one tensor."""

PUBLISHED = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "celeba": "CelebA"}
"""Data sets that torchvision downloads, with its names for them."""

BUILT_IN = table(
    data_set("digits")(digits),
    data_set("mnist", find=lambda root: idx.find(root, "mnist"))(mnist),
    data_set("fashion-mnist", find=lambda root: idx.find(root, "fashion-mnist"))(fashion_mnist),
    data_set("cifar10", find=find_cifar10)(cifar10),
    data_set("npz", find=lambda root: [find_archive(root)])(lambda root, which: archive(root, which)),
    data_set("celeba", find=find_celeba)(celeba),
    data_set("folder", find=lambda root: [find_folder(root)])(folder),
)
"""The built-in data sets."""


@dataclass(frozen=True)
class ImageData:
    """A data set: training images, held-out images ``(count, *event)`` float32 in [-1, 1], labels ``(count,)`` int64.

    ``validation`` and ``test`` have at most 10,000 images each. Without labels, ``classes`` is 0 and the labels are
    zeros. ``levels`` is the number of grey levels. ``checksum`` is a SHA-256 that changes with any image, label or
    split: of all images and labels or, if training images are decoded during training, of the files' names and sizes,
    the splits and labels, and the configuration. ``notes`` say, with counts, which files were left out or used in a way
    one might not expect; ``linsweep plan`` prints them.
    """

    name: str
    train: Images
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int
    levels: int
    checksum: str
    notes: tuple[str, ...] = ()

    @property
    def event(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.train.event


def load(config: DataConfig, *, in_memory: int = IN_MEMORY) -> ImageData:
    """Load a data set onto the CPU with the function of its name in ``arrays`` or ``folders``; the last two are cached.

    Images with another side than ``data.size`` are cropped to the largest centred square and resized, with 256 grey
    levels. If the decoded training images of ``celeba`` or ``folder`` take more than ``in_memory`` bytes, they are
    decoded during training. Raises ``DataError`` saying what is missing or wrong, or if the training split has fewer
    than ``data.images`` images.
    """
    if config.download:
        _fetch(config)
    root = root_of(config)
    return _load(dataclasses.replace(config, root=str(root), download=False), in_memory, _stamp(root))


def locate(config: DataConfig) -> list[Path]:
    """The files or the folder that ``load`` would read, without opening them; none for ``digits``.

    Raises ``DataError`` naming what is missing, whether or not it can be downloaded.
    """
    find = _registered(config).options["find"]
    return list(find(root_of(config))) if find is not None else []


def _registered(config: DataConfig) -> Registration:
    """The registration of the data set's name; raises ``DataError`` for an unknown name."""
    known = {**BUILT_IN, **config.plugged.get("data set", {})}
    if config.name not in known:
        raise DataError(f"unknown data set {config.name!r}")
    return known[config.name]


def root_of(config: DataConfig) -> Path:
    """The absolute path of where a data set is looked for; of one in a bucket, that of its copy on this machine.

    Raises ``DataError`` as ``place_of`` does, and where a bucket cannot be read.
    """
    place = place_of(config)
    return fetched(place) if is_address(place) else Path(place)


def place_of(config: DataConfig) -> str:
    """Where a data set is: the absolute path, or the address in a bucket, of ``data.root``, else $LINEARIZER_DATA,
    else ./data.

    Raises ``DataError`` where it is in the home folder of nobody, and for an address that is none.
    """
    root = local_path(config.root or os.environ.get("LINEARIZER_DATA", "") or "data")
    if "\0" in root:
        raise DataError(f"{root!r}: not a valid path: it contains a NUL character")
    try:
        return address(root) if is_address(root) else str(Path(root).expanduser().absolute())
    except ValueError as error:
        raise DataError(str(error)) from None
    except RuntimeError:
        raise DataError(f"{root}: no home folder is known for {root.partition('/')[0]}") from None


def _fetch(config: DataConfig) -> None:
    """Download missing files through torchvision."""
    if config.name not in PUBLISHED or is_address(place_of(config)):
        return
    try:
        locate(config)
    except DataError as missing:
        import torchvision.datasets

        try:
            getattr(torchvision.datasets, PUBLISHED[config.name])(root_of(config), download=True)
        except (OSError, RuntimeError, ImportError) as error:
            raise DataError(f"{missing}; the download failed: {error}") from error


def _stamp(root: Path) -> tuple[int, int] | None:
    """Size and modification time, which reveal that a file or folder was replaced; None if it does not exist."""
    try:
        status = root.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _load(config: DataConfig, in_memory: int, _stamp: tuple[int, int] | None) -> ImageData:
    registered = _registered(config)
    with told(frozenset({registered.file})):
        found = registered.call(config, root=Path(config.root), size=config.size, which=config.split)
        if not isinstance(found, Arrays | Listing):
            found = _of_plugin(found, registered, config.split)
    return _of_files(config, found, in_memory) if isinstance(found, Listing) else _of_arrays(config, found)


def _of_plugin(found: object, registered: Registration, which: int) -> Arrays:
    """The data set that a plugin returned; raises ``DataError`` if it is not images."""
    images, labels = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    arrays: list[Any] = [each.numpy() if isinstance(each, Tensor) else each for each in (images, labels)]
    for what, array in zip(("images", "labels"), arrays, strict=True):
        if not isinstance(array, np.ndarray) and not (what == "labels" and array is None):
            raise DataError(
                f"{registered.name}: {registered.where} must return images, or (images, labels), as arrays or tensors, "
                f"got {type(array).__name__} for {what}"
            )
    return of_images(arrays[0], arrays[1], registered.name, registered.where, which=which)


def _of_arrays(config: DataConfig, arrays: Arrays) -> ImageData:
    levels, splits = arrays.levels, _limited(config, arrays.splits)
    parts = {name: arrays.quanta[index] for name, index in vars(splits).items()}
    if config.size and arrays.quanta.shape[2:] != (config.size, config.size):
        if levels < 256:  # resizing makes values between the few grey levels
            spread = (torch.arange(levels) * 255 / (levels - 1)).round().byte()
            parts = {name: spread[quanta.int()] for name, quanta in parts.items()}
        parts, levels = {name: resized(quanta, config.size) for name, quanta in parts.items()}, 256
    labels = {name: arrays.labels[index] for name, index in vars(splits).items()}
    made = _of_tensors(config.name, parts, labels, arrays.classes, levels)
    return dataclasses.replace(made, notes=arrays.notes)


def _of_files(config: DataConfig, listing: Listing, in_memory: int) -> ImageData:
    size, channels, crop = config.size or 64, listing.channels, listing.crop
    splits = _limited(config, listing.splits)
    paths = {name: [listing.folder / listing.names[i] for i in index.tolist()] for name, index in vars(splits).items()}
    labels = {name: listing.labels[index] for name, index in vars(splits).items()}
    if len(paths["train"]) * channels * size**2 <= in_memory:
        parts = {name: decode_all(files, size, channels, crop) for name, files in paths.items()}
        made = _of_tensors(config.name, parts, labels, listing.classes, 256)
        return dataclasses.replace(made, notes=listing.notes)
    digest = hashlib.sha256(f"{config.name} {channels} {size} {crop}".encode())
    for name, index in vars(splits).items():
        for i, path, label in zip(index.tolist(), paths[name], labels[name].tolist(), strict=True):
            digest.update(f"{name} {listing.names[i]!r} {path.stat().st_size} {label}\n".encode())
    held_out = {name: decode_all(paths[name], size, channels, crop) for name in ("validation", "test")}
    train = StreamedImages(paths["train"], size, channels=channels, crop=crop)
    made = _image_data(config.name, train, held_out, labels, listing.classes, 256, digest.hexdigest())
    return dataclasses.replace(made, notes=listing.notes)


def _of_tensors(name: str, parts: dict[str, Tensor], labels: dict[str, Tensor], classes: int, levels: int) -> ImageData:
    digest = hashlib.sha256(f"{levels} {classes}".encode())
    for part, quanta in parts.items():
        digest.update(f"{part} {tuple(quanta.shape)}".encode())
        digest.update(quanta.contiguous().numpy().data)
        digest.update(labels[part].numpy().data)
    return _image_data(name, TensorImages(parts["train"], levels), parts, labels, classes, levels, digest.hexdigest())


def _image_data(
    name: str,
    train: Images,
    held_out: dict[str, Tensor],
    labels: dict[str, Tensor],
    classes: int,
    levels: int,
    checksum: str,
) -> ImageData:
    return ImageData(
        name=name,
        train=train,
        train_labels=labels["train"],
        validation=scaled(held_out["validation"], levels),
        validation_labels=labels["validation"],
        test=scaled(held_out["test"], levels),
        test_labels=labels["test"],
        classes=classes,
        levels=levels,
        checksum=checksum,
    )


def _limited(config: DataConfig, splits: Splits) -> Splits:
    """The splits with only the first ``data.images`` training images."""
    if config.images > len(splits.train):
        raise DataError(
            f"data.images = {config.images} exceeds the {len(splits.train)} training images of {config.name}"
        )
    return dataclasses.replace(splits, train=splits.train[: config.images or None])
