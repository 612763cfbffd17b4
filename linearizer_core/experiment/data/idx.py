"""MNIST and Fashion-MNIST from their four idx files."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linearizer_core.experiment.data.errors import DataError

SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
"""SHA-256 of the official files' unpacked contents."""

FOLDERS = {"mnist": ("mnist", "MNIST/raw"), "fashion-mnist": ("fashion-mnist", "FashionMNIST/raw")}
"""Folders searched for the files: one with the data set's name, and torchvision's."""


def find(root: Path, name: str) -> list[Path]:
    """The four files of a data set, gzipped or not, in the order of ``SHA256``.

    Raises ``DataError`` naming those that are missing.
    """
    folders = [root / folder for folder in FOLDERS[name]]
    places = {
        file: [path for folder in folders for path in (folder / file, folder / f"{file}.gz") if path.is_file()]
        for file in SHA256[name]
    }
    missing = [file for file, found in places.items() if not found]
    if missing:
        raise DataError(
            f"{name}: {', '.join(missing)} (or .gz) not found in {folders[0]} or {folders[1]}; put the files there, "
            f"set data.download to fetch them, or set data.root or LINEARIZER_DATA to the folder above"
        )
    return [found[0] for found in places.values()]


def read(root: Path, name: str) -> tuple[Tensor, Tensor]:
    """All images of a data set ``(70000, 1, 28, 28)`` uint8 and their labels int64; the 10,000 test images come last.

    Raises ``DataError`` naming a file that is missing or differs from the official one.
    """
    arrays = [
        torch.from_numpy(read_idx(path, sha256).copy())
        for path, sha256 in zip(find(root, name), SHA256[name].values(), strict=True)
    ]
    images, labels, test_images, test_labels = arrays
    return torch.cat([images, test_images])[:, None], torch.cat([labels, test_labels]).long()


def read_idx(path: Path, sha256: str = "") -> np.ndarray:
    """The array of unsigned bytes in an idx file, gzipped or not.

    Raises ``DataError`` if the file is incomplete, or the SHA-256 of its contents is not the given one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}; delete it and fetch it again") from error
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} is damaged or not the official file; delete it and fetch it again")
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension as a big-endian 32-bit number.
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an idx file of unsigned bytes")
    shape = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
    if len(content) != 4 + 4 * len(shape) + math.prod(shape):
        raise DataError(f"{path} has {len(content)} bytes, which do not match its shape {'×'.join(map(str, shape))}")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
