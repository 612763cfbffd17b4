"""The tables and figures of recorded sweeps, written side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.ablation import configurations, marginal, pivot
from analysis.figures import axes_versus_objective, save, steps_versus_quality
from analysis.runs import Record, load
from analysis.tables import Table


@dataclass(frozen=True)
class Written:
    """What was made: the tables, and the files that hold them and the figures."""

    tables: list[Table]
    files: list[Path]


def write_tables(
    folders: Sequence[Path],
    metrics: Sequence[str] | None = None,
    rows: str | None = None,
    cols: str | None = None,
) -> Written:
    """Make the tables of the sweeps in ``folders`` and write them as CSV, Markdown and LaTeX, with the figures.

    One row a configuration, then one table for each axis, or the grid of ``rows`` × ``cols`` where these are
    given. The files go to ``tables/`` of the sweep, or beside the sweeps where there are several.

    Raises ``RecordError`` for a folder that cannot be read, ``ValueError`` for an unknown metric or axis.
    """
    record = load(folders)
    if rows is not None and cols is not None:
        tables = [pivot(record, rows, cols, metrics[0] if metrics else None)]
    else:
        tables = [configurations(record, metrics)]
        tables += [marginal(record, axis) for axis in ([rows or cols] if rows or cols else record.axes) if axis]
    target = (
        folders[0] / "tables"
        if len(folders) == 1
        else folders[0].parent / "tables" / "+".join(sweep.name for sweep in record.sweeps)
    )
    target.mkdir(parents=True, exist_ok=True)
    files = []
    for table in tables:
        for suffix, text in ((".csv", table.to_csv()), (".md", table.to_markdown()), (".tex", table.to_latex())):
            path = target / f"{table.name}{suffix}"
            path.write_text(text)
            files.append(path)
    return Written(tables, files + _figures(record, target))


def _figures(record: Record, target: Path) -> list[Path]:
    """The figures that there is something to draw for: a sweep may have no finished trial, or no two axes, yet."""
    files: list[Path] = []
    searched = record.runs["kind"] == "search"
    if (searched & (record.runs["state"] == "finished")).any() and not record.curves.empty:
        files += save(steps_versus_quality(record), target / "steps_versus_quality")
    if len(record.axes) > 1 and record.runs.loc[searched, next(iter(record.objective))].notna().any():
        x, y = record.axes[:2]
        files += save(axes_versus_objective(record, x, y), target / "axes_versus_objective")
    return files
