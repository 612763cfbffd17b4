"""What a running sweep shows: trials running, done and stopped, the best so far, and the time left."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from linearizer_core.journal import Outcome, TrialIdentity, outcome
from sweeps.paths import SweepPaths
from sweeps.schedule import Schedule
from sweeps.space import describe_point
from sweeps.task import Task


class Progress(Callback):
    """A live view on a terminal; elsewhere a line for each trial that ends."""

    def __init__(self, schedule: Schedule, paths: SweepPaths, epochs: int, console: Console) -> None:
        self._schedule = schedule
        self._paths = paths
        self._epochs = epochs
        self._console = console
        self._objective, self._mode = next(iter(schedule.sweep.search.objective.items()))
        self._started = time.monotonic()
        self._running: dict[str, tuple[TrialIdentity, int, float | None]] = {}
        self._ended: dict[str, int] = {"finished": 0, "stopped": 0, "failed": 0}
        self._epochs_done = 0
        self._epochs_saved = 0
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that is not used; a terminal cannot be pickled.
        return {}

    def running(self) -> int:
        """How many trials have their place, and take time; others wait for one."""
        return len(self._running)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        identity = _identity(trial)
        self._running[trial.trial_id] = (identity, 0, None)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        identity = _identity(trial)
        value = result.get(self._objective)
        self._running[trial.trial_id] = (identity, int(result.get("epoch", 0)), value)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        identity = _identity(trial)
        self._running.pop(trial.trial_id, None)
        result = outcome(self._paths.journal(identity.trial))
        if result.state in self._ended:
            self._ended[result.state] += 1
        self._epochs_done += result.epoch
        self._epochs_saved += self._epochs - result.epoch
        line = self._line(identity, result)
        if self._live is not None:
            self._live.console.print(line)
        else:
            self._console.print(line)

    def _line(self, identity: TrialIdentity, result: Outcome) -> Text:
        done = sum(self._ended.values()) + len(self._schedule.reused)
        style = {"finished": "green", "stopped": "yellow", "failed": "red"}.get(result.state or "", "")
        what = identity.label or describe_point(identity.overrides)
        text = Text.assemble(
            f"[{done}/{self._schedule.total}] ", (identity.trial, "bold"), f" {what}  ", (result.state or "lost", style)
        )
        value = result.metrics.get(self._objective)
        if value is not None:
            text.append(f"  {self._objective} {value:.4g}")
        if result.state == "stopped":
            text.append(f" at epoch {result.epoch}")
        if result.state == "failed":
            text.append(f"  {result.reason}")
        return text

    def _render(self) -> RenderableType:
        reused = len(self._schedule.reused)
        ended = sum(self._ended.values()) + reused
        counts = Text.assemble(
            (f"{self._schedule.sweep.name}  ", "bold"),
            f"{ended}/{self._schedule.total} trials: {len(self._running)} running, {self._ended['finished']} done, ",
            f"{self._ended['stopped']} stopped early, {self._ended['failed']} failed",
            f", {reused} from the record" if reused else "",
            f"   {_clock(time.monotonic() - self._started)} gone, {self._left()} left",
        )
        running = Table.grid(padding=(0, 2))
        for identity, epoch, value in self._running.values():
            running.add_row(
                Text(identity.trial, style="bold"),
                ProgressBar(total=self._epochs, completed=epoch, width=24),
                f"epoch {epoch}/{self._epochs}",
                identity.label or describe_point(identity.overrides),
                "" if value is None else f"{value:.4g}",
            )
        return Group(counts, running, self._best())

    def _best(self) -> Text:
        best = self._schedule.best()
        if not best:
            return Text("best so far: none has finished yet", style="dim")
        value = self._schedule.best_value()
        return Text.assemble(
            "best so far: ", (f"{value:.4g}", "bold green"), f" {self._objective} ({self._mode})  ",
            f"{best[0].identity.trial}  {describe_point(best[0].identity.overrides)}",
        )  # fmt: skip

    def _left(self) -> str:
        """The time left, if the coming trials take as long and are stopped as often as those that have ended."""
        ended = sum(self._ended.values())
        partial = sum(epoch for _, epoch, _ in self._running.values()) / self._epochs
        share = 1.0 if not ended else self._epochs_done / (self._epochs_done + self._epochs_saved)
        done = ended * share + partial
        if done <= 0:
            return "unknown"
        remaining = max(0.0, (self._schedule.total - len(self._schedule.reused) - ended) * share - partial)
        return "about " + _clock((time.monotonic() - self._started) / done * remaining)


def _identity(trial: Trial) -> TrialIdentity:
    return Task.of_text(trial.config["task"]).identity


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
