"""The interface between a sweep and the engine that runs its trials."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from sweeps.execution.bridge import Bridge
from sweeps.execution.cluster import Capacity
from sweeps.execution.jobs import Jobs
from sweeps.execution.plan import Plan
from sweeps.execution.progress import Progress
from sweeps.execution.stop import INTERRUPTED, Ending, stopping_on_signals
from sweeps.record.ledger import Ledger, Meter
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Sweep


@dataclass(frozen=True)
class Work:
    """The missing trials of a sweep, and the objects that an executor reports to while they run."""

    jobs: Jobs
    plan: Plan
    paths: SweepPaths
    ending: Ending
    console: Console


class Executor(Protocol):
    """An engine for trials: ``RayTune`` runs each in its own process, ``InProcess`` one after the other in this one.

    The schedule decides which trials run and what their results mean, so a spec gives the same table with both.
    """

    name: str
    """What it starts, as shown to the user."""

    live: bool
    """Whether a live view may be drawn on the terminal while trials run."""

    def check(self, sweep: Sweep) -> None:
        """Raises ``InputError`` for a sweep that it cannot run."""

    def reached(self) -> AbstractContextManager[Capacity]:
        """The capacity for trials; raises ``InputError`` if it cannot be reached."""

    def started(self) -> AbstractContextManager[None]:
        """Whatever must be up while trials run; entered only if trials are missing."""

    def carry_out(self, work: Work) -> None:
        """Run trials until none is missing or ``work.ending`` is over.

        For each job of one trial, or several that train together, ``jobs.start`` hands them out, ``jobs.wait`` comes
        before each attempt, ``jobs.result`` takes each result, ``jobs.error`` each failure, and ``jobs.end`` the end.
        """


def run_trials(executor: Executor, bridge: Bridge, plan: Plan, paths: SweepPaths, console: Console) -> str | None:
    """Run the missing trials; returns why they were cut short, or None."""
    schedule = bridge.schedule
    progress = Progress(schedule, paths, plan.sweep.base_leaves["train.epochs"], console, executor.live)
    meter = Meter(Ledger.read(paths), plan.sweep.model.resources)
    ending = Ending(paths, plan.sweep.model.budget, meter, progress.running)

    def tell() -> None:
        console.print("stopping: running trials save their state (a second signal ends them at once)", style="yellow")

    with stopping_on_signals(paths, tell), progress:
        try:
            executor.carry_out(Work(Jobs(bridge, progress), plan, paths, ending, console))
        finally:
            meter.close(progress.running())
    return None if schedule.complete else ending.reason or bridge.trouble or INTERRUPTED
