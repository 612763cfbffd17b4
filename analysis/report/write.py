"""Writes tables, figures and the report of recorded sweeps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.configuration.budget import told_once
from analysis.configuration.configurations import Configurations
from analysis.configuration.curves import searched_curve_keys
from analysis.configuration.names import metric_of
from analysis.figures.across import critical_difference, performance_profiles
from analysis.figures.maps import axes_versus_objective, depth_and_rank
from analysis.figures.ranks import ranks_versus_quality
from analysis.figures.steps import steps_versus_quality
from analysis.figures.style import Paper, save
from analysis.record.frames import RANKS, STEPS
from analysis.record.runs import Record, RecordError, load
from analysis.render.latex_column import TooWideError, latex_column
from analysis.render.table import Table
from analysis.report.appendix import write_appendix
from analysis.report.list_of_figures import list_of_figures
from analysis.report.list_of_tables import Tables, ablation_tables, checks_of, statistics_tables
from analysis.report.page import page
from analysis.statistics.intervals import Method
from analysis.tables.cost import cost, failures, provenance
from analysis.tables.paper import paper_table

LONGEST = 200
"""The longest file name for several sweeps: file systems allow 255 bytes, including suffixes of temporary files."""
COLUMNS: Mapping[Paper, float] = {"two-column": 200, "one-column": 345}
"""Column width in points of LaTeX's article class, which is narrower than in most journals."""


@dataclass(frozen=True)
class Written:
    """The tables made, the files of tables and figures, and ``refused``: what could not be made and why."""

    tables: list[Table]
    files: list[Path]
    refused: list[str]


def write_tables(
    folders: Sequence[Path],
    metrics: Sequence[str] | None = None,
    rows: str | None = None,
    cols: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
    across: str | None = None,
    paper: Paper = "two-column",
) -> Written:
    """Make the tables of the sweeps in ``folders`` and write them as CSV, Markdown, LaTeX and HTML, with the figures.

    The tables are one row per configuration, then one table per axis; or the grid of ``rows`` × ``cols``; or the
    comparison ``across`` data sets, with its two figures. The files go to ``tables/`` in the sweep's folder, or beside
    the sweeps if there are several.

    Raises ``RecordError`` for a folder that cannot be read, for an unknown metric or axis, and for a comparison of
    unequal training that was asked for by name without ``unequal``.

    >>> from pathlib import Path
    >>> import analysis
    >>> written = analysis.write_tables([Path("runs/demo")])
    >>> [table.name for table in written.tables]
    ['configurations', 'marginal-depth', 'marginal-rank', 'marginal-lr']
    >>> sorted(path.suffix for path in written.files[:4])
    ['.csv', '.html', '.md', '.tex']
    """
    configurations = Configurations(load(folders))
    record = configurations.record
    tables = ablation_tables(configurations, metrics, rows, cols, ci=ci, unequal=unequal, margin=margin, across=across)
    target = _target(folders, record, "tables")
    target.mkdir(parents=True, exist_ok=True)
    files = [path for table in tables.made for path in table.write(target, (".csv", ".md", ".tex", ".html"))]
    if across is None:
        files += _figures(configurations, target, paper)
    else:
        asked = (configurations, across, rows, metrics[0] if metrics else None)
        files += save(critical_difference(*asked, unequal=unequal), target / "critical_difference", paper=paper)
        files += save(performance_profiles(*asked, unequal=unequal), target / "performance_profiles", paper=paper)
    return Written(tables.made, files, told_once(tables.refused))


def write_paper_table(
    folders: Sequence[Path],
    path: Path,
    columns: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    *,
    caption: str = "",
    label: str = "",
    ci: Method = "t",
    paper: Paper = "two-column",
) -> Written:
    """Write chosen rows and columns of the ablation table for LaTeX, as wide as a column of the paper.

    ``columns`` and ``only`` are as in ``paper_table``; ``caption`` (in LaTeX) and ``label`` are those of the float.

    Raises ``RecordError`` for a folder that cannot be read, unknown columns or rows, a label that LaTeX does not
    accept, and columns that do not fit.

    >>> from pathlib import Path
    >>> import analysis
    >>> written = analysis.write_paper_table([Path("runs/demo")], Path("best.tex"), ["depth", "collapsed"], ["best:2"])
    >>> written.tables
    [<Table demo, 2 × 2>]
    """
    record = load(folders)
    if label and not re.fullmatch(r"[\w:./+-]+", label, re.ASCII):
        raise RecordError(f"{label!r} is not a valid LaTeX label; use only letters, digits and : . / + - _")
    table = paper_table(record, columns, only, ci=ci)
    try:
        text = latex_column(table, COLUMNS[paper], caption=caption, label=label)
    except TooWideError as error:
        wider = ", or use lines as wide as the page (--style one-column)" if paper == "two-column" else ""
        raise RecordError(f"{record.names}: {error}; leave some out{wider}") from None
    path.write_text(text, encoding="utf-8")
    return Written([table], [path], [])


