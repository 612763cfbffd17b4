"""The status of a sweep, from its record alone."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.record.journal_files import journal_files
from analysis.record.launches import DIED
from analysis.record.sweep_info import RecordError
from analysis.statistics.racing import Standing, race
from linearizer_core.experiment.journal import ENDED, TrialState, state_of
from linearizer_core.words import counted
from sweeps.execution.stop import stop_reason
from sweeps.notebook import html
from sweeps.record.ledger import Ledger
from sweeps.record.lookup import place_of
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.variety import variety
from sweeps.record.writers import running
from sweeps.spec.load import recorded
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem
from sweeps.tracking.cursors import unsent
from sweeps.tracking.views import comparison_link
from sweeps.words import ago, configuration_name, duration, trial_state

WORDS = {"stopped": "stopped early", "waiting": "waiting to continue"}
"""States as they are shown."""

MOST_OPEN = 16
"""The most unended trials that get a line each."""


@dataclass(frozen=True)
class OpenTrial:
    """A trial that has begun and not ended: its state, its epoch, and the latest value of the first objective."""

    trial: str
    state: str
    epoch: int
    epochs: int | None
    value: float | None


@dataclass(frozen=True, repr=False)
class Status:
    """The status of a sweep: trials by state and in ``total``, of which ``reused``; hours spent and projected.

    ``projected`` hours are None until a trial has ended. ``best`` holds the trials of the best configuration so far
    and its first objective. ``unsent`` is what MLflow has not received, in bytes of the journals. ``started`` and
    ``seen`` (when the launch last wrote) are UNIX seconds. ``open`` lists the trials that have begun and not ended, and
    ``set_aside`` counts those that the sweep no longer asks for. ``race`` is the standing of a race by configuration
    number; None without a race, and until every configuration has its first seeds.
    """

    sweep: Sweep
    state: str
    reason: str | None
    trials: Counter[str]
    reused: int
    total: int
    hours: float
    gpu_hours: float
    projected: float | None
    projected_gpu: float | None
    started: float
    seen: float | None
    best: tuple[list[str], float] | None
    unsent: int
    open: Sequence[OpenTrial] = ()
    set_aside: int = 0
    race: Standing | None = None

    @property
    def ended(self) -> int:
        """How many trials have ended and will not run again."""
        return sum(self.trials[state] for state in ENDED)

    @property
    def best_name(self) -> str | None:
        """The name of the best configuration so far, as in tables."""
        return configuration_name(self.best[0][0]) if self.best else None

    def __repr__(self) -> str:
        return f"Status({self.sweep.name}: {self.state}, {sum(self.trials.values())} of {self.total} trials begun)"

    def _repr_html_(self) -> str:
        return html(render(self))


def status_of(folder: Path) -> Status:
    """The status of the sweep in a folder; raises ``InputError`` if the folder holds no sweep."""
    paths = SweepPaths(folder)
    record = read_record(paths)
    if record is None:
        raise InputError(str(folder), [Problem("", "holds no sweep")])
    sweep = recorded(record, folder, to_run=False)
    alive = running(paths)
    trials: Counter[str] = Counter()
    reused = 0
    open_trials: list[OpenTrial] = []
    raced = _Raced(sweep)
    for path in journal_files(paths.journals):
        result = state_of(path)
        # A journal without its first line belongs to no trial yet.
        if path.stem.startswith("r") or not result.begun:
            continue
        told = trial_state(result.state, alive)
        trials[told] += 1
        if told not in ENDED:
            open_trials.append(_open(path.stem, told, result, next(iter(sweep.search.objective))))
        reused += result.reused_from is not None
        raced.add(result)
    ledger = Ledger.read(paths)
    ended = sum(trials[state] for state in ENDED) - reused
    share = (sweep.trials + raced.more - reused) / ended if ended else None
    state, reason = record["state"], record.get("reason")
    if alive:
        state, reason = ("stopping", stop_reason(paths)) if paths.stop.exists() else ("running", None)
    elif state == "running":
        state, reason = "interrupted", DIED
    return Status(
        sweep, state, reason, trials, reused, sweep.trials + raced.more, ledger.hours, ledger.gpu_hours,
        None if share is None else share * ledger.hours, None if share is None else share * ledger.gpu_hours,
        record["started"], ledger.seen, _best(folder, record, trials["finished"] > 0), unsent(paths),
        open_trials, len(journal_files(paths.superseded)), raced.standing(),
    )  # fmt: skip


class _Raced:
    """The values in a race for the best, from the journals, by configuration and seed."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._rule = sweep.search.race
        self._values: dict[int, dict[int, float]] = {}
        self.more = 0
        """Trials beyond those that every configuration gets."""

    def add(self, trial: TrialState) -> None:
        head = trial.head
        if self._rule is None or head is None or head["kind"] != "search" or None in (head["seed"], head["number"]):
            return
        number, seed = int(head["number"] or 0), int(head["seed"] or 0)
        self.more += seed >= self._rule.at_least
        value = trial.metrics.get(next(iter(self._sweep.search.objective)), math.nan)
        if trial.state == "finished" and math.isfinite(value):
            self._values.setdefault(number, {})[seed] = value

    def standing(self) -> Standing | None:
        """The standing of the race; None until all configurations of the search have their first seeds."""
        if self._rule is None or len(self._values) < self._sweep.configurations:
            return None
        rows = {
            number: list(itertools.takewhile(math.isfinite, (row.get(seed, math.nan) for seed in range(len(row)))))
            for number, row in self._values.items()
        }
        if any(len(row) < self._rule.at_least for row in rows.values()):
            return None
        mode = next(iter(self._sweep.search.objective.values()))
        return race(rows, self._rule.at_least, self._rule.at_most, mode)


