"""The seam between a sweep and the engine that carries its trials out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from sweeps.execution.bridge import Bridge
from sweeps.execution.cluster import Capacity
from sweeps.execution.plan import Plan
from sweeps.execution.progress import Progress
from sweeps.execution.stop import INTERRUPTED, Ending, stopping_on_signals
from sweeps.record.ledger import Ledger, Meter
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Sweep


@dataclass(frozen=True)
class Work:
    """The trials that a sweep still lacks, and what an executor tells of them as they run."""

    bridge: Bridge
    plan: Plan
    paths: SweepPaths
    progress: Progress
    ending: Ending
    console: Console


class Executor(Protocol):
    """An engine for trials: ``RayTune`` has a process for each, ``InProcess`` runs one after the other in this one.

    The schedule decides which trials run and what becomes of them, so that a spec gives the same table by either.
    """

    name: str
    """What it starts, as a user is told while it does."""

    live: bool
    """Whether a view may be drawn on the terminal while trials run."""

    def check(self, sweep: Sweep) -> None:
        """Raises ``InputError`` for a sweep that it cannot carry out."""

    def reached(self) -> AbstractContextManager[Capacity]:
        """What trials can be placed on; raises ``InputError`` where it cannot be reached."""

    def started(self) -> AbstractContextManager[None]:
        """Whatever has to be up while trials run; entered only where some are missing."""

    def carry_out(self, work: Work) -> None:
        """Run trials until none is missing or ``work.ending`` is over.

        For each, ``bridge.start`` hands it out, ``bridge.wait`` and ``progress.add`` come before each attempt,
        ``bridge.must_stop`` and ``progress.result`` take each result, ``bridge.error`` each failure, and ``bridge.end``
        and ``progress.end`` its end.
        """


def run_trials(executor: Executor, bridge: Bridge, plan: Plan, paths: SweepPaths, console: Console) -> str | None:
    """Run the trials that are missing; why they were cut short, if they were."""
    schedule = bridge.schedule
    progress = Progress(schedule, paths, plan.sweep.base_leaves["train.epochs"], console, executor.live)
    meter = Meter(Ledger.read(paths), plan.sweep.model.resources)
    ending = Ending(paths, plan.sweep.model.budget, meter, progress.running)

    def tell() -> None:
        console.print("stopping: running trials save their state (a second signal ends them now)", style="yellow")

    with stopping_on_signals(paths, tell), progress:
        try:
            executor.carry_out(Work(bridge, plan, paths, progress, ending, console))
        finally:
            meter.close(progress.running())
    return None if schedule.complete else ending.reason or bridge.trouble or INTERRUPTED
