"""The cost of a sweep's missing trials: hours, GPU-hours and, if a rate is given, money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import state_of
from linearizer_core.experiment.nested import flatten
from linearizer_core.words import counted
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Sweep
from sweeps.words import duration

ALIKE = ("family", "data.name", "data.size", "data.images", "train.steps")
"""Leaves that must agree for another sweep's trials to predict how long an epoch takes here."""


@dataclass(frozen=True)
class Price:
    """The expected cost of trials: seconds summed over them, summed over their GPUs, and by the clock.

    ``measured`` counts the finished trials that it is estimated from, and ``of`` says whose they are. ``money`` is None
    without ``resources.price_per_gpu_hour``. In a race, whose number of trials is not known before, these are the
    fewest; there are at most ``most_trials``, which take ``most_wall_seconds``.
    """

    trials: int
    seconds: float
    gpu_seconds: float
    wall_seconds: float
    money: float | None
    measured: int
    of: str
    most_trials: int
    most_wall_seconds: float

    def __str__(self) -> str:
        hours = self.gpu_seconds / 3600
        gpu = f", {self._range(f'{hours:.3g}', f'{hours * self._most:.3g}')} GPU-hours" if hours else ""
        cost = self.money
        money = "" if cost is None else f", {self._range(f'{cost:,.2f}', f'{cost * self._most:,.2f}')}"
        money += " at the price per GPU-hour" if money else ""
        time = self._range(duration(self.wall_seconds), duration(self.most_wall_seconds))
        trials = self._range(str(self.trials), str(self.most_trials))
        return (
            f"about {time} for {trials} {'trial' if self.most_trials == 1 else 'trials'}{gpu}{money} "
            f"(by the epochs of {counted(self.measured, 'finished trial')} of {self.of})"
        )

    @property
    def _most(self) -> float:
        return self.most_trials / self.trials

    def _range(self, least: str, most: str) -> str:
        return least if self.most_trials == self.trials or least == most else f"{least} to {most}"


def price_of(sweep: Sweep, trials: int, concurrency: int, most: int) -> Price | None:
    """The price of this many trials, or up to ``most``, so many at a time; None if no finished trial says how long.

    It is estimated from the sweep's own trials or else from other sweeps of the same family and images in the storage
    folder. Early stopping makes it less.
    """
    paths = SweepPaths(sweep.folder)
    own = list(_epoch_seconds(sweep, paths))
    others = [] if own else [
        seconds
        for file in sorted(Path(sweep.model.storage).glob("*/sweep.json"))
        for seconds in _epoch_seconds(sweep, SweepPaths(file.parent))
    ]  # fmt: skip
    found = own or others
    if not found or not trials:
        return None
    resources = sweep.model.resources
    each = fmean(found) * sweep.base_leaves["train.epochs"]
    most, seconds = max(trials, most), trials * each
    gpu_seconds = seconds * resources.workers * resources.gpus_per_worker
    rate = resources.price_per_gpu_hour
    return Price(
        trials, seconds, gpu_seconds, seconds / max(1, min(concurrency, trials)),
        None if rate is None else rate * gpu_seconds / 3600,
        len(found), "this sweep" if own else "other sweeps",
        most, most * each / max(1, min(concurrency, most)),
    )  # fmt: skip


def _epoch_seconds(sweep: Sweep, paths: SweepPaths) -> Iterator[float]:
    """Seconds per epoch, evaluation included, of each finished trial that is like those of the sweep."""
    base = sweep.base_leaves
    for path in journal_files(paths.journals):
        if path.stem.startswith("r"):
            continue
        state = state_of(path)
        if state.state != "finished" or state.head is None or state.reused_from is not None or not state.epoch:
            continue
        leaves = flatten(state.head["config"])
        if all(leaves.get(name, base[name]) == base[name] for name in ALIKE):
            # Trials that train together take a slot for as long as one.
            yield state.worked / state.epoch / len(state.head["provenance"].get("together", [None]))
