"""Sample quality against training time: the default recipe compared with the published configuration on one machine.

The published configuration is that of the public code for MNIST (U-Net couplings, rank 8, time-varying factors, the
paper's losses and learning rate), rebuilt in this library and sampled as published. Its batch is reduced from 256 to
32, since it would otherwise take only a handful of steps. Ours is the default recipe for the data set. Neither is tuned
for the given time. Both train on the same images for the same time, not counting evaluation.

``time_to_quality`` is the time at which the published configuration reaches its best score, divided by the time at
which ours is first as good: above 1 ours is faster. It is a lower bound, since ours may be as good before its first
checkpoint, and null if the published configuration does not improve on its start, or ours is never as good.
``better_at_checkpoints`` is the share of checkpoints, at equal times, at which ours has the better score.

    python benchmarks/quality.py [--seconds 120] [--data mnist] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.configuration import DataConfig, EvaluateConfig, TrialConfig, from_mapping
from linearizer_core.experiment.evaluation import Quality, references
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.training import Trainer

CHECKPOINTS = 8
WARM = 3


@dataclass
class Run:
    """Training seconds and classifier Fréchet distances of one configuration; the first are untrained."""

    seconds: list[float]
    distances: list[float]

    def first(self, bound: float) -> float | None:
        """The time of the first checkpoint after the start with a distance of at most ``bound``."""
        reached = zip(self.seconds[1:], self.distances[1:], strict=True)
        return next((second for second, distance in reached if distance <= bound), None)


def train(name: str, config: TrialConfig, data: datasets.ImageData, quality: Quality, seconds: float) -> Run:
    """Train for a given time, scoring the collapsed sampler at the start and after ``CHECKPOINTS`` equal parts."""
    batch = config.train.batch_size
    warm = Trainer(replace(config, train=replace(config.train, steps=WARM)), data)
    warm.train_epoch()
    start = time.perf_counter()
    warm.train_epoch()
    step = (time.perf_counter() - start) / WARM
    # Short epochs, so that the clock is checked often; the learning-rate schedule fits the given time.
    steps = max(1, min(round(seconds / (8 * CHECKPOINTS) / step), len(data.train) // batch))
    epochs = max(CHECKPOINTS, round(seconds / step / steps))
    print(f"{name}: {step:.3f} s a step of {batch}, {epochs} × {steps} steps planned", flush=True)
    trainer = Trainer(replace(config, train=replace(config.train, steps=steps, epochs=epochs)), data)
    run, trained = Run([], []), 0.0

    def score() -> None:
        measured = trainer.family.interim(trainer.averaged, trainer.config, data, quality)
        run.seconds.append(trained)
        run.distances.append(measured["quality/classifier_fd_collapsed"])
        print(f"  {trained:6.0f} s  classifier_fd {run.distances[-1]:.1f}", flush=True)

    score()
    for due in range(1, CHECKPOINTS + 1):
        while trained < due * seconds / CHECKPOINTS and trainer.epoch < epochs:
            start = time.perf_counter()
            trainer.train_epoch()
            trained += time.perf_counter() - start
        score()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="training time of each configuration")
    parser.add_argument("--data", default="mnist", choices=["digits", "mnist", "fashion-mnist"])
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chosen_data = DataConfig(name=chosen.data)
    try:
        data = datasets.load(chosen_data)
    except datasets.DataError as error:
        print(f"{chosen.data} not found: {error}\nusing digits instead", flush=True)
        chosen_data = DataConfig()
        data = datasets.load(chosen_data)
    scoring = {"steps": [100], "quality": ["classifier_fd"], "samples": 1024}
    evaluate: EvaluateConfig = from_mapping(EvaluateConfig, scoring)
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "linearizer-sweeps"
    quality = Quality.cached(evaluate.quality, data, cache, "cpu")
    for label, row in references(data, evaluate, quality).items():
        print(f"{label}: classifier_fd {row.summary['quality/classifier_fd_collapsed']:.1f}", flush=True)
    shared = {"data": {"name": chosen_data.name}, "evaluate": scoring, "seed": chosen.seed}
    ours: dict[str, Any] = {"train": {"lr": 3e-3}} if chosen_data.name == "digits" else {}
    theirs = train(
        "published configuration",
        configured({"recipe": "paper", "train": {"batch_size": 32}, **shared}),
        data,
        quality,
        chosen.seconds,
    )
    own = train("default recipe", configured({**ours, **shared}), data, quality, chosen.seconds)
    best = min(theirs.distances)
    reached, as_good = theirs.seconds[theirs.distances.index(best)], own.first(best)
    pairs = list(zip(own.distances[1:], theirs.distances[1:], strict=True))
    figures = {
        "time_to_quality": round(reached / as_good, 2) if reached and as_good else None,
        "better_at_checkpoints": sum(a < b for a, b in pairs) / len(pairs),
        "classifier_fd_default": round(own.distances[-1], 1),
        "classifier_fd_published": round(theirs.distances[-1], 1),
    }
    print(json.dumps(figures))


def configured(values: dict[str, Any]) -> TrialConfig:
    """The configuration of nested values, merged over their recipe."""
    config: TrialConfig = from_mapping(TrialConfig, expand(values))
    return config


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
