"""A LaTeX table as wide as a column of a paper, in a fixed font size."""

from __future__ import annotations

import re

from analysis.render.cells import Column, Content, Row, emphasised
from analysis.render.latex import NUMBERS, escaped, latex_cell

GAP = 5.0
"""Points between two columns, at least."""
SIZES = {r"\footnotesize": 8.0, r"\scriptsize": 7.5}
"""Points per em of the widths below: 8 for an 8-point font; a 7-point font is slightly wider for its size."""
EMS = {
    **dict.fromkeys(" .,:;!'|filjI[]{}", 0.39), **dict.fromkeys("rst()-–/", 0.43), **dict.fromkeys("cez", 0.48),
    **dict.fromkeys("0123456789_J±×↓↑†‡§²₂", 0.55), **dict.fromkeys("mwMW%≈≤≥−&@…", 1.1),
}  # fmt: skip
"""Upper bounds on the widths of Computer Modern's characters; ± and × include part of the spaces around them."""
CAPITAL, OTHER = 0.86, 0.6
BOLD = 1.16
"""Factor on the width of bold letters."""
SHARES = (0.35, 0.25)
"""Text is wrapped at these shares of the column's width: the first at which the table fits."""


class TooWideError(ValueError):
    """The columns do not fit, even in the smallest letters."""


def latex_column(table: Content, points: float, *, caption: str = "", label: str = "") -> str:
    """The table for LaTeX, ``\\columnwidth`` wide, for columns of at least ``points`` points.

    ``caption`` is LaTeX and defaults to the title; ``label`` defaults to ``tab:`` and the name. It needs booktabs and
    siunitx (3 or newer). Raises ``TooWideError`` if the columns need more than ``points`` in a 7-point font.

    >>> import analysis
    >>> table = analysis.paper_table(analysis.example(), ["depth", "rank"], ["t003"])
    >>> print(latex_column(table, 200.0).splitlines()[13])
    \\num{1} & \\num{32} \\\\
    """
    size, share = _size(table, points)
    limits = _limits(table, share)
    head = [_stacked(column.header, limit, column, "b") for column, limit in zip(table.columns, limits, strict=True)]
    body: list[str] = []
    for block, rows in table.blocks():
        body += [r"\midrule"] if body else []
        body += [rf"\multicolumn{{{len(table.columns)}}}{{@{{}}l}}{{\emph{{{escaped(block)}}}}} \\"] if block else []
        body += [_row(table, row, limits) for row in rows]
    notes = [rf"{_breakable(note)}\par" for note in table.notes]
    lines = [
        r"% \usepackage{booktabs, siunitx}",
        r"\begin{table}[t]",
        r"\centering",
        r"\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{caption or escaped(table.title)}}}",
        rf"\label{{{label or f'tab:{table.name}'}}}",
        size,
        NUMBERS,
        rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}",
        rf"\begin{{tabular*}}{{\columnwidth}}{{@{{\extracolsep{{\fill}}}}"
        rf"{''.join(column.align[0] for column in table.columns)}@{{}}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular*}",
        *([r"\par\smallskip", r"\scriptsize\raggedright", *notes] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _size(table: Content, points: float) -> tuple[str, float]:
    """The largest font size at which the table fits, and the width in em at which its text is wrapped."""
    needed = 0.0
    for size, em in SIZES.items():
        for share in SHARES:
            text = share * points / em
            needed = em * sum(_widths(table, text)) + GAP * (len(table.columns) - 1)
            if needed <= points:
                return size, text
    raise TooWideError(
        f"the columns {', '.join(column.key for column in table.columns)} need {needed:.0f} points in the smallest "
        f"font size, but a column of the paper has {points:.0f}"
    )


def _widths(table: Content, text: float) -> list[float]:
    """The width of each column in em, with text and headers wrapped."""
    pairs = zip(table.columns, _limits(table, text), _contents(table, text), strict=True)
    return [max(content, *map(_ems, _broken(column.header, limit))) for column, limit, content in pairs]


def _limits(table: Content, text: float) -> list[float]:
    """The widest line of each header: as wide as its column's contents, or as wrapped text in a text column."""
    pairs = zip(table.columns, _contents(table, text), strict=True)
    return [max(content, text) if column.align == "left" else content for column, content in pairs]


def _contents(table: Content, text: float) -> list[float]:
    """The width of the widest cell of each column, in em."""
    widest = [0.0] * len(table.columns)
    for row in table.rows:
        for place, (words, bold) in enumerate(table.texts(row)):
            lines = _broken(words, text) if isinstance(row.cells[place].value, str) else [words]
            widest[place] = max(widest[place], (BOLD if bold else 1) * max(map(_ems, lines)))
    return widest


def _row(table: Content, row: Row, limits: list[float]) -> str:
    texts = []
    pairs = zip(table.columns, row.cells, table.texts(row), limits, strict=True)
    for place, (column, cell, (text, bold), limit) in enumerate(pairs):
        if isinstance(cell.value, str):
            words = _stacked(text, limit, column, "t")
        else:
            words = f"{latex_cell(column, cell)} {escaped(row.marker) if place == 0 else ''}".rstrip()
        texts.append(emphasised(words, r"\textbf{{{}}}", bold))
    return " & ".join(texts) + r" \\"


def _stacked(text: str, limit: float, column: Column, place: str) -> str:
    """Text in as many lines as it needs, aligned with its row at the first (``t``) or last (``b``) line."""
    lines = [escaped(line) for line in _broken(text, limit)]
    if len(lines) == 1:
        return lines[0]
    inner = r"\\".join(lines)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{column.align[0]}@{{}}}}{inner}\end{{tabular}}"


def _broken(text: str, limit: float) -> list[str]:
    """Lines of at most ``limit`` em, or of a single longer word; an arrow stays with the word before it."""
    lines: list[str] = []
    for word in re.split(r" (?![↓↑])", text):
        if lines and _ems(f"{lines[-1]} {word}") <= limit:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _ems(text: str) -> float:
    written = re.sub(r"e([+-]\d+)(?= |$)", r" × 10\1", text)
    return sum(EMS.get(letter, CAPITAL if letter.isupper() else OTHER) for letter in written)


def _breakable(note: str) -> str:
    """A note in LaTeX in which long words may be broken after a slash, a dot or an underscore."""
    words = [
        re.sub(r"(\\_|[/.])(?=.)", r"\1\\allowbreak{}", escaped(word)) if len(word) > 20 else escaped(word)
        for word in note.split()
    ]
    return " ".join(words)
