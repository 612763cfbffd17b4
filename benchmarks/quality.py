"""Sample quality against training time: the default recipe beside the published configuration, on one machine.

The published configuration is that of the public code for MNIST (U-Net couplings, rank 8, time-varying factors, the
paper's losses), rebuilt in this library; its batch is cut from 256 to 32, without which it would take a handful of
steps. Both train on the same images for the same time, not counting evaluation.

    python benchmarks/quality.py [--seconds 240] [--data mnist] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from linearizer_core import data as datasets
from linearizer_core.config import DataConfig, EvaluateConfig, TrialConfig, from_mapping
from linearizer_core.evaluation import Quality, references
from linearizer_core.recipes import expand
from linearizer_core.training import Trainer

CHECKPOINTS = 8
WARM = 3


@dataclass
class Run:
    """Training seconds and classifier Fréchet distances at the checkpoints of one configuration."""

    name: str
    seconds: list[float]
    distances: list[float]

    def first(self, bound: float) -> float:
        """The time at which the distance first is at most ``bound``, between checkpoints by linear interpolation."""
        for i, (second, distance) in enumerate(zip(self.seconds, self.distances, strict=True)):
            if distance <= bound:
                if i == 0:
                    return second
                before, earlier = self.distances[i - 1], self.seconds[i - 1]
                return earlier + (second - earlier) * (before - bound) / (before - distance)
        return float("inf")


def train(name: str, config: TrialConfig, data: datasets.ImageData, quality: Quality, seconds: float) -> Run:
    """Train for a time, scoring the collapsed sampler at ``CHECKPOINTS`` equal parts of it."""
    batch = config.train.batch_size
    trial = Trainer(replace(config, train=replace(config.train, steps=WARM)), data)
    trial.train_epoch()
    start = time.perf_counter()
    trial.train_epoch()
    step = (time.perf_counter() - start) / WARM
    steps = max(1, min(round(seconds / CHECKPOINTS / step), len(data.train) // batch))
    epochs = max(1, round(seconds / step / steps))
    print(f"{name}: {step:.3f} s a step of {batch}, {epochs} × {steps} steps", flush=True)
    trainer = Trainer(replace(config, train=replace(config.train, steps=steps, epochs=epochs)), data)
    run, trained, due = Run(name, [], []), 0.0, seconds / CHECKPOINTS
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        trainer.train_epoch()
        trained += time.perf_counter() - start
        if trained >= due or epoch == epochs:
            measured = trainer.family.interim(trainer.averaged, trainer.config, data, quality)
            run.seconds.append(trained)
            run.distances.append(measured["quality/classifier_fd_collapsed"])
            print(f"  {trained:6.0f} s  classifier_fd {run.distances[-1]:.1f}", flush=True)
            due += seconds / CHECKPOINTS
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="training time of each")
    parser.add_argument("--data", default="mnist", choices=["digits", "mnist", "fashion-mnist"])
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chosen_data = DataConfig(name=chosen.data)
    try:
        data = datasets.load(chosen_data)
    except datasets.DataError as error:
        print(f"{chosen.data} not found: {error}\nin its place: digits", flush=True)
        chosen_data = DataConfig()
        data = datasets.load(chosen_data)
    evaluate = EvaluateConfig(steps=(100,), quality=("classifier_fd",), samples=1024)
    quality = Quality.cached(
        evaluate.quality,
        data,
        Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "linearizer-sweeps",
        "cpu",
    )
    for label, row in references(data, evaluate, quality).items():
        print(f"{label}: classifier_fd {row.summary['quality/classifier_fd_collapsed']:.1f}", flush=True)
    shared = {"data": {"name": chosen_data.name}, "seed": chosen.seed}
    large = chosen_data.name != "digits"
    ours = (
        {"model": {"flow": {"depth": 8, "width": 256}, "operator": {"rank": 128}}} if large else {"train": {"lr": 3e-3}}
    )
    published = {"recipe": "paper", "train": {"batch_size": 32}}
    runs = []
    for name, values in (("published configuration", published), ("default recipe", ours)):
        config = replace(from_mapping(TrialConfig, expand({**values, **shared})), evaluate=evaluate)
        runs.append(train(name, config, data, quality, chosen.seconds))
    theirs, own = runs
    best = min(theirs.distances)
    reached = theirs.seconds[theirs.distances.index(best)]
    figures = {
        "time_to_quality": reached / own.first(best),
        "better_at_checkpoints": sum(a < b for a, b in zip(own.distances, theirs.distances, strict=False))
        / min(len(own.distances), len(theirs.distances)),
        "classifier_fd_default": own.distances[-1],
        "classifier_fd_published": theirs.distances[-1],
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
