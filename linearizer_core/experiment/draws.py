"""Random draws of a training step, and quantities of the whole batch: the same however many workers share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from linearizer_core.experiment.workers import ALONE, Workers


@dataclass(frozen=True)
class Request:
    """A request for standard normal numbers, uniform ones on [0, 1), or a permutation of ``shape[0]`` indices."""

    kind: Literal["normal", "uniform", "permutation"]
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def fill(self, into: Tensor, generator: torch.Generator) -> Tensor:
        """Draw into a tensor of this shape."""
        if self.kind == "normal":
            return into.normal_(generator=generator)
        if self.kind == "uniform":
            return into.uniform_(generator=generator)
        return torch.randperm(len(into), generator=generator, out=into)

    def empty(self, *several: int) -> Tensor:
        """A tensor to draw into, with leading dimensions for several draws."""
        return torch.empty(*several, *self.shape, dtype=self.dtype, device=self.device)


class Draws:
    """Random numbers for this worker's rows of a batch.

    They are drawn for the whole batch, of which every worker has equally many rows, on the generator's device, which
    must be that of the rows: workers with generators in the same state together draw what a single worker would.
    """

    def __init__(self, generator: torch.Generator, workers: Workers = ALONE) -> None:
        self.generator = generator
        self.workers = workers
        self.waited = False
        """Whether the workers have waited for each other, as in ``everyones``."""
        self.groups: Tensor | None = None
        """The label or cluster of each of this worker's rows, ``(rows,)``, if the model is conditioned on them."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape of ``like``, whose first dimension is this worker's rows."""
        return self.workers.rows(self.draw(Request("normal", self._shape(like), like.dtype, like.device)))

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers on [0, 1) of the shape of ``like``, whose first dimension is this worker's rows."""
        return self.workers.rows(self.draw(Request("uniform", self._shape(like), like.dtype, like.device)))

    def permutation(self, rows: Tensor) -> Tensor:
        """A permutation of all indices of the whole batch, ``(batch,)``; ``rows`` are this worker's part of it."""
        return self.draw(Request("permutation", self._shape(rows)[:1], torch.int64, rows.device))

    def draw(self, request: Request) -> Tensor:
        """Draw what is requested, for the whole batch."""
        return request.fill(request.empty(), self.generator)

    def everyones(self, rows: Tensor) -> Tensor:
        """All rows of the batch, this worker's first; only these have gradients. Waits for the other workers."""
        self.waited = True
        if self.workers.count == 1:
            return rows
        whole = self.workers.whole(rows)
        others = torch.arange(len(whole), device=rows.device) % self.workers.count != self.workers.rank
        return torch.cat([rows, whole[others]])

    def _shape(self, like: Tensor) -> tuple[int, ...]:
        return self.workers.count * len(like), *like.shape[1:]


def dequantised(images: Tensor, deviation: float, dtype: torch.dtype, draws: Draws) -> Tensor:
    """Images with added noise of a given deviation, without which a flow could put unbounded density on grey levels."""
    images = images.to(dtype)
    return images + deviation * draws.normal(images) if deviation else images


class Noted(Draws):
    """Draws that record their requests in ``requests``, in order: a step makes the same requests every time."""

    def __init__(self, generator: torch.Generator, workers: Workers = ALONE) -> None:
        super().__init__(generator, workers)
        self.requests: list[Request] = []

    def draw(self, request: Request) -> Tensor:
        self.requests.append(request)
        return super().draw(request)


class Given(Draws):
    """Draws made beforehand and returned in order.

    Raises ``RuntimeError`` if a request differs from the recorded one.
    """

    def __init__(
        self, requests: Sequence[Request], drawn: Sequence[Tensor], groups: Tensor | None, workers: Workers = ALONE
    ) -> None:
        super().__init__(torch.Generator(), workers)
        self.groups = groups
        self._drawn = list(zip(requests, drawn, strict=True))

    def draw(self, request: Request) -> Tensor:
        expected, drawn = self._drawn.pop(0) if self._drawn else (None, None)
        if drawn is None or expected != request:
            raise RuntimeError(f"a step requested {request} instead of {expected}, which the first step had requested")
        return drawn
