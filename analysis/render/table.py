"""One table object, rendered to a terminal, Markdown, HTML, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.table

from analysis.render.cells import Content, Value
from analysis.render.csv import csv
from analysis.render.html import html
from analysis.render.latex import latex
from analysis.render.markdown import markdown
from analysis.render.terminal import terminal
from analysis.render.values import by_column


class Table(Content):
    """Columns and rows with a title and notes; ``name`` is used in file names and LaTeX labels.

    >>> import analysis
    >>> columns = (analysis.Column("name", "name", "left"), analysis.Column("loss", "loss", spec=".2f"))
    >>> rows = (analysis.Row((analysis.Cell("flat"), analysis.Cell(0.5))),)
    >>> table = analysis.Table("losses", "Losses", columns, rows)
    >>> table
    <Table losses, 1 × 2>
    >>> print(table.to_csv(), end="")
    name,loss
    flat,0.5
    """

    def __repr__(self) -> str:
        return f"<Table {self.name}, {len(self.rows)} × {len(self.columns)}>"

    def _repr_html_(self) -> str:
        """For a notebook."""
        return self.to_html()

    def to_rich(self, width: int | None = None, plain: bool = False) -> rich.table.Table:
        """The table for a terminal ``width`` characters wide; columns that do not fit are named below instead.

        ``plain`` marks what is bold, for output without styles.
        """
        return terminal(self, width, plain)

    def to_markdown(self) -> str:
        """The table as Markdown, with columns aligned in the raw text."""
        return markdown(self)

    def to_html(self, standalone: bool = False) -> str:
        """The table as an HTML fragment, or as a page of its own (``standalone``), with numbers aligned right."""
        return html(self, standalone)

    def to_latex(self) -> str:
        """The table for LaTeX: a ``tabular`` inside a ``table`` with caption and label, numbers by siunitx.

        It needs booktabs, siunitx (3 or newer) and graphicx, and lscape if it is too wide for a portrait page. A table
        wider than the line is scaled down to it, and one longer than a page continues on the next.
        """
        return latex(self)

    def to_csv(self) -> str:
        """The values in full precision; intervals, counts and remarks on cells are columns of their own."""
        return csv(self)

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON values: ``name``, ``title``, ``columns``, ``rows`` (column → value), ``notes``.

        The columns are those of the CSV; missing values are None.

        >>> import analysis
        >>> columns = (analysis.Column("name", "name", "left"), analysis.Column("loss", "loss", spec=".2f"))
        >>> rows = (analysis.Row((analysis.Cell("flat"), analysis.Cell(0.5))),)
        >>> analysis.Table("losses", "Losses", columns, rows).to_dict()["rows"]
        [{'name': 'flat', 'loss': 0.5}]
        """
        values = by_column(self)
        rows = [dict(zip(values, map(_plain, row), strict=True)) for row in zip(*values.values(), strict=True)]
        named = {"name": self.name, "title": self.title, "columns": list(values)}
        return {**named, "rows": rows, "notes": list(self.notes)}

    def write(self, folder: Path, suffixes: Sequence[str]) -> list[Path]:
        """Write the table into a folder in the formats of ``suffixes`` (``.csv``, ``.md``, ``.tex``, ``.html``)."""
        made: dict[str, Callable[[], str]] = {
            ".csv": self.to_csv,
            ".md": self.to_markdown,
            ".tex": self.to_latex,
            ".html": lambda: self.to_html(standalone=True),
        }
        paths = [folder / f"{self.name}{suffix}" for suffix in suffixes]
        for path in paths:
            path.write_text(made[path.suffix](), encoding="utf-8")
        return paths


def _plain(value: Value) -> Value:
    """A value as a plain Python type instead of NumPy's, with None for NaN."""
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
