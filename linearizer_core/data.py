"""Named image sets as tensors with fixed splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SPLIT_SEED = 20250101
"""Fixes which image is in which split, for every sweep ever run."""


@dataclass(frozen=True)
class ImageData:
    """Images scaled to [-1, 1], ``(count, channels, height, width)`` float32, with labels ``(count,)`` int64.

    ``checksum`` is the SHA-256 of all splits' images and labels.
    """

    name: str
    train: Tensor
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int
    checksum: str

    @property
    def event(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width


@lru_cache(maxsize=2)
def load(name: str) -> ImageData:
    """The named data set, on the CPU; raises ``ValueError`` for a name that is not known.

    ``digits``: the 1,797 handwritten 8×8 digits that scikit-learn ships (Alpaydin & Kaynak, 1998), 60 % train,
    20 % validation, 20 % test, by a fixed shuffle.
    """
    if name != "digits":
        raise ValueError(f"unknown data set {name!r}: only digits is known")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(np.asarray(digits.images, dtype=np.float32))[:, None] / 8 - 1
    labels = torch.from_numpy(np.asarray(digits.target, dtype=np.int64))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    images, labels = images[order], labels[order]
    held_out = len(images) // 5
    checksum = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return ImageData(
        name=name,
        train=images[2 * held_out :],
        train_labels=labels[2 * held_out :],
        validation=images[:held_out],
        validation_labels=labels[:held_out],
        test=images[held_out : 2 * held_out],
        test_labels=labels[held_out : 2 * held_out],
        classes=10,
        checksum=checksum,
    )
