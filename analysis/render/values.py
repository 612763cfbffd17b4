"""A table's values by column, in full precision, from which CSV and JSON are written."""

from __future__ import annotations

from analysis.render.cells import Content, Value


def by_column(table: Content) -> dict[str, list[Value]]:
    """The values of each column; intervals, counts and remarks on cells are columns of their own."""
    values: dict[str, list[Value]] = {}
    if any(row.block for row in table.rows):
        values["block"] = [row.block or None for row in table.rows]
    for index, column in enumerate(table.columns):
        cells = [row.cells[index] for row in table.rows]
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
    return values
