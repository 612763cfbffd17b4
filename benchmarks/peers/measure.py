"""Time and memory of calls."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Call = Callable[[], object]


def seconds(call: Call) -> float:
    """The wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def best_seconds(call: Call, repeats: int) -> float:
    """The shortest wall time of a call, after one warm-up call."""
    call()
    return min(seconds(call) for _ in range(repeats))


def median_seconds(calls: Mapping[str, Call], repeats: int) -> dict[str, float]:
    """Each call's median wall time over rounds in which all calls alternate, after one warm-up round."""
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(repeats + 1)]
    return {name: statistics.median(turn[name] for turn in rounds[1:]) for name in calls}


def peak_bytes(call: Call) -> int:
    """The peak number of bytes, at any time during a call, in tensors created by it, gradients included.

    Counted from the storages that PyTorch's operators return, so that it is the same in every run; memory that an
    operator uses internally while it runs is not included.
    """
    with _LiveStorages() as live:
        call()
    return live.most


class _LiveStorages(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.most = self._held = 0
        self._seen: set[int] = set()

    def _leave(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._held -= size

    def _enter(self, values: object, *, new: bool) -> None:
        for value in tree_leaves(values):
            if not isinstance(value, Tensor) or value.untyped_storage()._cdata in self._seen:
                continue
            storage = value.untyped_storage()
            size = storage.nbytes() if new else 0
            self._seen.add(storage._cdata)
            self._held += size
            self.most = max(self.most, self._held)
            weakref.finalize(storage, self._leave, storage._cdata, size)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._enter((args, kwargs), new=False)  # existing tensors do not belong to this call
        result = func(*args, **(kwargs or {}))
        self._enter(result, new=True)
        return result
