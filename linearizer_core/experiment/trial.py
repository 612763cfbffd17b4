"""One trial from its configuration to its record: train, evaluate, and write the journal along the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from linearizer_core.experiment import checkpoint
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.artifacts import write_curves, write_grids, write_spectra
from linearizer_core.experiment.callbacks import Callbacks
from linearizer_core.experiment.configuration import EXTENSIBLE, DataConfig, TrialConfig, to_mapping
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.evaluation import Evaluation, Quality, needed_classifier
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.journal import DIVERGED, Journal, TrialIdentity, fold, lines
from linearizer_core.experiment.nested import flatten
from linearizer_core.experiment.precision import whole_float32
from linearizer_core.experiment.redraws import over_draws
from linearizer_core.experiment.sample_metrics import Measure, measures
from linearizer_core.experiment.state import Loaded, load_state, remove_state, save_state
from linearizer_core.experiment.system import Usage
from linearizer_core.experiment.together import Together
from linearizer_core.experiment.training import EpochResult, Trainer, TrainingDiverged, fit
from linearizer_core.experiment.workers import ALONE, LOST, Workers, present
from linearizer_core.plugins.errors import reason
from linearizer_core.plugins.loading import files_of

SAVE_SECONDS = 30.0
"""Interval between saved states, and so the most training that a crash can cost."""


@dataclass(frozen=True)
class TrialFiles:
    """Where a trial's record is written; ``cache`` holds the feature classifiers of all trials."""

    journal: Path
    artifacts: Path
    state: Path
    cache: Path


@dataclass(frozen=True)
class Trial:
    """A configuration, its identity, and where its record is written."""

    config: TrialConfig
    identity: TrialIdentity
    files: TrialFiles


def run(
    config: TrialConfig,
    identity: TrialIdentity,
    files: TrialFiles,
    provenance: Mapping[str, Any],
    device: str,
    *,
    workers: Workers = ALONE,
    stop: Callable[[], bool] = lambda: False,
    save_seconds: float = SAVE_SECONDS,
) -> Iterator[dict[str, Any]]:
    """Run a trial, yielding ``{"epoch", metrics…}`` at each evaluated epoch; the last result also has ``state``.

    The state is ``finished``, ``failed``, or ``interrupted`` if ``stop()`` was true after an epoch; the trial then
    continues from there when it is run again. Any exception other than divergence is raised after the journal has an
    ``interrupted`` end with the reason: the caller decides on another attempt. The training state is saved at the end
    of an epoch if the last save was ``save_seconds`` ago, and when the trial is stopped.

    Several workers are processes that have ``joined`` and all run the trial in step: they yield equally often and the
    same values. Only the leader reads and writes files of the record and calls ``stop``.

    Raises ``ValueError`` for workers other than those that this process is joined with.
    """
    trial = Trial(config, identity, files)
    for result in _carried_out(trial, provenance, device, fit, workers, stop, save_seconds):
        if result is not None:
            yield result


def run_together(
    trials: Sequence[Trial],
    provenance: Mapping[str, Any],
    device: str,
    *,
    stop: Callable[[TrialIdentity], bool] = lambda identity: False,
    left: Callable[[TrialIdentity], bool] = lambda identity: False,
    save_seconds: float = SAVE_SECONDS,
) -> Generator[tuple[TrialIdentity, dict[str, Any]], None, None]:
    """Run trials that train at once by ``Together``, yielding each trial's results like ``run``.

    They take turns: an epoch of all, then each one's measurements and records; trials that continue from an earlier
    epoch than others catch up first. The records are those of trials run alone, up to rounding, and name all of them in
    ``provenance.together``. A trial that fails, raises, or is stopped does not stop the others; the first error is
    raised after the last trial. After each result of a trial, ``left`` is asked whether to end it there, without a line
    in its journal.
    """
    together = Together()
    origin = {**provenance, "together": [trial.identity.trial for trial in trials]}
    running = [
        _Member(trial, together, origin, device, partial(stop, trial.identity), save_seconds) for trial in trials
    ]
    errors: list[Exception] = []
    try:
        while running:
            behind = min(member.epoch for member in running)
            for member in [member for member in running if member.epoch == behind]:
                try:
                    while (result := next(member.results)) is not None:
                        yield member.trial.identity, result
                        if left(member.trial.identity):
                            member.results.close()
                except StopIteration:
                    running.remove(member)
                except Exception as error:  # noqa: BLE001 - raised below, after the others have ended
                    errors.append(error)
                    running.remove(member)
    finally:
        for member in running:
            member.results.close()
    if errors:
        raise errors[0]


