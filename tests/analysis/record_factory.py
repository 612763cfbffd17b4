"""Writes small sweeps in the format of docs/record.md."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd

from analysis import Record, Table, load
from analysis.figures.style import Chart
from analysis.record.launches import LOCK

FD = "quality/classifier_fd_collapsed"
DEPTH, RANK, LR = "model.flow.depth", "model.operator.rank", "train.lr"
SPACE = {
    DEPTH: {"int": [1, 6]},
    RANK: {"int": [4, 64], "log": True},
    LR: {"float": [1e-3, 1e-2], "log": True},
}
START = 1_700_000_000.0


def point(depth: int = 3, rank: int = 16, lr: float = 2e-3) -> dict[str, object]:
    """A place in ``SPACE``."""
    return {DEPTH: depth, RANK: rank, LR: lr}


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


def assert_same(found: Record, expected: Record) -> None:
    """Two records are equal: columns in their order, types with their categories, values to the last bit."""
    pd.testing.assert_frame_equal(found.runs, expected.runs, check_exact=True)
    pd.testing.assert_frame_equal(found.curves, expected.curves, check_exact=True)
    assert [sweep.document for sweep in found.sweeps] == [sweep.document for sweep in expected.sweeps]
    assert found.counts == expected.counts


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
        tick: float = 0.0,
    ) -> None:
        """Every line is ``tick`` seconds later than the one before, where no time is given."""
        self.path = storage / name
        self.name = name
        self.tick = tick
        self.lines = 0
        self.launch: IO[str] | None = None
        (self.path / "journal").mkdir(parents=True)
        space = SPACE if space is None else space
        search = {"space": space, "seeds": list(seeds), "sampler": sampler, "constraints": constraints or {}}
        self.sweep = {
            "id": hashlib.sha256(name.encode()).hexdigest()[:32],
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
            "best_value": 1.0,
        }
        self.write_sweep()

    def write_sweep(self) -> None:
        """Write ``sweep.json``; a sweep that runs has a launch, which holds its lock as long as this object lives."""
        (self.path / "sweep.json").write_text(json.dumps(self.sweep))
        if self.sweep["state"] == "running" and self.launch is None:
            self.launch = (self.path / LOCK).open("w")
            fcntl.flock(self.launch, fcntl.LOCK_EX)

    def journal(self, trial: str) -> Path:
        return self.path / "journal" / f"{trial}.jsonl"

    def add(self, journal: str, event: str, *, time: float | None = None, **fields: Any) -> None:
        """Append one line."""
        self.lines += 1
        time = START + self.tick * self.lines if time is None else time
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
        time: float | None = None,
        config_hash: str | None = None,
        config: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """The line that a trial starts with; ``point`` gives its axes, ``config`` the other leaves."""
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
            config=nested({**(config or {}), **leaves, "seed": seed}) if leaves else {},
            provenance={},
            **fields,
        )

    def epoch(self, trial: str, epoch: int, value: float | str | None = None, *, time: float | None = None) -> None:
        """One epoch's line, with the objective where it was evaluated."""
        metrics: dict[str, Any] = {"train/loss": 1 / epoch}
        if value is not None:
            metrics[FD] = value
        self.add(trial, "epoch", time=time, epoch=epoch, metrics=metrics)

    def end(self, trial: str, state: str = "finished", epoch: int = 80, *, reason: str | None = None) -> None:
        """The last line, 60 seconds after the first where lines do not tick."""
        time = START + 60 + self.tick * (self.lines + 1)
        self.add(trial, "end", time=time, state=state, epoch=epoch, reason=reason)

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


def gridded(tmp_path: Path) -> Record:
    """Depths 1 and 2 at ranks 4, 8 and 16, three seeds; the value is 100 / (depth rank), by 0.9, 1 and 1.1."""
    space = {DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8, 16]}}
    files = SweepFiles(tmp_path, seeds=(0, 1, 2), space=space)
    places = [(depth, rank) for depth in (1, 2) for rank in (4, 8, 16)]
    for number, (depth, rank) in enumerate(places):
        for seed, factor in enumerate((0.9, 1.0, 1.1)):
            value = factor * 100 / (depth * rank)
            curve = {1: 3 * value, 10: value}
            more = {"cost/params": 1000.0 * depth + rank}
            files.finished(number, {DEPTH: depth, RANK: rank}, value, seed=seed, curve=curve, **more)
    files.reference(0, "real against real", 1.0)
    return load([files.path])


STUDENT = 4.302652729911275 / 3**0.5
"""Half the width of the mean's interval of three values, in their standard deviations."""


def told(figure: Chart) -> list[str]:
    """All that the marks of a figure tell."""
    return [text for mark in figure.marks for text in mark.told]


def frame_of(table: Table) -> pd.DataFrame:
    """What a table's CSV has."""
    return pd.read_csv(io.StringIO(table.to_csv()))
