"""The digits against scikit-learn's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from linearizer_core.data import ImageData, load

SPLITS = ["train", "validation", "test"]


def rows(images: torch.Tensor, labels: torch.Tensor) -> Counter[bytes]:
    """How often each image with its label occurs."""
    pixels = (images.flatten(1) * 8 + 8).numpy().astype(np.uint8)
    return Counter(p.tobytes() + bytes([y]) for p, y in zip(pixels, labels.tolist(), strict=True))


def split_rows(digits: ImageData) -> list[Counter[bytes]]:
    return [rows(getattr(digits, name), getattr(digits, f"{name}_labels")) for name in SPLITS]


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


def test_form(digits: ImageData) -> None:
    assert digits.name == "digits"
    assert digits.event == (1, 8, 8)
    for name in SPLITS:
        images, labels = getattr(digits, name), getattr(digits, f"{name}_labels")
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


def test_unknown_data_set() -> None:
    with pytest.raises(ValueError, match="unknown data set 'cifar10': only digits is known"):
        load("cifar10")
