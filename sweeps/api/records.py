"""Functions that read recorded sweeps, and tabulate, report, export and compare them.

The functions that write files import Matplotlib themselves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.record.runs import load
from sweeps.compare import Comparison
from sweeps.record.lookup import find_sweep
from sweeps.sides import beside_best, side_of
from sweeps.spec.validation import InputError, Problem

if TYPE_CHECKING:
    from analysis.render.table import Table
    from analysis.report.write import Written

__all__ = ["check", "compare", "export", "load", "report", "table"]

Interval = Literal["t", "bootstrap"]
Style = Literal["two-column", "one-column"]
"""The page layout that figures are made for: a column of two, or the full width of a page."""
Name = str | os.PathLike[str]
Names = Name | Sequence[Name]


def table(
    sweeps: Names,
    *,
    storage: str | os.PathLike[str] = "runs",
    metrics: Sequence[str] | None = None,
    rows: str | None = None,
    cols: str | None = None,
    across: str | None = None,
    ci: Interval = "t",
    unequal: bool = False,
    margin: float | None = None,
    style: Style = "two-column",
    latex: str | os.PathLike[str] | None = None,
    columns: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    caption: str | None = None,
    label: str | None = None,
) -> Written:
    """Make the ablation tables of sweeps and write them as CSV, Markdown, LaTeX and HTML, with their figures.

    ``sweeps`` are names in ``storage`` or folders. ``metrics`` replace the default columns; ``rows`` and ``cols`` give
    a grid of two axes. ``across`` finds what is best over the values of a leaf, such as ``data.name``, among
    configurations or among the values of ``rows``. ``ci`` chooses the kind of 95 % intervals, and ``unequal`` also
    compares trials that were not trained for equally long. Two means count as equal within ``margin``, by default
    what the metric's own error hides, if that was recorded. ``style`` is the page layout that figures are made for.
    The files go to the sweep's ``tables/``, or beside the sweeps if there are several.

    With ``latex`` only that file is written: a table for one column of a paper in this ``style``, with these
    ``columns`` (``["depth", "rank", "test"]``), ``only`` these rows (``["best:5", "controls"]``), a ``caption`` in
    LaTeX and a ``label``.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, an unknown metric, axis, column or
    row, a file that cannot be written, and a comparison by name of trials with unequal training without ``unequal``.

    >>> import linsweep as ls
    >>> made = ls.table("before")
    >>> made.files[0].name
    'configurations.csv'
    """
    from analysis.report.write import write_paper_table, write_tables

    of_paper = {"columns": columns, "only": only, "caption": caption, "label": label}
    others = {
        "metrics": metrics, "rows": rows, "cols": cols, "across": across, "unequal": unequal or None, "margin": margin,
    }  # fmt: skip
    refused = [name for name, value in (of_paper if latex is None else others).items() if value is not None]
    if refused:
        needs = "needs" if len(refused) == 1 else "need"
        why = f"{needs} --latex FILE" if latex is None else "cannot go with --latex; use --columns and --only"
        raise InputError("table", [Problem("", f"{', '.join(refused)} {why}")])
    folders = _folders(sweeps, storage)
    if latex is not None:
        try:
            return write_paper_table(
                folders, Path(latex), columns, only, caption=caption or "", label=label or "", ci=ci, paper=style
            )
        except OSError as error:
            message = f"{latex} cannot be written: {os.strerror(error.errno) if error.errno else error}"
            raise InputError("--latex", [Problem("", message)]) from None
    return write_tables(folders, metrics, rows, cols, ci=ci, unequal=unequal, margin=margin, across=across, paper=style)


def report(
    sweeps: Names,
    *,
    storage: str | os.PathLike[str] = "runs",
    metric: str | None = None,
    ci: Interval = "t",
    unequal: bool = False,
    margin: float | None = None,
    style: Style = "two-column",
) -> Written:
    """Write the report: one HTML page that works offline, and an appendix for a paper in LaTeX and Markdown.

    ``metric`` replaces the first objective; the other arguments are those of ``table``. The page is the first of the
    returned files.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, and for an unknown metric.

    >>> import linsweep as ls
    >>> ls.report("before").files[0].name
    'report.html'
    """
    from analysis.report.write import write_report

    folders = _folders(sweeps, storage)
    return write_report(folders, metric, ci=ci, unequal=unequal, margin=margin, paper=style)


def check(sweeps: Names, *, storage: str | os.PathLike[str] = "runs", unequal: bool = False) -> Table:
    """Check whether sweeps can be relied on: PASS, WARN or FAIL, the finding, and what to do.

    ``sweeps`` are names in ``storage`` or folders. The checks are those of ``analysis.health``: the bounds of the
    space, references and controls, what the axes predict, seeds, early stopping, the metric's own noise, failures.
    ``unequal`` also takes trials that were not trained for equally long where the axes are judged.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, and if no trial has the objective.

    >>> import linsweep as ls
    >>> ls.check("before").name
    'health'
    """
    from analysis.tables.health import health

    return health(load(_folders(sweeps, storage)), unequal=unequal)


def export(
    sweeps: Names, *, storage: str | os.PathLike[str] = "runs", to: str | os.PathLike[str] | None = None
) -> Path:
    """Write sweeps to one Parquet file, which any program can read; ``load`` reads the sweeps back.

    ``to`` is the file, instead of ``NAME.parquet`` in the storage folder.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, and if the file cannot be written.

    >>> import linsweep as ls
    >>> ls.load(ls.export("before", to="before.parquet")).names
    'before'
    """
    from analysis.report.write import export as write

    try:
        return write(_folders(sweeps, storage), None if to is None else Path(to))
    except OSError as error:
        where = to or error.filename or f"the folder of {sweeps}"
        message = f"{where} cannot be written: {os.strerror(error.errno) if error.errno else error}"
        raise InputError("export" if to is None else "--to", [Problem("", message)]) from None


def compare(*names: Name, storage: str | os.PathLike[str] = "runs") -> Comparison:
    """Compare configurations (``"SWEEP/t001"``), trials (``"SWEEP/t001-s0"``) or sweeps: settings and metrics.

    Configurations are compared over their finished seeds, and sweeps by their best configuration. The result's
    ``contrasts`` compare each with the first: difference and interval, probability of being better, and a verdict.
    A configuration or trial alone is compared with the best configuration of its sweep.

    Raises ``LinsweepError`` for no name, a sweep or the best configuration alone, and for a sweep or trial that does
    not exist.

    >>> import linsweep as ls
    >>> both = ls.compare("before/t000-s0", "before/t001-s0")
    >>> [side.name for side in both.sides]
    ['before/t000-s0', 'before/t001-s0']
    """
    texts = [os.fspath(name) for name in names]
    if not texts:
        raise InputError("compare", [Problem("", "needs at least two names to compare")])

    def find(sweep: str) -> Path:
        return find_sweep(sweep, Path(storage))

    if len(texts) == 1:
        sides = beside_best(texts[0], find)
        return Comparison(sides, f"only {texts[0]} was named; {sides[0].name} is the best configuration of its sweep")
    return Comparison([side_of(text, find) for text in texts])


def _folders(sweeps: Names, storage: str | os.PathLike[str]) -> list[Path]:
    names = [sweeps] if isinstance(sweeps, str | os.PathLike) else sweeps
    return [find_sweep(name, Path(storage)) for name in names]
