"""The processes that train and evaluate one trial together: who they are, how they join, what they tell each other."""

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
"""What numbers that went astray raise: such a trial has failed, and another attempt would fail as well."""


class WorkerError(RuntimeError):
    """Another worker of the trial failed."""


@dataclass(frozen=True)
class Workers:
    """The processes that train one trial together, as one of them sees them.

    All of them run the same code in step. Every method but ``leads``, ``rows`` and ``own`` waits for the others: it
    MUST be called by all workers, in the same order, and needs them ``joined``; one worker alone waits for nobody.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank {self.rank} is not one of {self.count} workers")

    @property
    def leads(self) -> bool:
        """Whether this worker keeps the record."""
        return self.rank == 0

    def rows(self, batch: Tensor) -> Tensor:
        """This worker's rows of a batch: row j is worker j mod ``count``'s."""
        return batch[self.rank :: self.count] if self.count > 1 else batch

    def own(self, index: Tensor) -> Tensor:
        """Which of this worker's rows are those at ``index`` ``(count,)`` of the batch, in the same order."""
        return index if self.count == 1 else index[index % self.count == self.rank] // self.count

    def whole(self, rows: Tensor) -> Tensor:
        """The batch of which each worker has its equally many ``rows``, without gradients."""
        if self.count == 1:
            return rows.detach()
        return torch.stack(self._gathered(rows), 1).flatten(0, 1)

    def joint(self, part: Tensor, sizes: list[int]) -> Tensor:
        """The workers' parts, of ``sizes`` rows, one after another, without gradients."""
        if self.count == 1:
            return part.detach()
        short = max(sizes) - len(part)
        padded = torch.cat([part, part.new_zeros(short, *part.shape[1:])]) if short else part
        return torch.cat([each[:size] for each, size in zip(self._gathered(padded), sizes, strict=True)])

    def total(self, values: Tensor) -> Tensor:
        """The sum over all workers of tensors of one shape, the same to the last bit on each."""
        if self.count == 1:
            return values
        summed = values.detach().to(_exchange_device(), copy=True)
        dist.all_reduce(summed)
        return summed.to(values.device)

    def leading(self, values: Tensor) -> Tensor:
        """The leading worker's tensor, of the same shape and dtype on each."""
        if self.count == 1:
            return values
        sent = values.detach().to(_exchange_device(), copy=True)
        dist.broadcast(sent, src=0)
        return sent.to(values.device)

    def together(self, work: Callable[[], T]) -> T:
        """What ``work`` gives this worker; where it raises on any worker, all of them raise.

        ``work`` must not wait for others. Raises what it raised here, ``WorkerError`` where it raised elsewhere, and on
        all the same ``ArithmeticError`` for what is in ``LOST``.
        """
        if self.count == 1:
            return work()
        result: list[T] = []
        error: Exception | None = None
        try:
            result.append(work())
        except Exception as caught:  # noqa: BLE001 - raised below, once the others know
            error = caught
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, error and _told(error))
        _raise(error, found)
        return result[0]

    def led(self, work: Callable[[], T]) -> T:
        """What ``work`` gives the worker that leads, which alone does it; where it raises, all of them raise.

        ``work`` must not wait for others. Raises as ``together`` does.
        """
        if self.count == 1:
            return work()
        box: list[Any] = [None, None]
        error: Exception | None = None
        if self.leads:
            try:
                box[0] = work()
            except Exception as caught:  # noqa: BLE001 - raised below, once the others know
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
    """The workers that this process is joined with now: ``ALONE`` outside of ``joined``."""
    return Workers(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


@contextmanager
def joined(
    workers: Workers, store: Store | None, device: torch.device | str, timeout_seconds: float
) -> Iterator[Workers]:
    """Join the other workers, by NCCL for a CUDA device and by gloo otherwise, and leave them whatever happens.

    Their rendezvous is ``store``, which must be new to each joining, or where it is None the address that the
    environment names as ``torchrun`` sets it. Nothing is joined by one worker alone. Waiting for others that do not
    come raises after ``timeout_seconds``; with NCCL only where ``TORCH_NCCL_BLOCKING_WAIT`` is set to 1 before, since
    otherwise its watchdog ends the process. The workers' time is not that of the store, which its maker sets.

    Raises ``ValueError`` in a process that has joined others already.
    """
    if workers.count == 1:
        yield workers
        return
    if dist.is_initialized():
        raise ValueError(f"this process is joined with {present().count} workers already")
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    # Optimisers import it. First imported within a group it would keep that for ever, in defaults of its functions.
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
    """Destroy the process group; where NCCL may be waiting for a dead peer, without waiting for what is under way."""
    if not dist.is_initialized():
        return
    if not sound and dist.group.WORLD is not None:
        dist.group.WORLD.abort()
    dist.destroy_process_group()
    gc.collect()  # gloo's connections are closed with the last reference, and a wrapped model refers to itself


def _let_go(error: BaseException | None) -> None:
    """Let go of what an error's frames refer to: the others learn of it when the connections to them are closed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _exchange_device() -> torch.device:
    """Where tensors must be to be exchanged with other workers."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _told(error: Exception) -> tuple[bool, str]:
    """What the other workers are told of an error: whether numbers went astray, and its message."""
    return isinstance(error, LOST), str(error) if isinstance(error, LOST) else f"{type(error).__name__}: {error}"


def _raise(error: Exception | None, found: list[tuple[bool, str] | None]) -> None:
    """Raise on all workers where any failed: what failed otherwise than by its numbers goes first."""
    told = sorted(((lost, rank, text) for rank, each in enumerate(found) if each for lost, text in [each]))
    if not told:
        return
    lost, rank, text = told[0]
    if lost:
        raise ArithmeticError(text) from error
    if error is not None and not isinstance(error, LOST):
        raise error
    raise WorkerError(f"worker {rank}: {text}") from error
