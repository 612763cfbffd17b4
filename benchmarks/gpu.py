"""How a training step uses a GPU: launches, hardware limits, steps as a CUDA graph, and trials that train together.

It needs PyTorch and this repository, but neither Ray nor a data set, and takes less than six minutes: 60,000 images of
28 × 28 are generated. It prints one line of JSON.

- ``steps_eager``, ``steps_graph``: steps per second of one trial at batch 256, launched by Python, and as a graph.
- ``kernels``: kernels and copies of an eager step; ``busy_…``: the fraction of time in which one of them runs.
- ``matmul_tflops``, ``copy_gbs``: the chip's limits in float32 without TF32, and for a copy, read plus write.
- ``together_4``, ``together_16``: total steps per second of that many trials at once, relative to one alone.
- ``peak_mb_…``: peak memory of one trial, and of several together.
- ``graph_error``, ``cpu_error``: relative difference of the losses with a graph, and on the CPU, from eager ones.
- ``waits``: how often an epoch waits for the device, and an epoch with twice the steps.
- ``notes_…``: warnings of the trainers, such as a step that cannot be recorded.

Without a GPU it says so and measures what it can: the operators in a step of one trial and of several together, and the
CPU time of both, in alternation.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.images import TensorImages
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.together import Together
from linearizer_core.experiment.training import Trainer

SIDE, COUNT, CLASSES = 28, 60_000, 10
QUICKSTART = {"model": {"flow": {"depth": 4, "width": 128}, "operator": {"rank": 16}, "operators": {"by": "label"}},
              "train": {"batch_size": 128, "lr": 3e-3}}  # fmt: skip
LARGE = {"model": {"flow": {"depth": 8, "width": 512, "coordinates": 256}, "operator": {"rank": 64},
                   "operators": {"by": "label"}}, "train": {"batch_size": 256, "lr": 1e-3}}  # fmt: skip


def images(count: int, side: int) -> ImageData:
    """Generated images, each a smooth pattern of its label plus noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(CLASSES, 1, 4, 4, generator=generator)
    patterns = torch.nn.functional.interpolate(patterns, (side, side), mode="bilinear")
    labels = torch.arange(count) % CLASSES
    noise = torch.rand(count, 1, side, side, generator=generator)
    quanta = (255 * (0.7 * patterns[labels] + 0.3 * noise)).to(torch.uint8)
    held_out = quanta[:256].float() / 127.5 - 1
    few = labels[:256]
    return ImageData("made up", TensorImages(quanta, 256), labels, held_out, few, held_out, few, CLASSES, 256, "")


def trial(values: dict[str, Any], **train: Any) -> TrialConfig:
    """A configuration of the default recipe."""
    config: TrialConfig = from_mapping(TrialConfig, expand({**values, "train": {**values["train"], **train}}))
    return config


