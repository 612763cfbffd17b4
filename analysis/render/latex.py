"""A table for LaTeX, with booktabs and siunitx."""

from __future__ import annotations

import math

from rich.cells import cell_len

from analysis.render.cells import MISSING, Cell, Column, Content, Digits, Row, emphasised

PORTRAIT = 110
"""Characters of a row that are still legible across a portrait page when they are scaled to it."""
PORTRAIT_ROWS, LANDSCAPE_ROWS = 45, 25
"""Rows of a LaTeX table that fit on a page; the others go on on the next."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    MISSING: "--", "…": r"\dots{}", "§": r"\S{}", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "≤": r"$\leq$", "≥": r"$\geq$",
    "×": r"$\times$", "≈": r"$\approx$", "²": "$^2$", "₂": "$_2$", "η": r"$\eta$", "ρ": r"$\rho$", "Δ": r"$\Delta$",
    "·": r"$\cdot$", "−": "$-$", "✗": r"$\otimes$", "∞": r"$\infty$",
}  # fmt: skip
NUMBERS = (
    r"\sisetup{mode=text, reset-text-series=false, separate-uncertainty, group-separator={,}, group-minimum-digits=4}"
)
"""Numbers of a LaTeX table: bold where their cell is, ± before the error, commas between thousands."""


def latex(table: Content) -> str:
    """The table for LaTeX: a ``tabular`` inside a ``table`` with caption and label, numbers by siunitx.

    It needs booktabs, siunitx (3 or newer) and graphicx, and lscape where it is too wide for a portrait page.
    A row wider than the line is scaled to it, and what is longer than a page goes on on the next.
    """
    wide = sum(_cell_widths(table)) > PORTRAIT
    longest = LANDSCAPE_ROWS if wide else PORTRAIT_ROWS
    pages = _pages(table, longest)
    lines = [
        rf"% \usepackage{{booktabs, siunitx, graphicx{', lscape' if wide else ''}}}",
        *([r"\begin{landscape}"] if wide else []),
    ]
    for number, page in enumerate(pages):
        lines += _page(table, page, number, number == len(pages) - 1, "p" if wide or len(pages) > 1 else "t")
    lines += [r"\end{landscape}"] if wide else []
    return "\n".join(lines) + "\n"


def _pages(table: Content, longest: int) -> list[list[str]]:
    """The lines of the body of each page, the title of a block on the page of its first row."""
    pages: list[list[str]] = [[]]
    for block, rows in table.blocks():
        title = rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\emph{{{escaped(block)}}}}} \\"
        for place, row in enumerate(rows):
            opening = [title] if block and not place else []
            if len(pages[-1]) + len(opening) >= longest:
                pages.append([])
            elif opening and pages[-1]:
                opening.insert(0, r"\midrule")
            elif not place and pages[-1]:
                opening = [r"\midrule"]
            pages[-1] += [*opening, _row(table, row)]
    return pages


def _page(table: Content, body: list[str], number: int, last: bool, place: str) -> list[str]:
    """A page of the table as a float; all after the first go on under its number, the last has the notes."""
    notes = [rf"\par {escaped(note)}" for note in table.notes] if last else []
    caption = rf"\caption{{{escaped(table.title)}}}"
    if number:
        caption = r"\addtocounter{table}{-1}" + rf"\caption[]{{{escaped(table.title)} (continued)}}"
    return [
        rf"\begin{{table}}[{place}]",
        r"\centering",
        caption,
        *([] if number else [rf"\label{{tab:{table.name}}}"]),
        r"\footnotesize",
        NUMBERS,
        rf"\sbox0{{\begin{{tabular}}{{{''.join(column.align[0] for column in table.columns)}}}",
        r"\toprule",
        " & ".join(escaped(column.header) for column in table.columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        *([r"\begin{flushleft}", *notes, r"\end{flushleft}"] if notes else []),
        r"\end{table}",
        *([] if last else [r"\clearpage"]),
    ]


def _row(table: Content, row: Row) -> str:
    texts = [latex_cell(column, cell) for column, cell in zip(table.columns, row.cells, strict=True)]
    texts[0] = f"{texts[0]} {escaped(row.marker)}".rstrip()
    cells = zip(texts, row.cells, strict=True)
    return " & ".join(emphasised(text, r"\textbf{{{}}}", row.bold or cell.bold) for text, cell in cells) + r" \\"


def _cell_widths(table: Content) -> list[int]:
    """Characters of each column where nothing is wrapped, with the gap to the next."""
    rows = ([text for text, _ in table.texts(row)] for row in table.rows)
    texts = [[column.header for column in table.columns], *rows]
    return [2 + max(map(cell_len, column)) for column in zip(*texts, strict=True)]


def latex_cell(column: Column, cell: Cell) -> str:
    """A cell in LaTeX, numbers by siunitx."""
    if cell.missing or isinstance(cell.value, str):
        return escaped(column.text(cell))
    if cell.value is not None and math.isinf(cell.value):  # siunitx knows no infinity
        return escaped(f"{'−' if cell.value < 0 else ''}∞ {cell.tail}".rstrip())
    return f"{_number(column.digits(cell))} {escaped(cell.tail)}".rstrip()


def _number(number: Digits) -> str:
    """For siunitx."""
    power = "" if number.power is None else f"e{number.power}"
    value, *spread = (digits.replace(",", "") for digits in (number.value, *number.spread))
    if len(spread) == 1:
        return rf"\num{{{value} +- {spread[0]}{power and f' {power}'}}}"
    ends = "" if not spread else rf" [\num{{{spread[0]}{power}}}, \num{{{spread[1]}{power}}}]"
    return rf"\num{{{value}{power}}}{ends}"


def escaped(text: str) -> str:
    """Plain text with everything escaped that LaTeX would read as markup."""
    return "".join(LATEX.get(character, character) for character in text)
