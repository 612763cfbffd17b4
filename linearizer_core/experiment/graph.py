"""Steps that are recorded once and replayed: on a GPU, one launch where Python would launch a thousand kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM = 3
"""Calls before one is recorded: libraries choose their kernels, and the optimiser makes its state, in the first."""


class Recorder(Protocol):
    """How work is recorded on a device."""

    def warm(self, run: Callable[[], None], /) -> None:
        """Do the work as it will be recorded."""

    def record(self, run: Callable[[], None], /) -> Callable[[], None]:
        """Record the work, without doing it where that is possible, and give what does it."""


class CudaGraphs:
    """Records CUDA graphs. Nothing in them may wait for the device, or choose by what it has computed."""

    def warm(self, run: Callable[[], None]) -> None:
        """Do the work on another stream, as it is recorded on another."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Capture the work: kernels are only noted meanwhile."""
        graph = torch.cuda.CUDAGraph()
        # Threads that decode images may allocate pinned memory while this one captures.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            run()
        return graph.replay


class Recorded:
    """``run`` as a function of tensors that always have the same shapes: recorded at its fourth call, then replayed.

    What ``run`` reads and writes besides must stay where it is. Where it cannot be recorded, ``failure`` says why, and
    it is called from then on.

    >>> import torch
    >>> class Calls:
    ...     def warm(self, run):
    ...         run()
    ...     def record(self, run):
    ...         return run
    >>> total = torch.zeros(())
    >>> add = Recorded(lambda inputs: total.add_(inputs[0]), Calls())
    >>> for number in range(6):
    ...     add([torch.tensor(float(number))])
    >>> total, add.recorded
    (tensor(15.), True)
    """

    def __init__(self, run: Callable[[Sequence[Tensor]], None], recorder: Recorder) -> None:
        self.failure = ""
        self._run, self._recorder = run, recorder
        self._calls = 0
        self._inputs: list[Tensor] = []
        self._replay: Callable[[], None] | None = None

    @property
    def recorded(self) -> bool:
        """Whether calls are replayed by now."""
        return self._replay is not None

    def __call__(self, inputs: Sequence[Tensor]) -> None:
        """Do the work, at other values of the inputs."""
        self._calls += 1
        if self._calls > WARM and self._replay is None and not self.failure:
            self._record(inputs)
        if self._replay is not None:
            for kept, given in zip(self._inputs, inputs, strict=True):
                kept.copy_(given)
            self._replay()
        elif self.failure:
            self._run(inputs)
        else:
            self._recorder.warm(lambda: self._run(inputs))

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = [each.clone() for each in inputs]
        try:
            self._replay = self._recorder.record(lambda: self._run(self._inputs))
        except Exception as error:  # noqa: BLE001 - whatever cannot be recorded is done as before
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
