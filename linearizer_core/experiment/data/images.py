"""Training images: the whole set as one tensor, or decoded from files during training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from linearizer_core.experiment.data.pictures import decode


def scaled(quanta: Tensor, levels: int) -> Tensor:
    """2 q / (levels - 1) - 1 in float32: maps uint8 quanta 0 … levels - 1 to [-1, 1], identically on every device."""
    # The divisor is a tensor: CUDA replaces division by a Python number with a product, which rounds differently.
    divisor = torch.full((), levels - 1, dtype=torch.float32, device=quanta.device)
    return quanta.float().mul_(2).div_(divisor).sub_(1)


class Images(ABC):
    """A training split of images of one shape, returned as float32 in [-1, 1], ``(batch, *event)``."""

    @property
    @abstractmethod
    def event(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def batch(self, index: Tensor) -> Tensor:
        """The images at ``index`` ``(batch,)`` int64, on the images' device; ``index`` may be on any device."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same images, returned on another device."""

    def batches(self, order: Tensor, size: int) -> Iterator[Tensor]:
        """The images at ``order`` in batches of ``size``; an incomplete last batch is dropped."""
        for index in _full(order, size):
            yield self.batch(index)

    def head(self, count: int) -> Tensor:
        """The first ``count`` images, or all if there are fewer."""
        return self.batch(torch.arange(min(count, len(self))))


class TensorImages(Images):
    """The whole set on the device as ``quanta`` ``(count, *event)`` uint8 with ``levels`` grey levels."""

    def __init__(self, quanta: Tensor, levels: int) -> None:
        self.quanta = quanta
        self.levels = levels

    @property
    def event(self) -> tuple[int, int, int]:
        channels, height, width = self.quanta.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.quanta)

    def batch(self, index: Tensor) -> Tensor:
        return scaled(self.quanta[index.to(self.quanta.device)], self.levels)

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.quanta.to(device), self.levels)


class StreamedImages(Images):
    """Image files decoded by ``threads`` threads; ``batches`` decodes up to ``ahead`` batches in advance.

    ``decode`` turns each file into ``(channels, size, size)``. At most ``ahead + 1`` batches are in memory at a time. A
    file that cannot be read raises ``DataError`` when its batch is returned.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        *,
        channels: int = 3,
        crop: int = 0,
        device: torch.device | str = "cpu",
        threads: int = 4,
        ahead: int = 4,
    ) -> None:
        self.paths = paths
        self.size = size
        self.channels = channels
        self.crop = crop
        self.device = torch.device(device)
        self.threads = threads
        self.ahead = ahead

    @property
    def event(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, index: Tensor) -> Tensor:
        with ThreadPoolExecutor(self.threads) as pool:
            return self._finish(*self._start(pool, index))

    def to(self, device: torch.device | str) -> Self:
        return type(self)(
            self.paths,
            self.size,
            channels=self.channels,
            crop=self.crop,
            device=device,
            threads=self.threads,
            ahead=self.ahead,
        )

    def batches(self, order: Tensor, size: int) -> Iterator[Tensor]:
        pool = ThreadPoolExecutor(self.threads)
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for index in _full(order.cpu(), size):
                waiting.append(self._start(pool, index))
                if len(waiting) > self.ahead:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _start(self, pool: ThreadPoolExecutor, index: Tensor) -> tuple[Tensor, list[Future[None]]]:
        """The batch's tensor, and futures that are done when all of it is decoded."""
        quanta = torch.empty(len(index), *self.event, dtype=torch.uint8, pin_memory=self.device.type == "cuda")

        def fill(row: int, path: Path) -> None:
            quanta[row] = decode(path, self.size, self.channels, self.crop)

        return quanta, [pool.submit(fill, row, self.paths[i]) for row, i in enumerate(index.tolist())]

    def _finish(self, quanta: Tensor, decoded: list[Future[None]]) -> Tensor:
        for image in decoded:
            image.result()
        return scaled(quanta.to(self.device, non_blocking=True), 256)


def _full(order: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]
