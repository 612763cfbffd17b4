"""What a training step draws, and knows of the whole batch: the same however many workers share it."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.experiment.workers import ALONE, Workers


class Draws:
    """Random numbers for the rows that this worker has of a batch.

    They are drawn for the whole batch, of which every worker has equally many rows, on the generator's device, which
    must be that of the rows: workers with generators in the same state draw together what one alone would.
    """

    def __init__(self, generator: torch.Generator, workers: Workers = ALONE) -> None:
        self._generator = generator
        self.workers = workers
        self.waited = False
        """Whether the workers have waited for each other, as ``everyones`` does."""
        self.groups: Tensor | None = None
        """The label or cluster of each of this worker's rows, ``(rows,)``, where the model is told them."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers, shaped as ``like``, whose first dimension is this worker's rows."""
        drawn = torch.randn(self._shape(like), generator=self._generator, device=like.device, dtype=like.dtype)
        return self.workers.rows(drawn)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers uniform on [0, 1), shaped as ``like``, whose first dimension is this worker's rows."""
        drawn = torch.rand(self._shape(like), generator=self._generator, device=like.device, dtype=like.dtype)
        return self.workers.rows(drawn)

    def permutation(self, rows: Tensor) -> Tensor:
        """A permutation of the whole batch, of which this worker has ``rows``: all its indices, ``(batch,)``."""
        return torch.randperm(self.workers.count * len(rows), generator=self._generator, device=rows.device)

    def everyones(self, rows: Tensor) -> Tensor:
        """All rows of the batch, of which this worker's come first and alone have gradients; waits for the others."""
        self.waited = True
        if self.workers.count == 1:
            return rows
        whole = self.workers.whole(rows)
        others = torch.arange(len(whole), device=rows.device) % self.workers.count != self.workers.rank
        return torch.cat([rows, whole[others]])

    def _shape(self, like: Tensor) -> tuple[int, ...]:
        return self.workers.count * len(like), *like.shape[1:]