class _Member:
    """A trial that trains together with others, and its results."""

    def __init__(
        self,
        trial: Trial,
        together: Together,
        provenance: Mapping[str, Any],
        device: str,
        stop: Callable[[], bool],
        save_seconds: float,
    ) -> None:
        self.trial = trial
        self.results = _carried_out(trial, provenance, device, self._join, ALONE, stop, save_seconds)
        self._together = together
        self._trainer: Trainer | None = None

    @property
    def epoch(self) -> int:
        """The epoch reached by its results; -1 before it can train."""
        return -1 if self._trainer is None else self._together.reached(self._trainer)

    def _join(self, trainer: Trainer) -> Generator[EpochResult, None, None]:
        self._trainer = trainer
        return self._together.join(trainer)


def _carried_out(
    trial: Trial,
    provenance: Mapping[str, Any],
    device: str,
    epochs: Callable[[Trainer], Generator[EpochResult, None, None]],
    workers: Workers,
    stop: Callable[[], bool],
    save_seconds: float,
) -> Generator[dict[str, Any] | None, None, None]:
    """The results of a trial trained by ``epochs``; None each time before it trains the next epoch."""
    config, identity, files = trial.config, trial.identity, trial.files
    if workers != present():
        raise ValueError(f"{workers} are to run the trial, and this process is joined as {present()}")
    journal = workers.together(lambda: Journal(files.journal if workers.leads else None))
    loaded = workers.led(lambda: _state_of(config, files))
    saved = loaded.state
    epoch = int(saved["trainer"]["epoch"]) if saved else 0
    workers.together(lambda: journal.trial(identity, to_mapping(config), provenance, resumed_epoch=epoch))
    saver = _Saver(files.state, journal, workers, save_seconds)
    try:
        for damage in loaded.damaged:
            saver.warn(f"a saved state could not be read, and training goes on from epoch {epoch}: {damage}")
        data = _data(config.data, workers)
        family = family_of(config)
        quality = _quality(measures(family.metrics(config), config.evaluate), config.data, files.cache, device, workers)
        if _on_gpu(device):
            torch.cuda.reset_peak_memory_stats(device)
        trainer = Trainer(config, data, device, workers)
        callbacks = Callbacks(config)
        usage = Usage(device)
        seconds = 0.0
        if saved:
            trainer.load_state_dict(saved["trainer"])
            seconds = saved["seconds"]
        stopped = trainer.epoch == config.train.epochs and workers.led(stop)
        with closing(epochs(trainer)) as results:
            yield None
            for result in results:
                started = time.perf_counter() - result.seconds
                epoch = result.epoch
                for message in trainer.warnings:
                    saver.warn(message)
                if epoch % config.evaluate.every == 0 and epoch < config.train.epochs:
                    with whole_float32():
                        measured = workers.agreed(family.interim(trainer.averaged, config, data, quality))
                    _check_finite(measured, epoch)
                    reported: dict[str, Any] = {"epoch": epoch, **measured}
                else:
                    measured, reported = {}, {}
                told = result.metrics | measured
                told |= workers.led(partial(callbacks.epoch, epoch, told, trainer.averaged))
                journal.epoch(epoch, told | usage.since_last())
                seconds += time.perf_counter() - started
                if reported:
                    yield reported
                stopped = workers.led(stop)
                if stopped or saver.due:
                    saver.save(trainer, seconds)
                if stopped:
                    break
                yield None  # not before: who trains with others may have been trained further by then
        if stopped:
            journal.end("interrupted", epoch, "stopped on request")
            yield {"epoch": epoch, "state": "interrupted"}
            return
        started = time.perf_counter()
        with whole_float32():
            family.settle(trainer.averaged, data)
            evaluation = family.evaluate(trainer.averaged, config, data, quality)
            drawn = over_draws(family, trainer.averaged, config, quality, evaluation.summary)
        cost = _cost(seconds, time.perf_counter() - started, device, workers)
        summary = workers.agreed(evaluation.summary | drawn | cost)
        _check_finite({key: summary[key] for key in family.interim_keys(config)}, epoch)

        if config.train.schedule in EXTENSIBLE:
            saver.save(trainer, seconds)

        def written() -> tuple[dict[str, float], list[str]]:
            names = write_artifacts(files.artifacts, trainer, evaluation)
            more, folders = callbacks.end(summary, trainer.averaged, files.artifacts)
            return more, names + folders

        added, artifacts = workers.led(written)
        summary |= added

        def record() -> None:
            for name in artifacts:
                journal.artifact(name)
            for metric, curve in evaluation.curves.items():
                journal.curve(metric, curve)
            journal.summary(summary)
            journal.end("finished", epoch)
            if config.train.schedule not in EXTENSIBLE:
                saver.remove()

        workers.led(record)
        yield {"epoch": epoch, "state": "finished", **summary}
    except LOST as error:
        journal.end("failed", epoch, f"{DIVERGED}{error}")
        saver.remove()
        yield {"epoch": epoch, "state": "failed", "reason": str(error)}
    except Exception as error:
        # Not final: the caller decides on another attempt, maybe hours later, or calls it failed.
        journal.end("interrupted", epoch, reason(error, files_of(config.plugins)))
        raise


