"""Steps recorded once and replayed: on a GPU, one launch where Python would launch a thousand kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM = 3
"""Number of calls before one is recorded: in the first, libraries choose kernels and the optimiser creates its state.

"""


class Recorder(Protocol):
    """A way to record work on a device."""

    def warm(self, run: Callable[[], None], /) -> None:
        """Run the work under the conditions in which it will be recorded."""

    def record(self, run: Callable[[], None], /) -> Callable[[], None]:
        """Record the work, if possible without running it, and return a function that replays it."""


class CudaGraphs:
    """Records CUDA graphs. Nothing in them may wait for the device, or branch on computed values."""

    def warm(self, run: Callable[[], None]) -> None:
        """Run the work on another stream, since it is also recorded on another."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Capture the work; its kernels are recorded without running."""
        graph = torch.cuda.CUDAGraph()
        # Threads that decode images may allocate pinned memory during capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            run()
        return graph.replay


class Recorded:
    """``run`` as a function of tensors that always have the same shapes: recorded at its fourth call, then replayed.

    All other tensors that ``run`` reads and writes must stay where they are. If it cannot be recorded, ``failure`` says
    why, and ``run`` is called directly from then on.

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
        """Whether calls are now replayed."""
        return self._replay is not None

    def __call__(self, inputs: Sequence[Tensor]) -> None:
        """Run the work with other values of the inputs."""
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
        except Exception as error:  # noqa: BLE001 - whatever cannot be recorded is run as before
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
