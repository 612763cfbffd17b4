"""A table in a terminal."""

from __future__ import annotations

import re

import rich.box
import rich.table
from rich.cells import cell_len
from rich.text import Text

from analysis.render.cells import Content

LABEL = 16
"""The smallest width of a row's label, in characters."""


BOLD = "*"
"""Marks what is bold where text has no weight, such as in a file."""


def terminal(table: Content, width: int | None = None, plain: bool = False) -> rich.table.Table:
    """The table for a terminal ``width`` characters wide; columns that do not fit are named below instead.

    With ``plain``, a mark stands for bold text: after the first cell of a bold row, and after single bold cells.
    """
    shown = _columns_within(table, width)
    left_out = [column.header for column in table.columns[shown:]]
    told = [re.sub("^Bold:", f"{BOLD}:", note) if plain else note for note in table.notes]
    notes = [*told, *([f"Columns that did not fit: {', '.join(left_out)}."] if left_out else [])]
    title = Text(table.title, style="bold")
    drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    if notes:
        drawn.caption = Text("\n".join(notes))
        drawn.caption_justify = "left"
    for column, cells in zip(table.columns[:shown], _column_widths(table), strict=False):
        drawn.add_column(Text(column.header), justify=column.align, vertical="bottom", min_width=cells)
    for block, rows in table.blocks():
        drawn.add_section()
        if block:
            drawn.add_row(Text(block, style="italic"))
        for row in rows:
            drawn.add_row(
                *(
                    Text(f"{text}{BOLD if plain and bold and not (row.bold and place) else ''}", "bold" if bold else "")
                    for place, (text, bold) in enumerate(table.texts(row)[:shown])
                )
            )
    return drawn


def _column_widths(table: Content) -> list[int]:
    """The smallest width of each column: numbers unbroken, headers and labels wrapped between words."""
    texts = [[text for text, _ in table.texts(row)] for row in table.rows]
    widths = []
    for index, column in enumerate(table.columns):
        words = [*column.header.split()]
        for row in texts:
            words += [row[index]] if column.align == "right" else row[index].split()
        widths.append(max([1, *map(cell_len, words), *([LABEL] if index == 0 else [])]))
    return widths


def _columns_within(table: Content, width: int | None) -> int:
    """How many columns fit, from the left; at least three."""
    shown = len(table.columns)
    widths = _column_widths(table)
    while width is not None and shown > 3 and sum(widths[:shown]) + 2 * shown + 1 > width:
        shown -= 1
    return shown
