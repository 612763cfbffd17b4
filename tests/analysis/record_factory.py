"""Writes small sweeps in the format of docs/record.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FD = "quality/classifier_fd_collapsed"
DEPTH, RANK, LR = "model.flow.depth", "model.operator.rank", "train.lr"
SPACE = {
    DEPTH: {"int": [1, 6]},
    RANK: {"int": [4, 64], "log": True},
    LR: {"float": [1e-3, 1e-2], "log": True},
}
START = 1_700_000_000.0


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested mappings."""
    values: dict[str, Any] = {}
    for name, value in leaves.items():
        *path, last = name.split(".")
        inner = values
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return values


class SweepFiles:
    """A sweep's folder, written line by line."""

    def __init__(
        self,
        storage: Path,
        name: str = "demo",
        *,
        space: Mapping[str, Any] | None = None,
        objective: Mapping[str, str] | None = None,
        state: str = "finished",
        seeds: Sequence[int] = (0,),
        sampler: str = "grid",
        constraints: Mapping[str, str] | None = None,
    ) -> None:
        self.path = storage / name
        self.name = name
        (self.path / "journal").mkdir(parents=True)
        space = SPACE if space is None else space
        search = {"space": space, "seeds": list(seeds), "sampler": sampler, "constraints": constraints or {}}
        self.sweep = {
            "name": name,
            "family": "diffusion",
            "spec": {"name": name, "search": search},
            "axes": list(space),
            "objective": {FD: "min"} if objective is None else objective,
            "state": state,
            "started": START,
            "ended": START + 1000,
            "provenance": {"git": {"commit": "0" * 40, "dirty": False}},
            "best": None,
        }
        self.write_sweep()

    def write_sweep(self) -> None:
        (self.path / "sweep.json").write_text(json.dumps(self.sweep))

    def journal(self, trial: str) -> Path:
        return self.path / "journal" / f"{trial}.jsonl"

    def add(self, journal: str, event: str, *, time: float = START, **fields: Any) -> None:
        """Append one line."""
        with self.journal(journal).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "time": time, **fields}) + "\n")

    def begin(
        self,
        trial: str,
        number: int,
        point: Mapping[str, Any] | None = None,
        *,
        kind: str = "search",
        label: str | None = None,
        seed: int | None = 0,
        attempt: int = 1,
        resumed_epoch: int = 0,
        time: float = START,
        config_hash: str | None = None,
    ) -> None:
        """The line that a trial starts with; ``point`` gives its axes."""
        leaves = dict(point or {})
        self.add(
            trial,
            "trial",
            time=time,
            sweep=self.name,
            trial=trial,
            kind=kind,
            label=label,
            number=number,
            config_hash=config_hash or f"{kind[0]}{number:011d}",
            seed=seed,
            attempt=attempt,
            resumed_epoch=resumed_epoch,
            overrides=leaves,
            config=nested({**leaves, "seed": seed}) if leaves else {},
            provenance={},
        )

    def epoch(self, trial: str, epoch: int, value: float | str | None = None, *, time: float = START) -> None:
        """One epoch's line, with the objective where it was evaluated."""
        metrics: dict[str, Any] = {"train/loss": 1 / epoch}
        if value is not None:
            metrics[FD] = value
        self.add(trial, "epoch", time=time, epoch=epoch, metrics=metrics)

    def end(self, trial: str, state: str = "finished", epoch: int = 80, *, reason: str | None = None) -> None:
        """The last line, 60 seconds after the first."""
        self.add(trial, "end", time=START + 60, state=state, epoch=epoch, reason=reason)

    def finished(
        self,
        number: int,
        point: Mapping[str, Any],
        value: float | str,
        *,
        seed: int = 0,
        curve: Mapping[int, float] | None = None,
        **metrics: float | str,
    ) -> str:
        """A trial of the search that ran to its end with that objective; returns its id."""
        trial = f"t{number:03d}-s{seed}"
        self.begin(trial, number, point, seed=seed)
        self.complete(trial, value, curve=curve, **metrics)
        return trial

    def complete(
        self,
        trial: str,
        value: float | str,
        *,
        curve: Mapping[int, float] | None = None,
        **metrics: float | str,
    ) -> None:
        """Curve, summary and end of a trial that has begun."""
        summary: dict[str, float | str] = {FD: value, **metrics}
        if curve is not None:
            steps, values = list(curve), list(curve.values())
            self.add(trial, "curve", metric="nfe/classifier_fd", steps=steps, values=values)
            summary |= {f"quality/classifier_fd_k{step}": v for step, v in curve.items()}
        self.add(trial, "summary", metrics=summary)
        self.end(trial)

    def stopped(self, number: int, point: Mapping[str, Any], value: float, *, epoch: int = 20, seed: int = 0) -> str:
        """A trial that was stopped early with that objective."""
        trial = f"t{number:03d}-s{seed}"
        self.begin(trial, number, point, seed=seed)
        self.epoch(trial, epoch, value)
        self.end(trial, "stopped", epoch, reason=f"rung {epoch}")
        return trial

    def failed(self, number: int, point: Mapping[str, Any], reason: str, *, seed: int = 0) -> str:
        """A trial that failed before its first evaluation."""
        trial = f"t{number:03d}-s{seed}"
        self.begin(trial, number, point, seed=seed)
        self.end(trial, "failed", 1, reason=reason)
        return trial

    def control(self, number: int, label: str, point: Mapping[str, Any], value: float, **kwargs: Any) -> str:
        """A control that ran to its end."""
        trial = f"c{number:03d}-s0"
        self.begin(trial, number, point, kind="control", label=label)
        self.complete(trial, value, **kwargs)
        return trial

    def reference(self, number: int, label: str, value: float) -> str:
        """A reference: no model, no seed."""
        trial = f"r{number:03d}"
        self.begin(trial, number, kind="reference", label=label, seed=None)
        self.complete(trial, value, **{"test/classifier_fd_collapsed": value + 0.5})
        return trial
