"""How a sweep stands, from its record alone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analysis.record.launches import DIED
from linearizer_core.experiment.journal import ENDED, state_of
from sweeps.execution.stop import stop_reason
from sweeps.notebook import html
from sweeps.record.ledger import Ledger
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.variety import variety
from sweeps.record.writers import running
from sweeps.spec.load import recorded
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem
from sweeps.tracking.cursors import unsent
from sweeps.tracking.views import comparison_link


@dataclass(frozen=True, repr=False)
class Status:
    """Trials by state, of how many, of which ``reused``; what is spent, in hours, and what would be at the end.

    ``projected`` hours are None while nothing has ended; ``unsent`` is what MLflow lacks, in bytes of the journals.
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
    seen: float | None
    best: tuple[list[str], float] | None
    unsent: int

    def __repr__(self) -> str:
        return f"Status({self.sweep.name}: {self.state}, {sum(self.trials.values())} of {self.total} trials begun)"

    def _repr_html_(self) -> str:
        return html(render(self))


def status_of(folder: Path) -> Status:
    """The status of the sweep in a folder; raises ``InputError`` for a folder without one."""
    paths = SweepPaths(folder)
    record = read_record(paths)
    if record is None:
        raise InputError(str(folder), [Problem("", "holds no sweep")])
    sweep = recorded(record, folder, to_run=False)
    alive = running(paths)
    trials: Counter[str] = Counter()
    reused = 0
    for path in sorted(paths.journals.glob("*.jsonl")):
        if path.stem.startswith("r"):
            continue
        result = state_of(path)
        trials[result.state or ("running" if alive else "interrupted")] += 1
        reused += result.reused_from is not None
    ledger = Ledger.read(paths)
    ended = sum(trials[state] for state in ENDED) - reused
    share = (sweep.trials - reused) / ended if ended else None
    state, reason = record["state"], record["reason"]
    if alive:
        state, reason = ("stopping", stop_reason(paths)) if paths.stop.exists() else ("running", None)
    elif state == "running":
        state, reason = "interrupted", DIED
    return Status(
        sweep, state, reason, trials, reused, sweep.trials, ledger.hours, ledger.gpu_hours,
        None if share is None else share * ledger.hours, None if share is None else share * ledger.gpu_hours,
        ledger.seen, (record["best"], record["best_value"]) if record["best"] else None, unsent(paths),
    )  # fmt: skip


def render(status: Status) -> RenderableType:
    """A status as it is printed."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    budget = status.sweep.model.budget
    state = status.state + (f" ({status.reason})" if status.reason else "")
    facts.add_row(status.sweep.name, state)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(status.trials.items())) or "none yet"
    reused = f", {status.reused} of them reused from identical trials" if status.reused else ""
    facts.add_row("trials", f"{counts}{reused}; {status.total} in all")
    facts.add_row("hours", _spent(status.hours, status.projected, budget.hours))
    if status.sweep.model.resources.gpus_per_worker:
        facts.add_row("GPU-hours", _spent(status.gpu_hours, status.projected_gpu, budget.gpu_hours))
    if status.best:
        objective = next(iter(status.sweep.search.objective))
        beside = variety(SweepPaths(status.sweep.folder), status.best[0], objective)
        facts.add_row("best", f"{objective} = {status.best[1]:.4g}{beside} ({', '.join(status.best[0])})")
    if status.seen is not None and status.state in ("running", "stopping"):
        facts.add_row("last seen", f"{max(0.0, time.time() - status.seen):.0f} s ago")
    facts.add_row(
        "MLflow", f"{status.unsent / 1024:.0f} KiB of the journals are not sent" if status.unsent else "has all"
    )
    link = comparison_link(SweepPaths(status.sweep.folder))
    if link is not None:
        facts.add_row("compare", Text(link, overflow="fold"))
    facts.add_row("record", Text(str(status.sweep.folder)))
    return facts


def _spent(hours: float, projected: float | None, cap: float | None) -> str:
    text = f"{hours:.3g} spent"
    if projected is not None:
        text += f", about {projected:.3g} in all"
    return text + (f", cap {cap:g}" if cap is not None else "")