def write_report(
    folders: Sequence[Path],
    metric: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
    margin: float | None = None,
    paper: Paper = "two-column",
) -> Written:
    """Write ``report/report.html``, one self-contained page, and ``report/appendix/`` for a paper.

    The files of one sweep go to its folder, those of several to ``report/<names>`` beside them. ``metric``, by default
    the first objective, is the subject of tables and figures. The same record gives the same bytes. Whatever the
    record does not support is left out, and listed in ``refused``.

    Raises ``RecordError`` for a folder that cannot be read and for an unknown metric.

    >>> from pathlib import Path
    >>> import analysis
    >>> written = analysis.write_report([Path("runs/demo")])
    >>> str(written.files[0])
    'runs/demo/report/report.html'
    """
    configurations = Configurations(load(folders))
    record = configurations.record
    if metric is not None:
        metric = metric_of(record, metric)
    tables = ablation_tables(configurations, [metric] if metric else None, ci=ci, unequal=unequal, margin=margin)
    grid = _grid(configurations, metric, ci, unequal, margin)
    statistics = statistics_tables(configurations, metric, ci=ci, unequal=unequal, margin=margin)
    figures = list_of_figures(configurations, metric, unequal=unequal, margin=margin)
    checks = checks_of(configurations, unequal=unequal)
    costs = [*checks.made, cost(record), failures(record), provenance(record)]
    parts = (tables, grid, statistics, figures, checks)
    refused = told_once(reason for part in parts for reason in part.refused)
    shown = [*tables.made, *grid.made]
    target = _target(folders, record, "report")
    target.mkdir(parents=True, exist_ok=True)
    path = target / "report.html"
    path.write_text(page(configurations, figures.made, shown, statistics.made, costs, refused), encoding="utf-8")
    every = [*shown, *statistics.made, *costs]
    files = write_appendix(configurations, figures.made, every, refused, target / "appendix", paper)
    return Written(every, [path, *files], refused)


def export(folders: Sequence[Path], path: Path | None = None) -> Path:
    """Write sweeps to one Parquet file that ``load`` reads; by default ``<names>.parquet`` beside their folders.

    >>> from pathlib import Path
    >>> import analysis
    >>> str(analysis.export([Path("runs/demo")]))
    'runs/demo.parquet'
    """
    record = load(folders)
    return record.export(path or folders[0].parent / f"{_joined(record)}.parquet")


def _target(folders: Sequence[Path], record: Record, name: str) -> Path:
    """The folder for files: in the folder of a single sweep, or beside those of several."""
    if len(folders) == 1:
        return folders[0] / name
    return folders[0].parent / name / _joined(record)


def _joined(record: Record) -> str:
    """The sweeps' names as one file name; if there are many, the first ones and a digest of all."""
    names = [sweep.name for sweep in record.sweeps]
    whole = "+".join(names)
    if len(whole) <= LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    kept = len(names)
    while (short := "+".join([*names[:kept], f"and-{len(names) - kept}-more-{digest}"])) and len(short) > LONGEST:
        kept -= 1
    return short


def _grid(
    configurations: Configurations, metric: str | None, ci: Method, unequal: bool, margin: float | None
) -> Tables:
    """The table of the heat map's two axes, with its tests."""
    try:
        across, down = depth_and_rank(configurations.record)
        return ablation_tables(
            configurations, [metric] if metric else None, down, across, ci=ci, unequal=unequal, margin=margin
        )
    except RecordError as error:
        return Tables([], [str(error)])


def _figures(configurations: Configurations, target: Path, paper: Paper) -> list[Path]:
    """The figures that can be drawn: a sweep may not have a finished trial or two axes yet."""
    record = configurations.record
    files: list[Path] = []
    searched = record.runs["kind"] == "search"
    if searched_curve_keys(record, STEPS):
        files += save(steps_versus_quality(configurations), target / "steps_versus_quality", paper=paper)
    if searched_curve_keys(record, RANKS):
        files += save(ranks_versus_quality(configurations), target / "ranks_versus_quality", paper=paper)
    if len(record.axes) > 1 and record.runs.loc[searched, next(iter(record.objective))].notna().any():
        x, y = record.axes[:2]
        files += save(axes_versus_objective(configurations, x, y), target / "axes_versus_objective", paper=paper)
    return files
