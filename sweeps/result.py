"""The result of a launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from linearizer_core.experiment.journal import TrialIdentity
from sweeps.notebook import html
from sweeps.record.paths import SweepPaths
from sweeps.record.variety import variety
from sweeps.spec.model import Sweep
from sweeps.words import configuration_name, describe_point, duration

if TYPE_CHECKING:
    from analysis.record.runs import Record


@dataclass(frozen=True, repr=False)
class LaunchResult:
    """The result of a launch.

    ``state`` and ``reason`` are as in sweep.json; ``trials`` counts the trials by state, of which ``reused`` took the
    results of identical ones; ``failure`` is the reason of the first failure; ``seconds`` is wall-clock time by phase.
    ``not_sent`` says why MLflow's data is incomplete, and ``not_copied`` why the copy of the study is, if they are.
    """

    sweep: Sweep
    state: str
    reason: str | None
    best: list[TrialIdentity]
    best_value: float | None
    trials: dict[str, int]
    reused: int
    failure: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    not_sent: str | None = None
    not_copied: str | None = None

    @property
    def record(self) -> Record:
        """The sweep's record, read now; raises ``RecordError`` if its folder has been changed since."""
        from analysis.record.runs import load

        return load(self.sweep.folder)

    def __repr__(self) -> str:
        return f"LaunchResult({self.sweep.name}: {_how(self)})"

    def _repr_html_(self) -> str:
        return html(render(self))


def render(result: LaunchResult) -> RenderableType:
    """The result as it is printed: trials by state, time taken, and the best configuration."""
    lines = [
        Text.assemble((result.sweep.name, "bold"), f" {_how(result)}; record in {result.sweep.folder}"),
        Text(_took(result.seconds), style="dim"),
    ]
    if result.best:
        objective = next(iter(result.sweep.search.objective))
        trials = [each.trial for each in result.best]
        lines.append(
            Text.assemble(
                "best: ", (configuration_name(trials[0]), "bold"), f"  {describe_point(result.best[0].overrides)}",
                f"  {objective} = {result.best_value:.4g}{variety(SweepPaths(result.sweep.folder), trials, objective)}",
            )
        )  # fmt: skip
    return Group(*lines)


def _took(seconds: Mapping[str, float]) -> str:
    """``took 3 min 20 s: references 12 s, trials 3 min``; phases below a second are left out."""
    phases = ", ".join(f"{phase} {duration(value)}" for phase, value in seconds.items() if value >= 1)
    return f"took {duration(sum(seconds.values()))}" + (f": {phases}" if phases else "")


def _how(result: LaunchResult) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(result.trials.items())) or "no trial"
    reused = f" ({result.reused} reused from identical trials)" if result.reused else ""
    state = f"{result.state} ({result.reason})" if result.reason else result.state
    return f"{state}: {counts}{reused}"
