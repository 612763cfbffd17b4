"""A table as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.cells import cell_len

from analysis.render.cells import Content, emphasised


def markdown(table: Content) -> str:
    """The table as Markdown, with columns aligned in the raw text."""
    lines = [[_escaped(column.header) for column in table.columns]]
    for block, rows in table.blocks():
        if block:
            lines.append([f"*{_escaped(block)}*", *[""] * (len(table.columns) - 1)])
        for row in rows:
            lines.append([emphasised(_escaped(text), "**{}**", bold) for text, bold in table.texts(row)])
    widths = [max(3, *map(cell_len, texts)) for texts in zip(*lines, strict=True)]
    rules = [
        "-" * width if column.align == "left" else "-" * (width - 1) + ":"
        for column, width in zip(table.columns, widths, strict=True)
    ]
    rendered = [_aligned(table, line, widths) for line in [lines[0], rules, *lines[1:]]]
    notes = ["", *(f"- {_escaped(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([f"### {_escaped(table.title)}", "", *rendered, *notes]) + "\n"


def _aligned(table: Content, texts: Iterable[str], widths: Iterable[int]) -> str:
    padded = []
    for column, text, width in zip(table.columns, texts, widths, strict=True):
        space = " " * (width - cell_len(text))
        padded.append(text + space if column.align == "left" else space + text)
    return f"| {' | '.join(padded)} |"


def _escaped(text: str) -> str:
    escaped = re.sub(r"([\\|*`<])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", escaped)