def _state_of(config: TrialConfig, files: TrialFiles) -> Loaded:
    """The state to continue from.

    The state of a training of another length is useless, and removed, unless the learning rate was constant.
    """
    head = fold(lines(files.journal, files.journal.read_bytes())).head if files.journal.exists() else None
    epochs = flatten(head["config"]).get("train.epochs") if head is not None else None
    if epochs not in (None, config.train.epochs) and config.train.schedule not in EXTENSIBLE:
        remove_state(files.state)
    return load_state(files.state)


class _Saver:
    """Saves a trial's state at intervals; if it cannot be saved, that is a warning and does not end the trial."""

    def __init__(self, path: Path, journal: Journal, workers: Workers, seconds: float) -> None:
        self._path = path
        self._journal = journal
        self._leads = workers.leads
        self._seconds = seconds
        self._last = time.perf_counter()
        self._told: set[str] = set()

    @property
    def due(self) -> bool:
        """Whether the last save is longer ago than the interval."""
        return time.perf_counter() - self._last > self._seconds

    def save(self, trainer: Trainer, train_seconds: float) -> None:
        """Save the state, on the leading worker."""
        if not self._leads:
            return
        try:
            save_state(self._path, {"trainer": trainer.state_dict(), "seconds": train_seconds})
            self._journal.saved(trainer.epoch)
        except OSError as error:
            self.warn(f"the state of the training could not be saved: {error}")
        self._last = time.perf_counter()

    def remove(self) -> None:
        """Remove saved states, on the leading worker; the trial has ended even if they cannot be removed."""
        if self._leads:
            with suppress(OSError):
                remove_state(self._path)

    def warn(self, message: str) -> None:
        """Write a warning to the journal, once."""
        if message not in self._told:
            self._told.add(message)
            self._journal.warning(message)


@lru_cache(maxsize=2)
def _cached_quality(metrics: tuple[Measure, ...], data: DataConfig, cache: Path, device: str) -> Quality:
    """Held-out features and the classifier, cached for the life of the process, as all trials of a sweep share them."""
    return Quality.cached(metrics, datasets.load(data), cache, device)


def _quality(metrics: tuple[Measure, ...], data: DataConfig, cache: Path, device: str, workers: Workers) -> Quality:
    """The metrics, with the classifier that the leading worker trained or read."""
    if workers.count == 1:
        return _cached_quality(metrics, data, cache, device)
    # Nothing is cached from trial to trial: workers wait for each other as they compute features, and the next trial
    # has other workers.
    images = datasets.load(data)
    classifier = workers.led(lambda: needed_classifier(metrics, images, cache))
    return workers.together(lambda: Quality(metrics, images, classifier, device))


def _data(config: DataConfig, workers: Workers) -> ImageData:
    """The data set; the leading worker downloads it, if necessary, before the others read it.

    Raises ``DataError``, or ``WorkerError`` on other workers, if one has other images than the leader.
    """
    expected = workers.led(lambda: datasets.load(config).checksum)

    def load() -> ImageData:
        data = datasets.load(config)
        if data.checksum != expected:
            raise datasets.DataError(
                f"{config.name}: the images that worker {workers.rank} reads differ from those of worker 0 (checksums "
                f"{data.checksum[:12]} and {expected[:12]})"
            )
        return data

    return workers.together(load)


def _check_finite(metrics: Mapping[str, float], epoch: int) -> None:
    """Raise ``TrainingDiverged`` if the sampler returns no valid images: weights can break in an epoch's last step."""
    broken = [key for key, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingDiverged(f"not finite in epoch {epoch}: {', '.join(broken)}")


def _cost(train_seconds: float, evaluate_seconds: float, device: str, workers: Workers) -> dict[str, float]:
    cost = {"cost/train_seconds": train_seconds, "cost/evaluate_seconds": evaluate_seconds}
    if _on_gpu(device):
        cost["cost/gpu_seconds"] = workers.count * (train_seconds + evaluate_seconds)
        cost["cost/peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return cost


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def write_artifacts(folder: Path, trainer: Trainer, evaluation: Evaluation) -> list[str]:
    """Write the checkpoint, image grids, curves and spectra of a trained model; returns their names in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / "checkpoint", trainer.averaged, trainer.config)
    return [
        "checkpoint",
        *write_grids(folder, evaluation.grids),
        *write_curves(folder, evaluation.curves),
        *write_spectra(folder, evaluation.spectra),
    ]
