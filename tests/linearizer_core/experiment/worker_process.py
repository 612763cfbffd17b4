"""One of several processes that train together, for test_workers.py: ``worker_process.py RANK COUNT FOLDER CASE…``.

Each case joins the others, does something and leaves; what it found is in ``FOLDER/CASE-RANK.pt``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import FileStore  # type: ignore[attr-defined]

from linearizer_core.experiment import trial
from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import load
from linearizer_core.experiment.evaluation import BATCH, in_batches, timed
from linearizer_core.experiment.families import Diffusion
from linearizer_core.experiment.journal import TrialIdentity
from linearizer_core.experiment.training import Trainer, TrainingDiverged, fit
from linearizer_core.experiment.workers import ALONE, WorkerError, Workers, joined, present

TIMEOUT = 3600.0
"""Longer than the test waits for the processes: nobody may learn by it that another is gone."""

EVERYTHING = LossConfig(flow=1.0, noise=0.5, data=0.5, endpoint=0.5, likelihood=1.0, whitening=0.3)
FEW = DataConfig(images=200)


def config(
    family: str, flow: dict[str, Any], operator: dict[str, Any], noise_flow: str = "same", **train: Any
) -> TrialConfig:
    return TrialConfig(
        family=family,  # type: ignore[arg-type]
        data=FEW,
        model=ModelConfig(
            flow=FlowConfig(**{"depth": 2, "width": 8, **flow}),
            noise_flow=noise_flow,  # type: ignore[arg-type]
            operator=OperatorConfig(**operator),
        ),
        train=TrainConfig(**{"epochs": 2, "batch_size": 16, "steps": 4, "lr": 3e-3, "ema": 0.8, **train}),
        seed=7,
    )


TRAINED: dict[str, TrialConfig] = {
    "every term, p4": config(
        "diffusion",
        {"mixing": "p4"},
        {"kind": "time_lowrank", "rank": 6},
        loss=EVERYTHING,
        merge_every=3,
        time="logit_normal",
        dequantise=0.05,
    ),
    "whitening alone, principal": config(
        "diffusion",
        {"frame": "principal", "coordinates": 20},
        {"kind": "time_diagonal", "rank": 12},
        noise_flow="identity",
        loss=LossConfig(flow=0.0, likelihood=0.0, whitening=1.0),
    ),
    "nothing of g_y is used": config(
        "diffusion",
        {"conditioner": "conv", "mixing": "p4_orthogonal"},
        {"kind": "time_lowrank", "rank": 6},
        loss=LossConfig(flow=0.0, likelihood=0.0, data=1.0),
        merge_every=2,
    ),
    "recomputed, shared": config(
        "diffusion",
        {"memory": "recompute"},
        {"kind": "time_factors", "rank": 6},
        noise_flow="shared",
        distance="gradient_ssim",
        loss=EVERYTHING,
    ),
    "flow matching": config("flow_matching", {"conditioner": "conv"}, {"kind": "time_lowrank", "rank": 6}),
    "mean flow": config("mean_flow", {}, {"kind": "time_lowrank", "rank": 6}),
    "idempotent": config("idempotent", {}, {"kind": "projection", "rank": 9}),
    "idempotent of learned rank": config("idempotent", {"mixing": "p4"}, {"kind": "learned_projection"}, merge_every=3),
    "dynamics": config("dynamics", {}, {"kind": "rotation", "rank": 9}),
    "koopman": config("koopman", {}, {"kind": "transition"}),
    "inverse": config("inverse", {}, {"kind": "correlation", "rank": 9}),
    "style": config("style", {}, {"kind": "lowrank", "rank": 4}),
    "style by kernels": config(
        "style",
        {"conditioner": "conv"},
        {"kind": "conv"},
        distance="gradient_ssim",
        loss=LossConfig(transfer=1.0, latent=0.1),
    ),
}


def digest(tensors: dict[str, Tensor]) -> str:
    joined_bytes = b"".join(name.encode() + each.cpu().numpy().tobytes() for name, each in sorted(tensors.items()))
    return hashlib.sha256(joined_bytes).hexdigest()


def train(case: TrialConfig, workers: Workers) -> dict[str, Any]:
    """The metrics of all epochs, the weights, and the checksum of all that training goes on with."""
    trainer = Trainer(case, load(case.data), "cpu", workers)
    metrics = [result.metrics for result in fit(trainer)]
    state = trainer.state_dict()
    return {
        "metrics": metrics,
        "weights": {name: value.clone() for name, value in state["averaged"].items()},
        "digest": digest(state["model"]) + digest(state["averaged"]),
    }


def curves(workers: Workers, folder: Path) -> dict[str, Any]:
    """Every family trained in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        return {name: train(case, workers) for name, case in TRAINED.items()}
    finally:
        torch.set_default_dtype(torch.float32)


WHO = TrialIdentity("demo", "t000-s0", "search", None, 0, "0123456789ab", 0)
EVALUATE = EvaluateConfig(steps=(1, 4), samples=37, held_out=33, quality=("swd", "classifier_fd"), every=1)
TRIALS: dict[str, TrialConfig] = {
    name: dataclasses.replace(
        TRAINED[source],
        evaluate=EVALUATE,
        train=dataclasses.replace(TRAINED[source].train, epochs=3, lr=1e-3),
    )
    for name, source in (("diffusion", "every term, p4"), ("idempotent", "idempotent"), ("style", "style"))
}