def operators(run: Callable[[], object]) -> int:
    """Number of leaf ATen operators."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    found = [event for event in profiled.events() if event.name.startswith("aten::")]
    return sum(not any(child.name.startswith("aten::") for child in each.cpu_children) for each in found)


def epochs(trainers: list[Trainer]) -> Callable[[], None]:
    """A function that trains an epoch of all trainers, together if there are several."""
    if len(trainers) == 1:
        return lambda: (trainers[0].train_epoch(), None)[1]
    together = Together()
    ways = [together.join(trainer) for trainer in trainers]

    def run() -> None:
        for way in ways:
            next(way)
        if together.warnings:
            raise SystemExit(together.warnings[0])

    return run


def on_cpu() -> dict[str, Any]:
    """Operators per step, and CPU time of trials alone and together, alternating in this process on one thread."""
    torch.set_num_threads(1)
    config = trial(QUICKSTART, epochs=1000, steps=8)
    data = images(1437, 8)
    found: dict[str, Any] = {"device": "cpu", "threads": 1}
    alone = epochs([Trainer(config, data)])
    alone()
    found["operators"] = operators(alone) / 8
    for count in (4, 10):
        together = epochs([Trainer(replace(config, seed=seed), data) for seed in range(count)])
        together()
        found[f"operators_together_{count}"] = operators(together) / 8 / count
        turns = [(_cpu_seconds(alone), _cpu_seconds(together) / count) for _ in range(9)]
        found[f"ms_alone_beside_{count}"] = 1000 / 8 * statistics.median(a for a, _ in turns)
        found[f"ms_together_{count}"] = 1000 / 8 * statistics.median(b for _, b in turns)
        found[f"together_{count}"] = statistics.median(a / b for a, b in turns)
    return found


def on_gpu() -> dict[str, Any]:
    """All measurements listed above."""
    data = images(COUNT, SIDE)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    found |= {"matmul_tflops": _matmul(), "copy_gbs": _copy()}
    eager, graph = (trial(LARGE, epochs=1000, steps=100, graph=how) for how in ("off", "auto"))
    for name, config in (("eager", eager), ("graph", graph)):
        trainer = Trainer(config, data, "cuda")
        run = epochs([trainer])
        run()
        found[f"steps_{name}"] = 100 / _seconds(run)
        kernels, busy = _kernels(run)
        found[f"busy_{name}"] = busy
        if name == "eager":
            found["kernels"] = kernels / 100
        found[f"notes_{name}"] = trainer.warnings
    for count in (1, 4, 16):
        torch.cuda.reset_peak_memory_stats()
        together = epochs([Trainer(replace(graph, seed=seed), data, "cuda") for seed in range(count)])
        together()
        speed = count * 100 / _seconds(together)
        found[f"peak_mb_{count}"] = torch.cuda.max_memory_allocated() / 2**20
        if count > 1:
            found[f"together_{count}"] = speed / found["steps_graph"]
    return found | _errors(data) | {"waits": [_waits(data, steps) for steps in (10, 20)]}


def _errors(data: ImageData) -> dict[str, float]:
    """Compare losses without noise, which each kind of device would draw differently: all three must train the same."""
    losses = {}
    for name, device, how in (("eager", "cuda", "off"), ("graph", "cuda", "auto"), ("cpu", "cpu", "off")):
        trainer = Trainer(trial(LARGE, epochs=2, steps=10, dequantise=0.0, graph=how), data, device)
        losses[name] = [trainer.train_epoch().metrics["train/loss"] for _ in range(2)]
    return {
        f"{name}_error": max(abs(a / b - 1) for a, b in zip(losses[name], losses["eager"], strict=True))
        for name in ("graph", "cpu")
    }


def _waits(data: ImageData, steps: int) -> int:
    """How often PyTorch reports that an epoch waits for the device."""
    trainer = Trainer(trial(LARGE, epochs=3, steps=steps), data, "cuda")
    trainer.train_epoch()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            trainer.train_epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in told)


def _seconds(run: Callable[[], object]) -> float:
    """The median of five runs."""
    found = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _kernels(run: Callable[[], object]) -> tuple[int, float]:
    """The number of kernels, and the fraction of time in which they run."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    spans = [event for event in profiled.events() if str(event.device_type).endswith("CUDA")]
    return len(spans), sum(event.time_range.elapsed_us() for event in spans) / 1e6 / seconds


def _matmul(size: int = 8192) -> float:
    a = torch.randn(size, size, device="cuda")
    out = torch.empty_like(a)
    return 2 * size**3 / _seconds(lambda: torch.mm(a, a, out=out)) / 1e12


def _copy(count: int = 2**28) -> float:
    a = torch.zeros(count, device="cuda")
    b: Tensor = torch.empty_like(a)
    return 8 * count / _seconds(lambda: b.copy_(a)) / 1e9


if __name__ == "__main__":
    if torch.cuda.is_available():
        result = on_gpu()
    else:
        print("there is no GPU here: counting operators and measuring CPU time")
        result = on_cpu()
    result |= {"torch": torch.__version__}
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}))
