"""What runs in a trial's process: train, evaluate, and write the journal as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from linearizer_core import checkpoint
from linearizer_core import data as datasets
from linearizer_core.config import TrialConfig, from_mapping, to_mapping
from linearizer_core.evaluation import Evaluation, Quality, evaluate, evaluate_collapsed, interim_keys
from linearizer_core.metrics.features import cached_classifier
from linearizer_core.training import Trainer, TrainingDiverged, fit
from sweeps.artifacts import write_curves, write_grids
from sweeps.journal import Journal, TrialIdentity
from sweeps.paths import SweepPaths

SAVE_SECONDS = 30.0
"""How much training a crash may cost: the state to go on from is saved this often."""


@dataclass(frozen=True)
class Task:
    """One trial as it is sent to a worker: JSON values only."""

    identity: TrialIdentity
    config: Mapping[str, Any]
    root: str
    threads: int
    gpus: float
    provenance: Mapping[str, Any]

    def as_mapping(self) -> dict[str, Any]:
        """For Tune's ``config``."""
        return asdict(self)

    @classmethod
    def of_mapping(cls, values: Mapping[str, Any]) -> Task:
        """The task that ``as_mapping`` gave."""
        return cls(**{**values, "identity": TrialIdentity(**values["identity"])})

    @property
    def paths(self) -> SweepPaths:
        return SweepPaths(Path(self.root))


@lru_cache(maxsize=2)
def _quality(metrics: tuple[str, ...], data: str, cache: Path, device: str) -> Quality:
    """Held-out features and the classifier, kept while the process lives: every trial of a sweep uses the same."""
    images = datasets.load(data)
    return Quality(metrics, images, cached_classifier(images, cache), torch.device(device))


def run_trial(values: dict[str, Any]) -> None:
    """Ray Tune's trainable: reports every evaluated epoch, and the end scalars with the last one."""
    for result in execute(Task.of_mapping(values["task"])):
        tune.report(result)


def execute(task: Task) -> Iterator[dict[str, Any]]:
    """Carry out a trial, yielding ``{"epoch", metrics…}`` at each evaluated epoch; the last has ``state`` as well.

    The state is ``finished`` or ``failed``; any other exception than a diverged loss leaves the journal without
    an end, for whoever decides on another attempt.
    """
    torch.set_num_threads(task.threads)
    config: TrialConfig = from_mapping(TrialConfig, task.config)
    device = "cuda" if task.gpus and torch.cuda.is_available() else "cpu"
    data = datasets.load(config.data.name)
    quality = _quality(config.evaluate.quality, config.data.name, task.paths.cache, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(config, data, device)
    saved = task.paths.training_state(task.identity.trial)
    if saved.exists():
        trainer.load_state_dict(torch.load(saved, map_location=device, weights_only=True))
    journal = Journal(task.paths.journal(task.identity.trial))
    journal.trial(task.identity, to_mapping(config), task.provenance, resumed_epoch=trainer.epoch)
    started = time.perf_counter()
    try:
        last_saved = started
        for result in fit(trainer):
            metrics = dict(result.metrics)
            final = result.epoch == config.train.epochs
            if result.epoch % config.evaluate.every == 0 and not final:
                measured = evaluate_collapsed(trainer.averaged, config.evaluate, quality)
                _check_finite(measured, result.epoch)
                journal.epoch(result.epoch, metrics | measured)
                yield {"epoch": result.epoch, **measured}
            else:
                journal.epoch(result.epoch, metrics)
            if time.perf_counter() - last_saved > SAVE_SECONDS and not final:
                _save_state(saved, trainer)
                last_saved = time.perf_counter()
        seconds = time.perf_counter() - started
        evaluation = evaluate(trainer.averaged, config.evaluate, data, quality)
        _check_finite({key: evaluation.summary[key] for key in interim_keys(config.evaluate)}, trainer.epoch)
        summary = evaluation.summary | _cost(seconds, time.perf_counter() - started - seconds, device)
        _write_artifacts(task, trainer, evaluation, journal)
        for metric, curve in evaluation.curves.items():
            journal.curve(metric, curve)
        journal.summary(summary)
        journal.end("finished", trainer.epoch)
        saved.unlink(missing_ok=True)
        yield {"epoch": trainer.epoch, "state": "finished", **summary}
    # In training, or of what came of it. Torch does not list the second one as public, though it documents it.
    except (ArithmeticError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        journal.end("failed", trainer.epoch, f"diverged: {error}")
        saved.unlink(missing_ok=True)
        yield {"epoch": trainer.epoch, "state": "failed", "reason": str(error)}
    except Exception as error:
        # Another attempt, if there is one, takes this back with its first line.
        journal.end("failed", trainer.epoch, f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}")
        raise


def _check_finite(metrics: Mapping[str, float], epoch: int) -> None:
    """Raise ``TrainingDiverged`` when the sampler gives no images: weights can break in an epoch's last step."""
    broken = [key for key, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingDiverged(f"not finite in epoch {epoch}: {', '.join(broken)}")


def _cost(train_seconds: float, evaluate_seconds: float, device: str) -> dict[str, float]:
    cost = {"cost/train_seconds": train_seconds, "cost/evaluate_seconds": evaluate_seconds}
    if device == "cuda":
        cost["cost/gpu_seconds"] = train_seconds + evaluate_seconds
        cost["cost/peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return cost


def _save_state(path: Path, trainer: Trainer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(trainer.state_dict(), temporary)
    temporary.replace(path)


def _write_artifacts(task: Task, trainer: Trainer, evaluation: Evaluation, journal: Journal) -> None:
    folder = task.paths.artifacts(task.identity.trial)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / "checkpoint", trainer.averaged, trainer.config)
    names = ["checkpoint", *write_grids(folder, evaluation.grids), *write_curves(folder, evaluation.curves)]
    for name in names:
        journal.artifact(name)