def files(folder: Path, name: str) -> trial.TrialFiles:
    return trial.TrialFiles(
        folder / "journal" / f"{name}.jsonl",
        folder / "artifacts" / name,
        folder / "training" / f"{name}.pt",
        folder / "cache",
    )


def trials(workers: Workers, folder: Path) -> dict[str, Any]:
    """A trial of each family from its start to its end."""
    return {
        name: list(trial.run(case, WHO, files(folder, name), {}, "cpu", workers=workers))
        for name, case in TRIALS.items()
    }


def resume(workers: Workers, folder: Path) -> list[dict[str, Any]]:
    """A trial stopped after its first epoch, and once more before its evaluation, and then carried out."""
    found: list[dict[str, Any]] = []
    stops: list[Callable[[], bool]] = [
        lambda: True,
        iter([False, True]).__next__,
        lambda: False,
    ]
    for stop in stops:
        # Only the worker that leads is asked.
        asked = stop if workers.leads else forbidden
        found += trial.run(TRIALS["diffusion"], WHO, files(folder, "resumed"), {}, "cpu", workers=workers, stop=asked)
    return found


def forbidden() -> bool:
    raise AssertionError("a worker that does not lead was asked")


@contextmanager
def broken(workers: Workers, call: int, error: Exception) -> Iterator[None]:
    """The losses of worker 1 raise an error at a call, counted from 1."""
    losses = Diffusion.losses
    calls = 0

    def breaks(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return losses(*arguments)

    if workers.rank == 1:
        Diffusion.losses = breaks  # type: ignore[method-assign]
    try:
        yield
    finally:
        Diffusion.losses = losses  # type: ignore[method-assign]


def diverged(workers: Workers, folder: Path) -> dict[str, Any]:
    """Numbers that are lost on one worker alone: of losses in its second epoch, of recomputation, and before either."""
    found = {}
    # After one step of rehearsal and four of the first epoch.
    with broken(workers, 7, ArithmeticError("an inverse of worker 1 is lost")):
        found["losses"] = list(trial.run(TRIALS["diffusion"], WHO, files(folder, "lost"), {}, "cpu", workers=workers))
    flow = dataclasses.replace(TRAINED["recomputed, shared"].model.flow, depth=4)
    case = dataclasses.replace(
        TRAINED["recomputed, shared"],
        model=dataclasses.replace(TRAINED["recomputed, shared"].model, flow=flow, noise_flow="same"),
        train=dataclasses.replace(TRAINED["recomputed, shared"].train, lr=0.3, clip=1e3, ema=0.0, epochs=40),
    )
    try:
        train(case, workers)
    except TrainingDiverged as error:
        found["recomputed"] = [str(error)]
    return found


def shares(workers: Workers, folder: Path) -> dict[str, Any]:
    """Functions of many rows, divided among the workers, and what one of them cannot compute."""
    seen: list[int] = []

    def double(x: Tensor) -> Tensor:
        seen.append(len(x))
        return 2 * x

    rows = torch.arange(3 * BATCH + 5.0)
    whole = in_batches(double, rows)
    few = in_batches(double, rows[:1])
    _, milliseconds = timed(torch.device("cpu"), lambda: in_batches(double, rows))
    found = {"whole": whole, "few": few, "seen": seen[:], "timed": milliseconds > 0, "present": present() == workers}

    def fragile(x: Tensor) -> Tensor:
        if bool((x == rows[-1]).any()):
            raise ArithmeticError("the last row")
        return x

    def out_of_memory(x: Tensor) -> Tensor:
        if bool((x == rows[-1]).any()):
            raise MemoryError("the last row")
        return x

    for name, function in (("lost", fragile), ("failed", out_of_memory)):
        try:
            in_batches(function, rows)
        except (ArithmeticError, WorkerError, MemoryError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def raises(workers: Workers, folder: Path) -> str:
    """Another error than of numbers on one worker, in the midst of training: the others learn of it."""
    with broken(workers, 4, MemoryError("of worker 1")):
        list(trial.run(TRIALS["diffusion"], WHO, files(folder, "raises"), {}, "cpu", workers=workers))
    return "finished"


def late(workers: Workers, folder: Path) -> str:
    """A meeting that another worker does not come to."""
    gone = folder / "waited in vain"
    if workers.rank == 1:
        while not gone.exists():
            time.sleep(0.1)
        return "did not come"
    try:
        workers.total(torch.ones(1))
    finally:
        gone.touch()
    return "met"


def dies(workers: Workers, folder: Path) -> str:
    """A worker whose process ends."""
    if workers.rank == 1:
        os._exit(3)
    workers.total(torch.ones(1))
    return "met"


CASES: dict[str, Callable[[Workers, Path], Any]] = {
    case.__name__: case for case in (curves, trials, resume, diverged, shares, raises, late, dies)
}


def main(rank: int, count: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    workers = Workers(rank, count)
    errors = []  # kept, with all that their frames refer to: the others must learn of them nevertheless
    for name in names:
        store = FileStore(str(folder / f"store-{name}"), count)
        limit = 3.0 if name == "late" else TIMEOUT
        found: Any
        try:
            with joined(workers, store, "cpu", limit) as present_workers:
                found = CASES[name](present_workers, folder)
        except (RuntimeError, MemoryError) as error:
            errors.append(error)
            found = type(error).__name__
        assert present() == ALONE
        torch.save(found, folder / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
