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

``--gpus N`` measures something else: one trial over 1, 2, 4, … up to N GPUs, joined by NCCL, a process each. Without a
GPU the same processes are joined by gloo, a CPU core each.

- ``images_N``: training images per second; ``efficiency_N``: relative to N times those of one.
- ``loss_error_N``: the largest relative difference between the losses of the epochs and those of one: it should be
  rounding. ``loss_error_other_seed``: the same for one GPU and another seed, which should be far more.

    python benchmarks/gpu.py [--gpus 4] [--batch 4096] [--epochs 5] [--steps 50]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing
from torch.profiler import ProfilerActivity, profile

from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.images import TensorImages
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.together import Together
from linearizer_core.experiment.training import Trainer
from linearizer_core.experiment.workers import Workers, joined

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


def over_several(most: int, batch: int, epochs: int, steps: int) -> dict[str, Any]:
    """One trial over 1, 2, 4, … up to ``most`` GPUs, or processes on CPUs, as listed above."""
    on_gpus = torch.cuda.is_available()
    if on_gpus and torch.cuda.device_count() < most:
        raise SystemExit(f"--gpus {most}: there are {torch.cuda.device_count()} GPUs here")
    counts = [2**power for power in range(most.bit_length()) if 2**power < most] + [most]
    wrong = [count for count in counts if batch % count]
    if wrong:
        raise SystemExit(f"--batch {batch}: must be a multiple of {', '.join(map(str, wrong))}")
    device = torch.cuda.get_device_name() if on_gpus else "cpu"
    found: dict[str, Any] = {"device": device, "backend": "nccl" if on_gpus else "gloo", "batch": batch}
    losses: dict[int, list[float]] = {}
    for count in counts:
        losses[count], seconds = trained(count, batch, epochs, steps, seed=0)
        found[f"images_{count}"] = batch * steps * (epochs - 1) / seconds
        found[f"efficiency_{count}"] = found[f"images_{count}"] / count / found["images_1"]
        found[f"loss_error_{count}"] = largest_difference(losses[count], losses[1])
        print(f"{count} of {device}: {found[f'images_{count}']:,.0f} images a second", flush=True)
    other, _ = trained(1, batch, epochs, steps, seed=1)
    found["loss_error_other_seed"] = largest_difference(other, losses[1])
    return found


def largest_difference(losses: list[float], of: list[float]) -> float:
    """The largest relative difference of two loss curves."""
    return max(abs(a / b - 1) for a, b in zip(losses, of, strict=True))


def trained(count: int, batch: int, epochs: int, steps: int, seed: int) -> tuple[list[float], float]:
    """The loss of each epoch of a trial of ``count`` workers, and the seconds of all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        queue: Any = multiprocessing.get_context("spawn").SimpleQueue()
        arguments = (count, str(Path(folder) / "store"), batch, epochs, steps, seed, queue)
        multiprocessing.spawn(_worker, arguments, nprocs=count)
        losses, seconds = queue.get()
        return losses, seconds


def _worker(rank: int, count: int, store: str, batch: int, epochs: int, steps: int, seed: int, queue: Any) -> None:
    """Train as one of ``count`` workers; the first puts the losses and the seconds into the queue."""
    torch.set_num_threads(1)
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # or its watchdog ends the process when a worker is gone
    on_gpus = torch.cuda.is_available()
    device = f"cuda:{rank}" if on_gpus else "cpu"
    values = LARGE if on_gpus else QUICKSTART
    config = replace(trial(values, epochs=epochs, steps=steps, batch_size=batch), seed=seed)
    data = images(max(batch * steps, 2048), SIDE if on_gpus else 8)
    with joined(Workers(rank, count), dist.FileStore(store, count) if count > 1 else None, device, 300) as workers:
        trainer = Trainer(config, data, device, workers)
        losses = [trainer.train_epoch().metrics["train/loss"]]  # the first steps include setup
        began = time.perf_counter()
        losses += [trainer.train_epoch().metrics["train/loss"] for _ in range(epochs - 1)]
        if rank == 0:
            queue.put((losses, time.perf_counter() - began))


def main() -> None:
    """Print measurements as they are made, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, help="measure one trial over up to so many GPUs, or CPU cores")
    parser.add_argument("--batch", type=int, default=4096, help="images in a batch of all GPUs together")
    parser.add_argument("--epochs", type=int, default=5, help="epochs, of which the first is not timed")
    parser.add_argument("--steps", type=int, default=50, help="steps of an epoch")
    chosen = parser.parse_args()
    if chosen.gpus is not None:
        if chosen.gpus < 1 or chosen.epochs < 2:
            parser.error("--gpus needs 1 or more, and --epochs 2 or more")
        result = over_several(chosen.gpus, chosen.batch, chosen.epochs, chosen.steps)
    elif torch.cuda.is_available():
        result = on_gpu()
    else:
        print("there is no GPU here: counting operators and measuring CPU time")
        result = on_cpu()
    result |= {"torch": torch.__version__}
    print(json.dumps({key: _rounded(value) for key, value in result.items()}))


def _rounded(value: Any) -> Any:
    """A number to four digits after the point, or of a smaller one the first four."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if abs(value) < 1 else round(value, 4)


if __name__ == "__main__":
    main()
