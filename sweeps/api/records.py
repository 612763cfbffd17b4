"""Sweeps that are recorded: read, tabulated, reported, exported and compared.

What writes files comes with Matplotlib, and is imported by the functions that need it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.record.runs import load
from sweeps.compare import Comparison
from sweeps.record.lookup import find_sweep
from sweeps.sides import side_of
from sweeps.spec.validation import InputError, Problem

if TYPE_CHECKING:
    from analysis.render.table import Table
    from analysis.report.write import Written

__all__ = ["check", "compare", "export", "load", "report", "table"]

Interval = Literal["t", "bootstrap"]
Style = Literal["two-column", "one-column"]
"""What figures are printed in: a column of a two-column page, or a line of a one-column page."""
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

    ``sweeps`` are names in ``storage`` or folders. ``metrics`` replace the default columns, ``rows`` and ``cols`` ask
    for a grid of two axes, and ``across`` for what is best over the values of a leaf, such as ``data.name``, by
    configuration or by the values of ``rows``. ``ci`` says how 95 % intervals are made, and ``unequal`` also compares
    trials that were not trained equally long. Two means are called equal within a ``margin``, by default what the
    metric's own error hides, where it was recorded. ``style`` is what figures are printed in. The files go to
    ``tables/`` of the sweep, or beside the sweeps where there are several.

    With ``latex``, a file, only that is written: a table for a column of a paper (of the ``style``) with the
    ``columns`` that are named (``["depth", "rank", "test"]``) and ``only`` these rows (``["best:5", "controls"]``), a
    ``caption`` in LaTeX and a ``label``.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, for an unknown metric, axis, column or
    row, for a file that cannot be written, and for a
    comparison of unequal training that was asked for by name without ``unequal``.

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
        why = f"{needs} --latex FILE" if latex is None else "cannot go with --latex: name --columns and --only"
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

    ``metric`` is reported instead of the first objective; the other arguments are those of ``table``. The page
    is the first of the files that are returned.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, and for an unknown metric.

    >>> import linsweep as ls
    >>> ls.report("before").files[0].name
    'report.html'
    """
    from analysis.report.write import write_report

    folders = _folders(sweeps, storage)
    return write_report(folders, metric, ci=ci, unequal=unequal, margin=margin, paper=style)


def check(sweeps: Names, *, storage: str | os.PathLike[str] = "runs") -> Table:
    """Check whether you can rely on sweeps: PASS, WARN or FAIL, what was found, and what to do.

    ``sweeps`` are names in ``storage`` or folders. The checks are those of ``analysis.health``: the edge of the space,
    references and controls, what the axes predict, seeds, early stopping, the metric's own noise, failures.

    Raises ``LinsweepError`` for a sweep that does not exist or cannot be read, and if nobody has the objective.

    >>> import linsweep as ls
    >>> ls.check("before").name
    'health'
    """
    from analysis.tables.health import health

    return health(load(_folders(sweeps, storage)))


def export(
    sweeps: Names, *, storage: str | os.PathLike[str] = "runs", to: str | os.PathLike[str] | None = None
) -> Path:
    """Write sweeps to one Parquet file, which any program reads; ``load`` gives the sweeps back.

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
    """Where configurations (``"SWEEP/t001"``), trials (``"SWEEP/t001-s0"``) or sweeps differ, and their metrics.

    Configurations are compared over their finished seeds, sweeps by their best configuration; ``contrasts`` of what is
    returned has each against the first: the difference with its interval, the probability of being better, a verdict.

    Raises ``LinsweepError`` for fewer than two names, and for a sweep or trial that does not exist.

    >>> import linsweep as ls
    >>> both = ls.compare("before/t000-s0", "before/t001-s0")
    >>> [side.name for side in both.sides]
    ['before/t000-s0', 'before/t001-s0']
    """
    texts = [os.fspath(name) for name in names]
    sides = [side_of(text, lambda sweep: find_sweep(sweep, Path(storage))) for text in texts]
    if len(sides) < 2:
        raise InputError(texts[0] if texts else "compare", [Problem("", "give something to compare it with")])
    return Comparison(sides)


def _folders(sweeps: Names, storage: str | os.PathLike[str]) -> list[Path]:
    names = [sweeps] if isinstance(sweeps, str | os.PathLike) else sweeps
    return [find_sweep(name, Path(storage)) for name in names]
