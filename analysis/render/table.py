"""One table object, rendered to a terminal, Markdown, HTML, LaTeX and CSV."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

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
PORTRAIT = 110
"""Characters of a row that are still legible across a portrait page when they are scaled to it."""
PORTRAIT_ROWS, LANDSCAPE_ROWS = 45, 25
"""Rows of a LaTeX table that fit on a page; the others go on on the next."""
ROUNDING = 1e-9
"""An error that is smaller than this, relative to its value, is one of rounding: its digits say nothing."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    MISSING: "--", "…": r"\dots{}", "§": r"\S{}", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "≤": r"$\leq$", "≥": r"$\geq$",
    "×": r"$\times$", "≈": r"$\approx$", "²": "$^2$", "₂": "$_2$", "η": r"$\eta$", "ρ": r"$\rho$", "Δ": r"$\Delta$",
    "·": r"$\cdot$", "−": "$-$",
}  # fmt: skip
NUMBERS = (
    r"\sisetup{mode=text, reset-text-series=false, separate-uncertainty, group-separator={,}, group-minimum-digits=4}"
)
"""Numbers of a LaTeX table: bold where their cell is, ± before the error, commas between thousands."""


@dataclass(slots=True)  # not frozen: that makes each of a table's thousands six times as expensive
class Cell:
    """A value and how far it can be relied on.

    ``half_width`` is of a symmetric 95 % confidence interval, ``interval`` the ends of another one; ``count`` says
    how many the value is the mean of and ``of`` how many there should have been. ``marker`` stands behind the
    value, ``reason`` in the place of one that is missing.
    """

    value: Value = None
    half_width: float | None = None
    count: int | None = None
    bold: bool = False
    interval: tuple[float, float] | None = None
    of: int | None = None
    marker: str = ""
    reason: str = ""

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.value is None or (isinstance(self.value, float) and math.isnan(self.value))

    @property
    def tail(self) -> str:
        """What stands behind the number: how many it is the mean of, in brackets, and the marker."""
        counts = "" if self.count is None else f"({self.count})" if self.incomplete is None else f"({self.incomplete})"
        return " ".join(filter(None, (counts, self.marker)))

    @property
    def incomplete(self) -> str | None:
        """``2/3`` where one of three is missing."""
        return None if self.of is None or self.of == self.count else f"{self.count}/{self.of}"


class Figures(NamedTuple):
    """A number as it is written: digits, those of its half width or of the ends of its interval, power of ten."""

    value: str
    spread: tuple[str, ...] = ()
    power: int | None = None

    def text(self) -> str:
        """In plain text."""
        digits = self.value
        if len(self.spread) == 1:
            digits += f" ± {self.spread[0]}"
        elif self.spread:
            digits += f" [{self.spread[0]}, {self.spread[1]}]"
        if self.power is None:
            return digits
        return f"({digits})e{self.power:+03d}" if self.spread else f"{digits}e{self.power:+03d}"

    def latex(self) -> str:
        """For siunitx."""
        power = "" if self.power is None else f"e{self.power}"
        value, *spread = (digits.replace(",", "") for digits in (self.value, *self.spread))
        if len(spread) == 1:
            return rf"\num{{{value} +- {spread[0]}{power and f' {power}'}}}"
        ends = "" if not spread else rf" [\num{{{spread[0]}{power}}}, \num{{{spread[1]}{power}}}]"
        return rf"\num{{{value}{power}}}{ends}"

    def html(self) -> str:
        """For HTML."""
        digits = html.escape(Figures(self.value, self.spread).text()).replace("-", "−")
        if self.power is None:
            return digits
        return f"{f'({digits})' if self.spread else digits} × 10<sup>{str(self.power).replace('-', '−')}</sup>"