def race_told(standing: Standing) -> str:
    """``3 of 12 configurations may be the best at 5 seeds: t003, t007, t009``."""
    names = ", ".join(f"t{number:03d}" for number in standing.left)
    of = len(standing.left) + len(standing.out)
    if standing.decided and len(standing.left) == 1:
        return f"decided at {counted(standing.seeds, 'seed')}: {names} of {counted(of, 'configuration')}"
    what = "were left" if standing.decided else "may be the best"
    among, at = counted(of, "configuration"), counted(standing.seeds, "seed")
    return f"{len(standing.left)} of {among} {what} at {at}: {names}"


def _open(trial: str, told: str, result: TrialState, objective: str) -> OpenTrial:
    epochs = result.head["config"].get("train", {}).get("epochs") if result.head else None
    return OpenTrial(trial, told, result.epoch, epochs, result.metrics.get(objective))


def _best(folder: Path, record: Mapping[str, Any], finished: bool) -> tuple[list[str], float] | None:
    """The best configuration: the one that the record names or, before the end, the one that a table would."""
    if record.get("best") and record.get("best_value") is not None:
        return record["best"], record["best_value"]
    if not finished:
        return None
    from analysis.configuration.configurations import best  # imports pandas, which a sweep that has ended does not need
    from analysis.record.runs import load

    try:
        found = best(load(folder))
    except RecordError:  # no trial has the objective yet
        return None
    return (list(found.trials), found.mean) if found else None


def render(status: Status) -> RenderableType:
    """The status as it is printed."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    budget = status.sweep.model.budget
    state = status.state + (f" ({status.reason})" if status.reason else "")
    facts.add_row(status.sweep.name, state)
    facts.add_row("trials", trials_told(status))
    if status.set_aside:
        facts.add_row("", f"{status.set_aside} no longer needed, kept in superseded/")
    if status.race:
        facts.add_row("race", race_told(status.race))
    facts.add_row("time", _spent(*(_hours(each) for each in (status.hours, status.projected, budget.hours))))
    if status.sweep.model.resources.gpus_per_worker:
        gpu = status.gpu_hours, status.projected_gpu, budget.gpu_hours
        facts.add_row("GPU-hours", _spent(*(None if each is None else f"{each:.3g}" for each in gpu)))
    if status.best:
        objective = next(iter(status.sweep.search.objective))
        beside = variety(SweepPaths(status.sweep.folder), status.best[0], objective)
        so_far = "" if status.state == "finished" else " so far"
        facts.add_row(f"best{so_far}", f"{status.best_name}  {objective} = {status.best[1]:.4g}{beside}")
    if status.seen is not None and status.state in ("running", "stopping"):
        facts.add_row("last seen", ago(time.time() - status.seen))
    facts.add_row(
        "MLflow", f"{status.unsent / 1024:.0f} KiB of the journals not sent yet" if status.unsent else "complete"
    )
    link = comparison_link(SweepPaths(status.sweep.folder))
    if link is not None:
        facts.add_row("compare", Text(link, overflow="fold"))
    facts.add_row("record", Text(place_of(status.sweep.folder)))
    if status.state not in ("running", "stopping") or not status.open:
        return facts
    return Group(facts, _open_table(status))


def _open_table(status: Status) -> RenderableType:
    """The trials that run or wait, each with its progress."""
    objective = next(iter(status.sweep.search.objective)).partition("/")[2]
    table = Table.grid(padding=(0, 2))
    for each in status.open[:MOST_OPEN]:
        of = f" of {each.epochs}" if each.epochs else ""
        table.add_row(
            Text(each.trial, style="bold"),
            WORDS.get(each.state, each.state),
            ProgressBar(total=each.epochs or 1, completed=each.epoch, width=24),
            f"epoch {each.epoch}{of}",
            "" if each.value is None else f"{objective} {each.value:.4g}",
        )
    more = len(status.open) - MOST_OPEN
    return Group(table, Text(f"… and {more} more", style="dim")) if more > 0 else table


def trials_told(status: Status) -> str:
    """``4 of 13 ended (3 finished, 1 stopped early), 2 running``."""
    ended, open_ = (
        [f"{status.trials[state]} {WORDS.get(state, state)}" for state in states if status.trials[state]]
        for states in (ENDED, ("running", "waiting", "interrupted"))
    )
    reused = [f"{status.reused} of them reused from identical trials"] if status.reused else []
    counts = f" ({', '.join(ended + reused)})" if ended else ""
    return ", ".join([f"{status.ended} of {status.total} ended{counts}", *open_])


def _hours(hours: float | None) -> str | None:
    return None if hours is None else duration(3600 * hours)


def _spent(spent: str | None, projected: str | None, cap: str | None) -> str:
    text = f"{spent} spent"
    if projected is not None:
        text += f", about {projected} in total"
    return text + (f", cap {cap}" if cap is not None else "")
