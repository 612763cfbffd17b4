"""One trial from its configuration to its record: train, evaluate, and write the journal as it goes."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from linearizer_core import checkpoint
from linearizer_core import data as datasets
from linearizer_core.artifacts import write_curves, write_grids, write_spectra
from linearizer_core.config import DataConfig, Metric, TrialConfig, to_mapping
from linearizer_core.evaluation import Evaluation, Quality
from linearizer_core.families import family_of
from linearizer_core.journal import Journal, TrialIdentity
from linearizer_core.training import Trainer, TrainingDiverged, fit

SAVE_SECONDS = 30.0
"""How much training a crash may cost: the state to go on from is saved this often."""


@dataclass(frozen=True)
class TrialFiles:
    """Where a trial's record goes; ``cache`` holds the feature classifiers of all trials."""

    journal: Path
    artifacts: Path
    state: Path
    cache: Path


@lru_cache(maxsize=2)
def _quality(metrics: tuple[Metric, ...], data: DataConfig, cache: Path, device: str) -> Quality:
    """Held-out features and the classifier, kept while the process lives: every trial of a sweep uses the same."""
    return Quality.cached(metrics, datasets.load(data), cache, device)


def run(
    config: TrialConfig, identity: TrialIdentity, files: TrialFiles, provenance: Mapping[str, Any], device: str
) -> Iterator[dict[str, Any]]:
    """Carry out a trial, yielding ``{"epoch", metrics…}`` at each evaluated epoch; the last has ``state`` as well.

    The state is ``finished`` or ``failed``. Any other exception than a diverged loss is raised, once the journal has a
    ``failed`` end: whoever called decides on another attempt.
    """
    saved = _saved_state(files.state)
    journal = Journal(files.journal)
    epoch = int(saved["epoch"]) if saved else 0
    journal.trial(identity, to_mapping(config), provenance, resumed_epoch=epoch)
    try:
        data = datasets.load(config.data)
        family = family_of(config)
        quality = _quality(family.metrics(config), config.data, files.cache, device)
        if _on_gpu(device):
            torch.cuda.reset_peak_memory_stats(device)
        trainer = Trainer(config, data, device)
        if saved:
            trainer.load_state_dict(saved)
        started = time.perf_counter()
        last_saved = started
        for result in fit(trainer):
            metrics, epoch = dict(result.metrics), result.epoch
            final = result.epoch == config.train.epochs
            if result.epoch % config.evaluate.every == 0 and not final:
                measured = family.interim(trainer.averaged, config, data, quality)
                _check_finite(measured, result.epoch)
                journal.epoch(result.epoch, metrics | measured)
                yield {"epoch": result.epoch, **measured}
            else:
                journal.epoch(result.epoch, metrics)
            if time.perf_counter() - last_saved > SAVE_SECONDS and not final:
                _save_state(files.state, trainer)
                last_saved = time.perf_counter()
        seconds = time.perf_counter() - started
        family.settle(trainer.averaged, data)
        evaluation = family.evaluate(trainer.averaged, config, data, quality)
        _check_finite({key: evaluation.summary[key] for key in family.interim_keys(config)}, trainer.epoch)
        summary = evaluation.summary | _cost(seconds, time.perf_counter() - started - seconds, device)
        for name in write_artifacts(files.artifacts, trainer, evaluation):
            journal.artifact(name)
        for metric, curve in evaluation.curves.items():
            journal.curve(metric, curve)
        journal.summary(summary)
        journal.end("finished", trainer.epoch)
        files.state.unlink(missing_ok=True)
        yield {"epoch": trainer.epoch, "state": "finished", **summary}
    # In training, or of what came of it. Torch does not list the second one as public, though it documents it.
    except (ArithmeticError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        journal.end("failed", epoch, f"diverged: {error}")
        files.state.unlink(missing_ok=True)
        yield {"epoch": epoch, "state": "failed", "reason": str(error)}
    except Exception as error:
        # Another attempt, if there is one, takes this back with its first line.
        journal.end("failed", epoch, f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}")
        raise


def _saved_state(path: Path) -> dict[str, Any] | None:
    """What an interrupted trial goes on from; None where there is nothing that can be read: it then starts over."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return state


def _check_finite(metrics: Mapping[str, float], epoch: int) -> None:
    """Raise ``TrainingDiverged`` when the sampler gives no images: weights can break in an epoch's last step."""
    broken = [key for key, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingDiverged(f"not finite in epoch {epoch}: {', '.join(broken)}")


def _cost(train_seconds: float, evaluate_seconds: float, device: str) -> dict[str, float]:
    cost = {"cost/train_seconds": train_seconds, "cost/evaluate_seconds": evaluate_seconds}
    if _on_gpu(device):
        cost["cost/gpu_seconds"] = train_seconds + evaluate_seconds
        cost["cost/peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return cost


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _save_state(path: Path, trainer: Trainer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(trainer.state_dict(), temporary)
    temporary.replace(path)


def write_artifacts(folder: Path, trainer: Trainer, evaluation: Evaluation) -> list[str]:
    """The checkpoint, image grids, curves and spectra of a trained model; their names in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / "checkpoint", trainer.averaged, trainer.config)
    return [
        "checkpoint",
        *write_grids(folder, evaluation.grids),
        *write_curves(folder, evaluation.curves),
        *write_spectra(folder, evaluation.spectra),
    ]
