"""A selection of rows and columns of the ablation table, for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.names import column_of
from analysis.configuration.objective import first_objective
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Row
from analysis.render.table import Table
from analysis.statistics.intervals import Method
from analysis.tables.configurations import configurations, titled
from analysis.tables.layout import BLOCKS
from linearizer_core.words import counted

Found = TypeVar("Found")

BLOCK_WORDS = {"confirmed": BLOCKS["confirm"], "controls": BLOCKS["control"], "references": BLOCKS["reference"]}
BEST = re.compile(r"best:([1-9]\d*)")
SIGNS = ("Bold", "±", "[low", "†", "‡", "§")
"""Beginnings of notes that explain a mark; such a note is kept if a chosen row has the mark."""


def paper_table(
    record: Recorded, columns: Sequence[str] | None = None, only: Sequence[str] | None = None, *, ci: Method = "t"
) -> Table:
    """Chosen rows and columns of ``configurations``, in its order.

    ``columns`` are axes, metrics, ``configuration``, ``seeds`` or ``state``, by keys or as tables print them; by
    default the axes, the first objective and its test score. ``only`` are rows: ``best:5``, ``confirmed``,
    ``controls``, ``references`` or names such as ``t003``; by default ``best:5``. Controls and references need their
    names, so a column of names is added in front if ``columns`` has none.

    Raises ``RecordError`` for unknown columns and rows, with the closest known ones.

    >>> import analysis
    >>> analysis.paper_table(analysis.example(), ["depth", "rank", "test"], ["best:3", "controls"])
    <Table digits, 4 × 4>
    """
    every = Configurations.of(record)
    record = every.record
    keys = list(dict.fromkeys(_each(record, columns or _default(record), column_of)))
    metrics = [key for key in keys if key in record.metrics]
    whole = configurations(every, metrics, ci=ci)
    named = _named_rows(record, whole)
    asked = only or ["best:5"]
    chosen = {
        place for places in _each(record, asked, lambda _, word: _rows(record, whole, named, word)) for place in places
    }
    rows = [row for place, row in enumerate(whole.rows) if place in chosen]
    if "configuration" not in keys and any(row.block in (BLOCKS["control"], BLOCKS["reference"]) for row in rows):
        keys.insert(0, "configuration")
    there = [column.key for column in whole.columns]
    places = [there.index(key) for key in keys]
    cut = [Row(tuple(row.cells[place] for place in places), row.block, row.marker, row.bold) for row in rows]
    return Table(
        name="-".join(sweep.name for sweep in record.sweeps),
        title=titled(record, metrics, f"{len(cut)} of {counted(len(whole.rows), 'configuration')}"),
        columns=tuple(whole.columns[place] for place in places),
        rows=tuple(cut),
        notes=tuple(note for note in whole.notes if _needed(note, cut)),
    )


def _default(record: Record) -> list[str]:
    key, _ = first_objective(record)
    test = key.replace("quality/", "test/", 1)
    return [*record.axes, key, *([test] if test in record.metrics else [])]


def _each(record: Record, names: Sequence[str], find: Callable[[Record, str], Found]) -> list[Found]:
    """The meaning of each name; one error lists all that have none."""
    found, wrong = [], []
    for name in names:
        try:
            found.append(find(record, name))
        except RecordError as error:
            wrong.append(str(error))
    if wrong:
        raise RecordError("\n".join(wrong))
    return found


def _named_rows(record: Record, table: Table) -> dict[str, list[int]]:
    """Name → indices of rows; if there are several sweeps, also with the sweep in front."""
    keys = [column.key for column in table.columns]
    named: dict[str, list[int]] = {}
    for place, row in enumerate(table.rows):
        name = str(row.cells[keys.index("configuration")].value)
        names = [name, f"{row.cells[keys.index('sweep')].value}/{name}"] if len(record.sweeps) > 1 else [name]
        for each in dict.fromkeys(names):
            named.setdefault(each, []).append(place)
    return named


def _rows(record: Record, table: Table, named: dict[str, list[int]], word: str) -> list[int]:
    """The indices of the rows that a word of ``only`` selects."""
    best = BEST.fullmatch(word)
    if best is not None:
        finished = [place for place, row in enumerate(table.rows) if not row.block and row.marker not in ("†", "‡")]
        return finished[: int(best[1])]
    places = [place for place, row in enumerate(table.rows) if row.block and row.block == BLOCK_WORDS.get(word)]
    if places:
        return places
    there = {row.block for row in table.rows}
    blocks = [name for name, block in BLOCK_WORDS.items() if block in there]
    return named[record.checked(word, ["best:5", *blocks, *named], "row")]


def _needed(note: str, rows: Sequence[Row]) -> bool:
    """Whether a note is about a mark in the rows, or about the sweep as a whole."""
    sign = next((sign for sign in SIGNS if note.startswith(sign)), None)
    cells = [cell for row in rows for cell in row.cells]
    if sign == "Bold":
        return any(row.bold for row in rows)
    if sign == "±":
        return any(cell.half_width is not None for cell in cells)
    if sign == "[low":
        return any(cell.interval is not None for cell in cells)
    return sign is None or any(row.marker == sign for row in rows)
