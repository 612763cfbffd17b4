"""Callbacks that run during the training of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.marks import Registration


class Callback:
    """Called at the end of each epoch and of the trial, by the leading worker only; each method is optional.

    Values returned by ``epoch`` are recorded as ``train/<name>/<key>``, those returned by ``end`` as ``<name>/<key>``.
    ``keys`` lists those keys of ``end`` that a search may use as its objective.
    """

    keys: Sequence[str] = ()

    def epoch(self, epoch: int, metrics: Mapping[str, float], model: Any) -> Mapping[str, float] | None:
        """Called after an epoch (1-based) with its metrics and the averaged model; returns additional metrics."""
        return None

    def end(self, summary: Mapping[str, float], model: Any, folder: Path) -> Mapping[str, float] | None:
        """Called after the evaluation with the final metrics; files written to ``folder`` become an artifact."""
        return None


class Callbacks:
    """The callbacks of a trial, created when the first one is called."""

    def __init__(self, config: TrialConfig) -> None:
        self._config = config

    @cached_property
    def _made(self) -> list[tuple[Registration, Callback]]:
        config = self._config
        registered = config.plugged.get("callback", {})
        return [(registered[name], registered[name].call(config, config=config)) for name in config.callbacks]

    @torch.no_grad()
    def epoch(self, epoch: int, metrics: Mapping[str, float], model: Any) -> dict[str, float]:
        """The metrics that all callbacks add to an epoch, as ``train/<name>/<key>``."""
        found: dict[str, float] = {}
        for registration, made in self._made:
            for key, value in (made.epoch(epoch, metrics, model) or {}).items():
                found[f"train/{registration.name}/{key}"] = _number(registration, key, value)
        return found

    @torch.no_grad()
    def end(self, summary: Mapping[str, float], model: Any, artifacts: Path) -> tuple[dict[str, float], list[str]]:
        """The metrics that all callbacks add to the final ones, and the artifact folders that they wrote to."""
        found: dict[str, float] = {}
        written = []
        for registration, made in self._made:
            folder = artifacts / registration.name
            folder.mkdir(parents=True, exist_ok=True)
            for key, value in (made.end(summary, model, folder) or {}).items():
                found[f"{registration.name}/{key}"] = _number(registration, key, value)
            if any(folder.iterdir()):
                written.append(registration.name)
            else:
                folder.rmdir()
        return found, written


def keys_of(config: TrialConfig) -> list[str]:
    """The final metrics that a trial's callbacks declare."""
    registered = config.plugged.get("callback", {})
    made = {name: registered[name].make for name in config.callbacks if name in registered}
    return [f"{name}/{key}" for name, kind in made.items() for key in getattr(kind, "keys", ())]


def _number(registration: Registration, key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise PluginError(
            f"{registration.where}: callback {registration.name}: {key} must be a number, got {type(value).__name__}"
        ) from None
