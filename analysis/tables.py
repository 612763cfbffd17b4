"""One table object, rendered to a terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import pandas as pd
import rich.box
import rich.table
from rich.cells import cell_len
from rich.text import Text

Align = Literal["left", "right"]
Value = str | int | float | None

MISSING = "\u2013"
LABEL = 16
"""Cells that a row's label gets at the least in a terminal."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    MISSING: "--", "…": r"\dots{}", "§": r"\S{}", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "≤": r"$\leq$", "≥": r"$\geq$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value, the half width of its 95 % confidence interval, and how many it is the mean of."""

    value: Value = None
    half_width: float | None = None
    count: int | None = None
    bold: bool = False

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.value is None or (isinstance(self.value, float) and math.isnan(self.value))


@dataclass(frozen=True)
class Column:
    """``header`` as it is shown, ``key`` as CSV names it, ``spec`` the format of its numbers."""

    header: str
    key: str
    align: Align = "right"
    spec: str = ""

    def text(self, cell: Cell) -> str:
        """The cell in words: the value, ± its half width, and in brackets its count where that is above 1."""
        if cell.missing:
            return MISSING
        if isinstance(cell.value, str):
            return " ".join(cell.value.split())
        text = self._number(cell.value)
        if cell.half_width is not None:
            text += f" ± {self._number(cell.half_width)}"
        return text if cell.count is None or cell.count < 2 else f"{text} ({cell.count})"

    def _number(self, value: float | None) -> str:
        return "0" if value == 0 else format(value, self.spec)


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns; rows of one ``block`` stand together below its name."""

    cells: tuple[Cell, ...]
    block: str = ""
    marker: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows with a title and notes; ``name`` is for file names and LaTeX labels."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def to_rich(self, width: int | None = None) -> rich.table.Table:
        """The table for a terminal of ``width`` cells; the last columns are left out, and named, where it is narrow."""
        shown = self._columns_within(width)
        left_out = [column.header for column in self.columns[shown:]]
        notes = [*self.notes, *([f"No room for: {', '.join(left_out)}."] if left_out else [])]
        title = Text(self.title, style="bold")
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
        if notes:
            table.caption = Text("\n".join(notes))
            table.caption_justify = "left"
        for column, cells in zip(self.columns[:shown], self._column_widths(), strict=False):
            table.add_column(Text(column.header), justify=column.align, vertical="bottom", min_width=cells)
        for block, rows in self._blocks():
            table.add_section()
            if block:
                table.add_row(Text(block, style="italic"))
            for row in rows:
                table.add_row(*(Text(text, "bold" if bold else "") for text, bold in self._texts(row)[:shown]))
        return table

    def _column_widths(self) -> list[int]:
        """The narrowest that each column can be: numbers whole, headers and labels wrapped between words."""
        texts = [[text for text, _ in self._texts(row)] for row in self.rows]
        widths = []
        for index, column in enumerate(self.columns):
            words = [*column.header.split()]
            for row in texts:
                words += [row[index]] if column.align == "right" else row[index].split()
            widths.append(max([1, *map(cell_len, words), *([LABEL] if index == 0 else [])]))
        return widths

    def _columns_within(self, width: int | None) -> int:
        """How many of the columns, from the left, fit; three at the least."""
        shown = len(self.columns)
        widths = self._column_widths()
        while width is not None and shown > 3 and sum(widths[:shown]) + 2 * shown + 1 > width:
            shown -= 1
        return shown

    def to_markdown(self) -> str:
        """The table as Markdown whose columns line up in the raw text."""
        lines = [[_markdown(column.header) for column in self.columns]]
        for block, rows in self._blocks():
            if block:
                lines.append([f"*{_markdown(block)}*", *[""] * (len(self.columns) - 1)])
            for row in rows:
                lines.append([_bold(_markdown(text), "**{}**", bold) for text, bold in self._texts(row)])
        widths = [max(3, *map(cell_len, texts)) for texts in zip(*lines, strict=True)]
        rules = [
            "-" * width if column.align == "left" else "-" * (width - 1) + ":"
            for column, width in zip(self.columns, widths, strict=True)
        ]
        rendered = [self._aligned(line, widths) for line in [lines[0], rules, *lines[1:]]]
        notes = ["", *(f"- {_markdown(note)}" for note in self.notes)] if self.notes else []
        return "\n".join([f"### {_markdown(self.title)}", "", *rendered, *notes]) + "\n"

    def to_latex(self) -> str:
        """The table for LaTeX with booktabs: a ``tabular`` inside a ``table`` with caption and label."""
        body: list[str] = []
        for block, rows in self._blocks():
            if body:
                body.append(r"\midrule")
            if block:
                body.append(rf"\multicolumn{{{len(self.columns)}}}{{l}}{{\emph{{{latex(block)}}}}} \\")
            body += [self._latex_row(row) for row in rows]
        notes = [rf"\par {latex(note)}" for note in self.notes]
        lines = [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{latex(self.title)}}}",
            rf"\label{{tab:{self.name}}}",
            r"\small",
            rf"\begin{{tabular}}{{{''.join(column.align[0] for column in self.columns)}}}",
            r"\toprule",
            " & ".join(latex(column.header) for column in self.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([r"\begin{flushleft}\footnotesize", *notes, r"\end{flushleft}"] if notes else []),
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """The values in full precision; half widths and counts have columns of their own."""
        values: dict[str, list[Value]] = {}
        if any(row.block for row in self.rows):
            values["block"] = [row.block or None for row in self.rows]
        for index, column in enumerate(self.columns):
            cells = [row.cells[index] for row in self.rows]
            values[column.key] = [cell.value for cell in cells]
            if any(cell.half_width is not None for cell in cells):
                values[f"{column.key} ci95"] = [cell.half_width for cell in cells]
            if any(cell.count is not None for cell in cells):
                values[f"{column.key} n"] = [cell.count for cell in cells]
        # As objects, so that whole numbers stay whole beside missing ones.
        return pd.DataFrame(values, dtype=object).to_csv(index=False, lineterminator="\n")

    def _blocks(self) -> Iterable[tuple[str, list[Row]]]:
        for block, rows in groupby(self.rows, key=lambda row: row.block):
            yield block, list(rows)

    def _texts(self, row: Row) -> list[tuple[str, bool]]:
        """What a row's cells say, and whether in bold; the marker goes with the first."""
        pairs = zip(self.columns, row.cells, strict=True)
        texts = [(column.text(cell), row.bold or cell.bold) for column, cell in pairs]
        return [(f"{texts[0][0]} {row.marker}".rstrip(), texts[0][1]), *texts[1:]]

    def _aligned(self, texts: Iterable[str], widths: Iterable[int]) -> str:
        padded = []
        for column, text, width in zip(self.columns, texts, widths, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(text + space if column.align == "left" else space + text)
        return f"| {' | '.join(padded)} |"

    def _latex_row(self, row: Row) -> str:
        cells = []
        for cell, (text, bold) in zip(row.cells, self._texts(row), strict=True):
            escaped = latex(text) if isinstance(cell.value, str) else _latex_number(text, bold)
            cells.append(_bold(escaped, r"\textbf{{{}}}", bold))
        return " & ".join(cells) + r" \\"


def latex(text: str) -> str:
    """Plain text with everything escaped that LaTeX would read as markup."""
    return "".join(LATEX.get(character, character) for character in text)


def number_format(values: Iterable[float]) -> str:
    """One format for a column: three significant digits of its smallest magnitude, aligned at the point."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if all(size == int(size) for size in sizes):
        return ",.0f"
    if min(sizes) < 1e-3 or max(sizes) >= 1e6:
        return ".2e"
    return f".{min(max(2 - math.floor(math.log10(min(sizes))), 0), 4)}f"


def _latex_number(text: str, bold: bool) -> str:
    """Powers of ten and minus signs are set as mathematics, which has a bold of its own."""

    def number(match: re.Match[str]) -> str:
        sign, digits, power = match.groups()
        if power is None:
            return f"${sign}${digits}" if sign else digits
        value = rf"{sign}{digits} \times 10^{{{int(power)}}}"
        return rf"$\mathbf{{{value}}}$" if bold else f"${value}$"

    return re.sub(r"(-?)(\d[\d.,]*)(?:e([+-]\d+))?", number, latex(text))


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\|*`<])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", escaped)


def _bold(text: str, form: str, bold: bool) -> str:
    return form.format(text) if bold else text
