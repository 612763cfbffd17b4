"""A table for LaTeX, with booktabs and siunitx."""

from __future__ import annotations

import math

from rich.cells import cell_len

from analysis.render.cells import MISSING, Cell, Column, Content, Digits, Row, emphasised

PORTRAIT = 110
"""The longest row, in characters, that is still legible when scaled to the width of a portrait page."""
PORTRAIT_ROWS, LANDSCAPE_ROWS = 45, 25
"""Rows that fit on a page; longer tables continue on the next."""
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
"""Settings of siunitx: bold numbers in bold cells, ± before the error, commas between thousands."""


def latex(table: Content) -> str:
    """The table for LaTeX: a ``tabular`` inside a ``table`` with caption and label, numbers by siunitx.

    It needs booktabs, siunitx (3 or newer) and graphicx, and lscape if it is too wide for a portrait page. A table
    wider than the line is scaled down to it, and one longer than a page continues on the next.
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
    """The body's lines by page; a block's title is on the page of its first row."""
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
    """One page of the table as a float; later pages keep the first one's number, and the last has the notes."""
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
    """The unwrapped width of each column in characters, with the gap to the next."""
    rows = ([text for text, _ in table.texts(row)] for row in table.rows)
    texts = [[column.header for column in table.columns], *rows]
    return [2 + max(map(cell_len, column)) for column in zip(*texts, strict=True)]


def latex_cell(column: Column, cell: Cell) -> str:
    """A cell in LaTeX, numbers by siunitx."""
    if cell.missing or isinstance(cell.value, str):
        return escaped(column.text(cell))
    if cell.value is not None and math.isinf(cell.value):  # siunitx cannot print infinity
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
    """Plain text with LaTeX's special characters escaped."""
    return "".join(LATEX.get(character, character) for character in text)
