"""The processes that train and evaluate one trial together: their identity, how they join, and what they exchange."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

T = TypeVar("T")

LOST: tuple[type[Exception], ...] = (ArithmeticError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
"""Errors raised by numbers that diverged: the trial has failed, and another attempt would fail too."""


class WorkerError(RuntimeError):
    """Another worker of the trial failed."""


@dataclass(frozen=True)
class Workers:
    """The processes that train one trial together, from the view of one of them.

    All of them run the same code in step. Every method except ``leads``, ``rows`` and ``own`` waits for the others: it
    MUST be called by all workers, in the same order, while they are ``joined``; a single worker waits for nobody.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank {self.rank} is not one of {self.count} workers")

    @property
    def leads(self) -> bool:
        """Whether this worker writes the record."""
        return self.rank == 0

    def rows(self, batch: Tensor) -> Tensor:
        """This worker's rows of a batch: row j belongs to worker j mod ``count``."""
        return batch[self.rank :: self.count] if self.count > 1 else batch

    def own(self, index: Tensor) -> Tensor:
        """The positions among this worker's rows of those at ``index`` ``(count,)`` of the batch, in order."""
        return index if self.count == 1 else index[index % self.count == self.rank] // self.count

    def whole(self, rows: Tensor) -> Tensor:
        """The batch of which each worker holds equally many ``rows``, without gradients."""
        if self.count == 1:
            return rows.detach()
        return torch.stack(self._gathered(rows), 1).flatten(0, 1)

    def joint(self, part: Tensor, sizes: list[int]) -> Tensor:
        """The workers' parts, of ``sizes`` rows, concatenated, without gradients."""
        if self.count == 1:
            return part.detach()
        short = max(sizes) - len(part)
        padded = torch.cat([part, part.new_zeros(short, *part.shape[1:])]) if short else part
        return torch.cat([each[:size] for each, size in zip(self._gathered(padded), sizes, strict=True)])

    def total(self, values: Tensor) -> Tensor:
        """The sum over all workers of tensors of the same shape, identical to the last bit on each."""
        if self.count == 1:
            return values
        summed = values.detach().to(_exchange_device(), copy=True)
        dist.all_reduce(summed)
        return summed.to(values.device)

    def leading(self, values: Tensor) -> Tensor:
        """The leading worker's tensor, which has the same shape and dtype on each."""
        if self.count == 1:
            return values
        sent = values.detach().to(_exchange_device(), copy=True)
        dist.broadcast(sent, src=0)
        return sent.to(values.device)

    def together(self, work: Callable[[], T]) -> T:
        """Return this worker's result of ``work``; if it raises on any worker, all of them raise.

        ``work`` must not wait for others. Raises its own error here, ``WorkerError`` if it raised elsewhere, and on all
        workers the same ``ArithmeticError`` for errors in ``LOST``.
        """
        if self.count == 1:
            return work()
        result: list[T] = []
        error: Exception | None = None
        try:
            result.append(work())
        except Exception as caught:  # noqa: BLE001 - raised below, after the others know
            error = caught
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, error and _told(error))
        _raise(error, found)
        return result[0]

    def led(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``, which only the leading worker runs; if it raises, all workers raise.

        ``work`` must not wait for others. Raises like ``together``.
        """
        if self.count == 1:
            return work()
        box: list[Any] = [None, None]
        error: Exception | None = None
        if self.leads:
            try:
                box[0] = work()
            except Exception as caught:  # noqa: BLE001 - raised below, after the others know
                error, box[1] = caught, _told(caught)
        dist.broadcast_object_list(box, src=0)
        _raise(error, [box[1]])
        result: T = box[0]
        return result

    def agreed(self, value: T) -> T:
        """The leading worker's value: floating-point sums may differ between machines in their last digits."""
        return self.led(lambda: value)

    def _gathered(self, part: Tensor) -> list[Tensor]:
        """Every worker's tensor of the same shape."""
        sent = part.detach().to(_exchange_device()).contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.count)]
        dist.all_gather(parts, sent)
        return [each.to(part.device) for each in parts]


ALONE = Workers()


def present() -> Workers:
    """The workers that this process is currently joined with; ``ALONE`` outside of ``joined``."""
    return Workers(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


@contextmanager
def joined(
    workers: Workers, store: Store | None, device: torch.device | str, timeout_seconds: float
) -> Iterator[Workers]:
    """Join the other workers, by NCCL on a CUDA device and by gloo otherwise, and leave them whatever happens.

    They meet at ``store``, which must be new for each joining, or, if it is None, at the address that ``torchrun`` sets
    in the environment. A single worker joins nothing. If others do not come, an error is raised after
    ``timeout_seconds``; with NCCL this requires that TORCH_NCCL_BLOCKING_WAIT was set to 1 beforehand, since its
    watchdog ends the process otherwise. The store has a timeout of its own, set by its creator.

    Raises ``ValueError`` in a process that has already joined others.
    """
    if workers.count == 1:
        yield workers
        return
    if dist.is_initialized():
        raise ValueError(f"this process has already joined {present().count} workers")
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    # Optimisers import it. If first imported within a group, its functions' defaults would hold the group for ever.
    import_module("torch._dynamo")
    sound = False
    try:
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            init_method="env://" if store is None else None,
            store=store,
            rank=workers.rank,
            world_size=workers.count,
            timeout=timedelta(seconds=timeout_seconds),
            device_id=device if on_gpu else None,
        )
        yield workers
        sound = True
    except BaseException as error:
        _let_go(error)
        raise
    finally:
        _leave(sound or not on_gpu)


def _leave(sound: bool) -> None:
    """Destroy the process group; if NCCL may be waiting for a dead peer, abort pending work instead of waiting."""
    if not dist.is_initialized():
        return
    if not sound and dist.group.WORLD is not None:
        dist.group.WORLD.abort()
    dist.destroy_process_group()
    gc.collect()  # gloo closes connections with the last reference, and a wrapped model refers to itself


def _let_go(error: BaseException | None) -> None:
    """Release what an error's frames refer to: the others notice the failure when their connections are closed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _exchange_device() -> torch.device:
    """The device that tensors must be on to be exchanged with other workers."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _told(error: Exception) -> tuple[bool, str]:
    """What the other workers are told about an error: whether numbers diverged, and its message."""
    return isinstance(error, LOST), str(error) if isinstance(error, LOST) else f"{type(error).__name__}: {error}"


def _raise(error: Exception | None, found: list[tuple[bool, str] | None]) -> None:
    """Raise on all workers if any failed; failures other than divergence take precedence."""
    told = sorted(((lost, rank, text) for rank, each in enumerate(found) if each for lost, text in [each]))
    if not told:
        return
    lost, rank, text = told[0]
    if lost:
        raise ArithmeticError(text) from error
    if error is not None and not isinstance(error, LOST):
        raise error
    raise WorkerError(f"worker {rank}: {text}") from error
