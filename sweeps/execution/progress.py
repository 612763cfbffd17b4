"""The progress of a running sweep: trials running, finished and stopped, the best so far, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from linearizer_core.experiment.journal import DIVERGED, TrialIdentity, TrialState, state_of
from sweeps.record.paths import SweepPaths
from sweeps.search.schedule import Schedule
from sweeps.words import configuration_name, describe_point, duration


@dataclass
class _Shown:
    """A trial that runs or waits for a place."""

    identity: TrialIdentity
    placed: Callable[[], bool]
    place: str
    epoch: int = 0
    value: float | None = None


class Progress:
    """A live view on a terminal; elsewhere, one line per trial that ends.

    Without ``live`` it prints lines on a terminal too. Trials are named by the executor's jobs.
    """

    def __init__(self, schedule: Schedule, paths: SweepPaths, epochs: int, console: Console, live: bool = True) -> None:
        self._schedule = schedule
        self._paths = paths
        self._epochs = epochs
        self._console = console
        self._objective, self._mode = next(iter(schedule.sweep.search.objective.items()))
        self._may_be_live = live
        self._started = time.monotonic()
        self._open: dict[str, _Shown] = {}
        self._ended: dict[str, int] = {"finished": 0, "stopped": 0, "failed": 0}
        self._epochs_done = 0
        self._epochs_saved = 0
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        # Not if only colours are asked for (FORCE_COLOR), nor if the terminal cannot redraw (TERM=dumb).
        drawn = self._console.file.isatty() and not self._console.is_dumb_terminal
        if self._may_be_live and self._console.is_terminal and drawn:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def running(self) -> int:
        """How many places are taken by trials, and take time: by one, or by several that train together."""
        return len({shown.place for shown in self._running})

    @property
    def _running(self) -> list[_Shown]:
        # A copy: the view is drawn in its own thread.
        return [shown for shown in list(self._open.values()) if shown.placed()]

    @property
    def _not_run(self) -> int:
        """How many trials got a result without running in this launch."""
        return len(self._schedule.reused) + len(self._schedule.not_begun)

    def add(self, identity: TrialIdentity, job: str, placed: Callable[[], bool], place: str | None = None) -> None:
        """A trial waits for a place, for the first time or again; ``placed`` says whether it has it now.

        Trials that train together have the same ``place``, by default a trial has its own.
        """
        self._open[job] = _Shown(identity, placed, place or job)

    def drop(self, job: str) -> None:
        """A trial is shown no more, and has not ended: it will be tried elsewhere."""
        self._open.pop(job, None)

    def result(self, job: str, result: Mapping[str, Any]) -> None:
        """A trial has reported a result."""
        shown = self._open[job]
        shown.epoch, shown.value = int(result.get("epoch", 0)), result.get(self._objective)

    def end(self, job: str) -> None:
        """A trial has ended as its journal says; nothing is shown for one that never ran or that will be retried."""
        shown = self._open.pop(job, None)
        result = state_of(self._paths.journal(shown.identity.trial)) if shown else None
        if shown is None or result is None or result.state is None:
            return
        if result.state in self._ended:
            self._ended[result.state] += 1
        self._epochs_done += result.epoch
        self._epochs_saved += self._epochs - result.epoch
        line = self._line(shown.identity, result)
        if self._live is not None:
            self._live.console.print(line)
        else:
            self._console.print(line)

    def _line(self, identity: TrialIdentity, result: TrialState) -> Text:
        done = sum(self._ended.values()) + self._not_run
        style = {"finished": "green", "stopped": "yellow", "failed": "red"}.get(result.state or "", "")
        word = "diverged" if result.diverged else str(result.state)
        what = identity.label or describe_point(identity.overrides)
        text = Text.assemble(f"[{done}/{self._schedule.total}] ", (identity.trial, "bold"), f" {what}  ", (word, style))
        value = result.metrics.get(self._objective)
        if value is not None:
            text.append(f"  {self._objective} {value:.4g}")
        if result.state == "stopped":
            text.append(f" at epoch {result.epoch}")
        if result.state == "failed":
            text.append(f"  {str(result.reason).removeprefix(DIVERGED)}")
        return text

    def _render(self) -> RenderableType:
        reused, running = len(self._schedule.reused), self._running
        waiting = len(self._open) - len(running)
        ended = sum(self._ended.values()) + self._not_run
        counts = Text.assemble(
            (f"{self._schedule.sweep.name}  ", "bold"),
            f"{ended}/{self._schedule.total} trials: {len(running)} running, ",
            f"{waiting} waiting, " if waiting else "",
            f"{self._ended['finished']} finished, ",
            f"{self._ended['stopped']} stopped early, {self._ended['failed']} failed",
            f", {reused} from the record" if reused else "",
            f"   {duration(time.monotonic() - self._started)} passed, {self._left()} left",
        )
        table = Table.grid(padding=(0, 2))
        for shown in running:
            table.add_row(
                Text(shown.identity.trial, style="bold"),
                ProgressBar(total=self._epochs, completed=shown.epoch, width=24),
                f"epoch {shown.epoch}/{self._epochs}",
                shown.identity.label or describe_point(shown.identity.overrides),
                "" if shown.value is None else f"{self._objective.partition('/')[2]} {shown.value:.4g}",
            )
        return Group(counts, table, self._best())

    def _best(self) -> Text:
        best = self._schedule.best()
        if not best:
            return Text("best so far: no trial has finished yet", style="dim")
        value = self._schedule.best_value()
        return Text.assemble(
            "best so far: ", (f"{value:.4g}", "bold green"), f" {self._objective} ({self._mode})  ",
            f"{configuration_name(best[0].trial)}  {describe_point(best[0].overrides)}",
        )  # fmt: skip

    def _left(self) -> str:
        """The time left, if coming trials take as long and are stopped as often as the ones that have ended."""
        ended = sum(self._ended.values())
        partial = sum(shown.epoch for shown in self._running) / self._epochs
        share = 1.0 if not ended else self._epochs_done / (self._epochs_done + self._epochs_saved)
        done = ended * share + partial
        if done <= 0:
            return "unknown"
        remaining = max(0.0, (self._schedule.total - self._not_run - ended) * share - partial)
        return "about " + duration((time.monotonic() - self._started) / done * remaining)
