"""A table as HTML."""

from __future__ import annotations

import html as markup

from analysis.render.cells import Cell, Column, Content, Digits, emphasised


def html(table: Content, standalone: bool = False) -> str:
    """The table as an HTML fragment, or as a page of its own (``standalone``), with numbers aligned to the right."""
    head = "".join(f"<th{_right(column)}>{markup.escape(column.header)}</th>" for column in table.columns)
    body: list[str] = []
    for block, rows in table.blocks():
        body.append("<tbody>")
        if block:
            body.append(f'<tr><th colspan="{len(table.columns)}" scope="rowgroup">{markup.escape(block)}</th></tr>')
        for row in rows:
            texts = [_cell(column, cell) for column, cell in zip(table.columns, row.cells, strict=True)]
            texts[0] = f"{texts[0]} {markup.escape(row.marker)}".rstrip()
            cells = zip(table.columns, texts, row.cells, strict=True)
            marked = (
                f"<td{_right(column)}>{emphasised(text, '<b>{}</b>', row.bold or cell.bold)}</td>"
                for column, text, cell in cells
            )
            body.append(f"<tr>{''.join(marked)}</tr>")
        body.append("</tbody>")
    notes = [f"<li>{markup.escape(note)}</li>" for note in table.notes]
    title = markup.escape(table.title)
    lines = [
        f'<table id="{markup.escape(table.name)}">',
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


def _cell(column: Column, cell: Cell) -> str:
    if cell.missing or isinstance(cell.value, str):
        return markup.escape(column.text(cell))
    return f"{_number(column.digits(cell))} {markup.escape(cell.tail)}".rstrip()


def _number(number: Digits) -> str:
    digits = markup.escape(Digits(number.value, number.spread).text()).replace("-", "−")
    if number.power is None:
        return digits
    return f"{f'({digits})' if number.spread else digits} × 10<sup>{str(number.power).replace('-', '−')}</sup>"


def _right(column: Column) -> str:
    return ' style="text-align: right"' if column.align == "right" else ""
