"""Trials and sweeps side by side: where their configurations differ, and their metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import state_of
from linearizer_core.experiment.nested import flatten
from sweeps.notebook import html
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import running
from sweeps.spec.validation import InputError, Problem, suggestion
from sweeps.words import trial_state


@dataclass(frozen=True)
class Side:
    """A trial, or a sweep with the metrics of its best configuration (means over its seeds)."""

    name: str
    state: str
    leaves: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Trials or sweeps side by side, in the order in which they were named."""

    sides: Sequence[Side]

    @property
    def differing(self) -> list[str]:
        """The leaves of the configurations that are not the same in all."""
        leaves = dict.fromkeys(name for side in self.sides for name in side.leaves)
        return [name for name in leaves if len({_shown(side.leaves.get(name, "–")) for side in self.sides}) > 1]

    def __repr__(self) -> str:
        return f"Comparison({', '.join(side.name for side in self.sides)})"

    def _repr_html_(self) -> str:
        return html(render(self))


def side_of(text: str, find: Callable[[str], Path]) -> Side:
    """The sweep, or the trial ``SWEEP/TRIAL``, that a text names; ``find`` gives the folder of a sweep by its name.

    Raises ``InputError`` where there is none.
    """
    try:
        return _sweep(find(text))
    except InputError:
        name, _, trial = text.rstrip("/").rpartition("/")
        if not name:
            raise
        return _trial(text, find(name), trial)


def _sweep(folder: Path) -> Side:
    paths = SweepPaths(folder)
    record = read_record(paths)
    assert record is not None, f"{folder} holds no sweep"
    best = [state_of(paths.journal(trial)).metrics for trial in record.get("best") or ()]
    common = [key for key in best[0] if all(key in metrics for metrics in best)] if best else []
    means = {key: fmean(metrics[key] for metrics in best) for key in common}
    died = record["state"] == "running" and not running(paths)
    return Side(record["name"], "interrupted" if died else record["state"], flatten(record["spec"]), means)


def _trial(text: str, folder: Path, trial: str) -> Side:
    path = SweepPaths(folder).journal(trial)
    state = state_of(path)
    if state.head is None:
        known = [other.stem for other in journal_files(path.parent)]
        hint = suggestion(trial, known) if known else "it has none yet"
        raise InputError(text, [Problem("", f"no trial {trial} in {folder}; {hint}")])
    told = trial_state(state.state, running(SweepPaths(folder)))
    return Side(text, told, flatten(state.head["config"]), state.metrics)


def render(comparison: Comparison) -> RenderableType:
    """Two tables: the leaves that are not the same in all, and all metrics; of two sides with their difference."""
    sides, differing = comparison.sides, comparison.differing
    configurations = _table("configuration", sides)
    configurations.add_row("state", *(side.state for side in sides))
    for name in differing:
        configurations.add_row(name, *(_shown(side.leaves.get(name, "–")) for side in sides))
    same = len({name for side in sides for name in side.leaves}) - len(differing)
    parts: list[RenderableType] = [configurations, Text(f"{same} other leaves are the same", style="dim")]
    keys = list(dict.fromkeys(key for side in sides for key in side.metrics))
    if not keys:
        return Group(*parts, Text("no metrics yet", style="dim"))
    metrics = _table("metric", sides)
    if len(sides) == 2:
        metrics.add_column("difference", justify="right")
    for key in keys:
        values = [side.metrics.get(key) for side in sides]
        cells = ["–" if value is None else f"{value:,.4g}" for value in values]
        if len(sides) == 2:
            cells.append(_difference(*values))
        metrics.add_row(key, *cells)
    return Group(*parts, Text(), metrics)


def _table(what: str, sides: Sequence[Side]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(what, overflow="fold")
    for side in sides:
        table.add_column(side.name, justify="right", overflow="fold")
    return table


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _difference(first: float | None, second: float | None) -> str:
    if first is None or second is None or not (math.isfinite(first) and math.isfinite(second)):
        return ""
    share = f" ({(second - first) / abs(first):+.1%})" if first else ""
    return f"{second - first:+,.3g}{share}"
