"""The parts of a table: cells, columns and rows, and how a number is rounded by its error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

Align = Literal["left", "right"]
Value = str | int | float | None

MISSING = "\u2013"
ROUNDING = 1e-9
"""An error smaller than this, relative to its value, is floating-point rounding; its digits mean nothing."""


LARGEST_WHOLE = 1e15
"""From here on, whole numbers are written with a power of ten: floating point does not hold all of their digits."""


@dataclass(slots=True)  # not frozen: a table has thousands, and freezing makes each six times as slow
class Cell:
    """A value and its uncertainty.

    ``half_width`` is that of a symmetric 95 % confidence interval; ``interval`` holds the ends of an asymmetric one.
    ``count`` is how many numbers the value is the mean of, and ``of`` how many there should have been. ``marker`` is
    shown after the value, ``reason`` in place of a missing one.

    >>> import analysis
    >>> cell = analysis.Cell(12.345, half_width=0.67, count=3)
    >>> analysis.Column("mean", "mean").text(cell)
    '12.35 ± 0.67 (3)'
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
        """The text after the number: how many numbers it is the mean of, in brackets, and the marker."""
        counts = "" if self.count is None else f"({self.count})" if self.incomplete is None else f"({self.incomplete})"
        return " ".join(filter(None, (counts, self.marker)))

    @property
    def incomplete(self) -> str | None:
        """``2/3`` if one of three is missing."""
        return None if self.of is None or self.of == self.count else f"{self.count}/{self.of}"


class Digits(NamedTuple):
    """A formatted number: its digits, those of its half width or of its interval's ends, and the power of ten."""

    value: str
    spread: tuple[str, ...] = ()
    power: int | None = None

    def text(self) -> str:
        """The number as plain text."""
        digits = self.value
        if len(self.spread) == 1:
            digits += f" ± {self.spread[0]}"
        elif self.spread:
            digits += f" [{self.spread[0]}, {self.spread[1]}]"
        if self.power is None:
            return digits
        return f"({digits})e{self.power:+03d}" if self.spread else f"{digits}e{self.power:+03d}"


@dataclass(frozen=True)
class Column:
    """A column: the ``header`` shown, the ``key`` in CSV, and ``spec``, the format of numbers without an error.

    >>> import analysis
    >>> analysis.Column("mean", "mean", spec=".1f").text(analysis.Cell(0.25))
    '0.2'
    """

    header: str
    key: str
    align: Align = "right"
    spec: str = ""

    def text(self, cell: Cell) -> str:
        """The cell as text: value and interval, rounded to two digits of the interval, then count and marker."""
        if cell.missing:
            return f"{MISSING} {cell.reason}".rstrip()
        if isinstance(cell.value, str):
            return " ".join([*cell.value.split(), *([cell.marker] if cell.marker else [])])
        return f"{self.digits(cell).text()} {cell.tail}".rstrip()

    def digits(self, cell: Cell) -> Digits:
        """The number of a cell, rounded by the magnitude of its error if it has one."""
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
            return Digits(_digits(value, last), tuple(_digits(other, last) for other in others))
        power = max(int(f"{number:e}".partition("e")[2]) for number in (value, error) if number)
        digits = [_digits(number / 10.0**power, last - power) for number in (value, *others)]
        return Digits(digits[0], tuple(digits[1:]), power)

    def _plain(self, value: float, others: Iterable[float]) -> Digits:
        digits, _, power = ("0" if value == 0 else format(value, self.spec)).partition("e")
        spread = tuple("0" if other == 0 else digits for other in others)
        return Digits(digits, spread, int(power) if power else None)


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns; rows with the same ``block`` are grouped under its name.

    >>> import analysis
    >>> row = analysis.Row((analysis.Cell("flat"), analysis.Cell(0.5)), marker="†")
    >>> [cell.value for cell in row.cells]
    ['flat', 0.5]
    """

    cells: tuple[Cell, ...]
    block: str = ""
    marker: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Content:
    """The contents of a table in any format: columns and rows with a title and notes.

    ``name`` is for file names and LaTeX labels.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def blocks(self) -> Iterator[tuple[str, list[Row]]]:
        """The rows by block, in order."""
        for block, rows in groupby(self.rows, key=lambda row: row.block):
            yield block, list(rows)

    def texts(self, row: Row) -> list[tuple[str, bool]]:
        """Each cell's text and whether it is bold; the row's marker is appended to the first."""
        pairs = zip(self.columns, row.cells, strict=True)
        texts = [(column.text(cell), row.bold or cell.bold) for column, cell in pairs]
        return [(f"{texts[0][0]} {row.marker}".rstrip(), texts[0][1]), *texts[1:]]


def number_format(values: Iterable[float]) -> str:
    """One number format for a column: three significant digits of its smallest magnitude, same decimals for all."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if all(size == int(size) and size < LARGEST_WHOLE for size in sizes):
        return ",.0f"
    if min(sizes) < 1e-3 or max(sizes) >= 1e6:
        return ".2e"
    return f".{min(max(2 - math.floor(math.log10(min(sizes))), 0), 4)}f"


def _digits(value: float, last: int) -> str:
    """A number rounded to the power of ten ``last``."""
    # Adding zero turns −0 into 0.
    return f"{round(value, -last) + 0.0:,.{max(-last, 0)}f}"


def emphasised(text: str, form: str, bold: bool) -> str:
    """``text``, put into ``form`` if it is bold."""
    return form.format(text) if bold else text
