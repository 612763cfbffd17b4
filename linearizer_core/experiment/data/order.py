"""The split of each image, and the order in which an epoch visits the training images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.experiment.data.errors import DataError

SPLIT_SEED = 20250101
"""Fixes the split of each image, for every sweep that does not ask for another split."""

HELD_OUT_MOST = 10_000
"""Maximum number of images kept of a validation or test split."""


@dataclass(frozen=True)
class Splits:
    """Indices ``(count,)`` int64 of each split's images."""

    train: Tensor
    validation: Tensor
    test: Tensor

    def bounded(self) -> Splits:
        """The same splits with at most 10,000 validation and 10,000 test images."""
        return Splits(self.train, self.validation[:HELD_OUT_MOST], self.test[:HELD_OUT_MOST])


def shuffled(count: int, which: int = 0) -> Tensor:
    """The fixed shuffle of ``count`` images, or another one chosen by its number."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED + which))


def split(count: int, held_out: int, which: int = 0) -> Splits:
    """``held_out`` images of the fixed shuffle for validation, as many for the test, and the rest for training."""
    order = shuffled(count, which)
    return Splits(order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out]).bounded()


def split_tenths(count: int, what: str, which: int = 0) -> Splits:
    """80 / 10 / 10 %; raises ``DataError`` naming ``what`` if this would leave a split empty."""
    if count < 10:
        raise DataError(f"{what}: only {count}; at least 10 are needed for three splits")
    return split(count, count // 10, which)


def split_before_test(count: int, validation: int, tests: int, which: int = 0) -> Splits:
    """``validation`` of the first ``count`` images, by the fixed shuffle, and the ``tests`` after them unchanged."""
    order = shuffled(count, which)
    return Splits(order[validation:], order[:validation], torch.arange(count, count + tests))


def epoch_order(count: int, seed: int, epoch: int, rank: int = 0, workers: int = 1) -> Tensor:
    """The images that one of several workers visits in an epoch, as int64 indices on the CPU.

    ``(seed, epoch)`` fixes a permutation of ``count``, of which worker ``rank`` takes every ``workers``-th element,
    starting at its own rank. Together, the workers' i-th batches are the i-th batch of a single worker with batches
    that many times larger. Every worker has ``count // workers`` images; the remainder is dropped. Raises
    ``ValueError`` for a rank outside 0 … workers - 1.
    """
    if not 0 <= rank < workers:
        raise ValueError(f"rank {rank} is not one of {workers} workers")
    # Hashed, so that neighbouring seeds and epochs share nothing.
    digest = hashlib.sha256(f"order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    order = torch.randperm(count, generator=generator)
    return order[: count - count % workers][rank::workers]