@dataclass(frozen=True)
class Column:
    """``header`` as it is shown, ``key`` as CSV names it, ``spec`` the format of its numbers without an error."""

    header: str
    key: str
    align: Align = "right"
    spec: str = ""

    def text(self, cell: Cell) -> str:
        """The cell in words: the value and its interval, rounded to two digits of it, its count and its marker."""
        if cell.missing:
            return f"{MISSING} {cell.reason}".rstrip()
        if isinstance(cell.value, str):
            return " ".join([*cell.value.split(), *([cell.marker] if cell.marker else [])])
        return f"{self.figures(cell).text()} {cell.tail}".rstrip()

    def latex(self, cell: Cell) -> str:
        """The cell for LaTeX with siunitx."""
        if cell.missing or isinstance(cell.value, str):
            return latex(self.text(cell))
        return f"{self.figures(cell).latex()} {latex(cell.tail)}".rstrip()

    def html(self, cell: Cell) -> str:
        """The cell for HTML."""
        if cell.missing or isinstance(cell.value, str):
            return html.escape(self.text(cell))
        return f"{self.figures(cell).html()} {html.escape(cell.tail)}".rstrip()

    def figures(self, cell: Cell) -> Figures:
        """The number of a cell, rounded by the magnitude of its error where it has one."""
        if not isinstance(cell.value, int | float):
            raise TypeError(f"{self.key}: {cell.value!r} is not a number")
        value, error = float(cell.value), cell.half_width
        others: tuple[float, ...] = () if error is None else (error,)
        if cell.interval is not None:
            others, error = cell.interval, (cell.interval[1] - cell.interval[0]) / 2
        if not error or not all(map(math.isfinite, (value, error))):
            return self._plain(cell.value, others if error == 0 else ())
        if error <= ROUNDING * abs(value):
            return self._plain(cell.value, [0.0] if cell.interval is None else others)
        last = int(f"{error:.1e}".partition("e")[2]) - 1
        if not self.spec.endswith("e"):
            return Figures(_digits(value, last), tuple(_digits(other, last) for other in others))
        power = max(int(f"{number:e}".partition("e")[2]) for number in (value, error))
        digits = [_digits(number / 10.0**power, last - power) for number in (value, *others)]
        return Figures(digits[0], tuple(digits[1:]), power)

    def _plain(self, value: float, others: Iterable[float]) -> Figures:
        digits, _, power = ("0" if value == 0 else format(value, self.spec)).partition("e")
        spread = tuple("0" if other == 0 else digits for other in others)
        return Figures(digits, spread, int(power) if power else None)


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

    def to_html(self, standalone: bool = False) -> str:
        """The table as an HTML fragment, or as a page of its own; numbers align to the right."""
        head = "".join(f"<th{_right(column)}>{html.escape(column.header)}</th>" for column in self.columns)
        body: list[str] = []
        for block, rows in self._blocks():
            body.append("<tbody>")
            if block:
                body.append(f'<tr><th colspan="{len(self.columns)}" scope="rowgroup">{html.escape(block)}</th></tr>')
            for row in rows:
                texts = [column.html(cell) for column, cell in zip(self.columns, row.cells, strict=True)]
                texts[0] = f"{texts[0]} {html.escape(row.marker)}".rstrip()
                cells = zip(self.columns, texts, row.cells, strict=True)
                marked = (
                    f"<td{_right(column)}>{_bold(text, '<b>{}</b>', row.bold or cell.bold)}</td>"
                    for column, text, cell in cells
                )
                body.append(f"<tr>{''.join(marked)}</tr>")
            body.append("</tbody>")
        notes = [f"<li>{html.escape(note)}</li>" for note in self.notes]
        title = html.escape(self.title)
        lines = [
            f'<table id="{html.escape(self.name)}">',
            f"<caption>{title}</caption>",
            f"<thead><tr>{head}</tr></thead>",
            *body,
            "</table>",
            *(["<ul>", *notes, "</ul>"] if notes else []),
        ]
        if standalone:
            page = ['<!doctype html><html lang="en"><meta charset="utf-8">', f"<title>{title}</title>"]
            lines = [*page, *lines, "</html>"]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """The table for LaTeX: a ``tabular`` inside a ``table`` with caption and label, numbers by siunitx.

        It needs booktabs, siunitx (3 or newer) and graphicx, and lscape where it is too wide for a portrait page.
        A row wider than the line is scaled to it, and what is longer than a page goes on on the next.
        """
        wide = sum(self._cell_widths()) > PORTRAIT
        longest = LANDSCAPE_ROWS if wide else PORTRAIT_ROWS
        pages = self._latex_pages(longest)
        lines = [
            rf"% \usepackage{{booktabs, siunitx, graphicx{', lscape' if wide else ''}}}",
            *([r"\begin{landscape}"] if wide else []),
        ]
        for number, page in enumerate(pages):
            lines += self._latex_page(page, number, number == len(pages) - 1, "p" if wide or len(pages) > 1 else "t")
        lines += [r"\end{landscape}"] if wide else []
        return "\n".join(lines) + "\n"

    def _latex_pages(self, longest: int) -> list[list[str]]:
        """The lines of the body of each page, the title of a block on the page of its first row."""
        pages: list[list[str]] = [[]]
        for block, rows in self._blocks():
            title = rf"\multicolumn{{{len(self.columns)}}}{{l}}{{\emph{{{latex(block)}}}}} \\"
            for place, row in enumerate(rows):
                opening = [title] if block and not place else []
                if len(pages[-1]) + len(opening) >= longest:
                    pages.append([])
                elif opening and pages[-1]:
                    opening.insert(0, r"\midrule")
                elif not place and pages[-1]:
                    opening = [r"\midrule"]
                pages[-1] += [*opening, self._latex_row(row)]
        return pages

    def _latex_page(self, body: list[str], number: int, last: bool, place: str) -> list[str]:
        """A page of the table as a float; all after the first go on under its number, the last has the notes."""
        notes = [rf"\par {latex(note)}" for note in self.notes] if last else []
        caption = rf"\caption{{{latex(self.title)}}}"
        if number:
            caption = r"\addtocounter{table}{-1}" + rf"\caption[]{{{latex(self.title)} (continued)}}"
        return [
            rf"\begin{{table}}[{place}]",
            r"\centering",
            caption,
            *([] if number else [rf"\label{{tab:{self.name}}}"]),
            r"\footnotesize",
            NUMBERS,
            rf"\sbox0{{\begin{{tabular}}{{{''.join(column.align[0] for column in self.columns)}}}",
            r"\toprule",
            " & ".join(latex(column.header) for column in self.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            *([r"\begin{flushleft}", *notes, r"\end{flushleft}"] if notes else []),
            r"\end{table}",
            *([] if last else [r"\clearpage"]),
        ]

    def write(self, folder: Path, suffixes: Sequence[str]) -> list[Path]:
        """Write the table into a folder, as ``.csv``, ``.md``, ``.tex`` and ``.html`` where asked for."""
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

    def to_csv(self) -> str:
        """The values in full precision; intervals, counts and what is said of a cell have columns of their own."""
        values: dict[str, list[Value]] = {}
        if any(row.block for row in self.rows):
            values["block"] = [row.block or None for row in self.rows]
        for index, column in enumerate(self.columns):
            cells = [row.cells[index] for row in self.rows]
            values[column.key] = [cell.value for cell in cells]
            if any(cell.half_width is not None for cell in cells):
                values[f"{column.key} ci95"] = [cell.half_width for cell in cells]
            if any(cell.interval is not None for cell in cells):
                for end, name in enumerate(("low", "high")):
                    values[f"{column.key} ci95 {name}"] = [cell.interval and cell.interval[end] for cell in cells]
            if any(cell.count is not None for cell in cells):
                values[f"{column.key} n"] = [cell.count for cell in cells]
            if any(cell.incomplete or cell.marker or cell.reason for cell in cells):
                said = [filter(None, (cell.marker, cell.reason, cell.incomplete)) for cell in cells]
                values[f"{column.key} note"] = [" ".join(words) or None for words in said]
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

    def _cell_widths(self) -> list[int]:
        """Characters of each column where nothing is wrapped, with the gap to the next."""
        rows = ([text for text, _ in self._texts(row)] for row in self.rows)
        texts = [[column.header for column in self.columns], *rows]
        return [2 + max(map(cell_len, column)) for column in zip(*texts, strict=True)]

    def _latex_row(self, row: Row) -> str:
        texts = [column.latex(cell) for column, cell in zip(self.columns, row.cells, strict=True)]
        texts[0] = f"{texts[0]} {latex(row.marker)}".rstrip()
        cells = zip(texts, row.cells, strict=True)
        return " & ".join(_bold(text, r"\textbf{{{}}}", row.bold or cell.bold) for text, cell in cells) + r" \\"


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


def _digits(value: float, last: int) -> str:
    """A number rounded to the power of ten ``last``."""
    # Adding zero takes the sign from a negative one.
    return f"{round(value, -last) + 0.0:,.{max(-last, 0)}f}"


def _right(column: Column) -> str:
    return ' style="text-align: right"' if column.align == "right" else ""


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\|*`<])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", escaped)


def _bold(text: str, form: str, bold: bool) -> str:
    return form.format(text) if bold else text
