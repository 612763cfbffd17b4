"""Tables as Markdown, HTML, CSV and in a terminal."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console

from analysis import (
    Cell,
    Column,
    Row,
    Table,
    best,
    configurations,
    load,
    marginal,
    pivot,
)
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles, point
from tests.analysis.tables.ablations import one_cell, small


def test_markdown_of_a_small_sweep(tmp_path: Path) -> None:
    table = configurations(load([small(tmp_path).path]))
    assert (
        table.to_markdown()
        == """\
### demo: classifier FD of every configuration

| configuration     | depth |   rank |        lr | seeds | state        | collapsed ↓ |   test ↓ |
| ----------------- | ----: | -----: | --------: | ----: | ------------ | ----------: | -------: |
| **t002**          | **4** | **16** | **0.002** | **1** | **finished** |    **8.25** | **9.00** |
| t000              |     2 |     16 |     0.002 |     1 | finished     |       20.50 |    21.00 |
| t004 †            |     2 |     16 |     0.002 |     1 | stopped @ 40 |        5.00 |        – |
| t001 †            |     1 |     16 |     0.002 |     1 | stopped @ 20 |       90.00 |        – |
| *controls*        |       |        |           |       |              |             |          |
| g = identity      |     4 |     64 |     0.002 |     1 | finished     |       30.00 |        – |
| *references*      |       |        |           |       |              |             |          |
| real against real |     – |      – |         – |     – | finished     |        1.50 |     2.00 |
| noise             |     – |      – |         – |     – | finished     |      400.00 |   400.50 |

- Bold: the best finished configuration by collapsed classifier FD.
- † stopped early: values are of its last evaluation, not comparable with finished ones.
- Failed and left out: 1 of 6 trials: t003-s0 (ValueError: loss_a is \\| nan).
- One seed per configuration: no difference between configurations can be tested.
"""
    )


def test_csv_has_full_precision_and_no_markup(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(lr=0.0012345678901234), 1 / 3)
    files.reference(0, "noise, white", 400.0)
    assert configurations(load([files.path]), [FD]).to_csv() == (
        f"block,configuration,{DEPTH},{RANK},{LR},seeds,state,{FD}\n"
        ",t000,3,16,0.0012345678901234,1,finished,0.3333333333333333\n"
        'references,"noise, white",,,,,finished,400.0\n'
    )


def test_rich_shows_every_cell(tmp_path: Path) -> None:
    console = Console(width=160, file=io.StringIO())
    console.print(configurations(load([small(tmp_path).path])).to_rich())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in ("demo: classifier FD of every configuration", "t004 †", "stopped @ 40", "400.50", "references"):
        assert expected in text


def test_text_without_styles_marks_what_is_bold(tmp_path: Path) -> None:
    console = Console(width=160, file=io.StringIO())
    record = load([small(tmp_path).path])
    for table in (configurations(record), marginal(record, RANK)):
        console.print(table.to_rich(160, plain=True))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    top = best(record)
    assert top is not None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert [line[0] for line in lines if line[0].startswith("t0") and line[0].endswith("*")] == [f"{top.name}*"]
    assert "*: the best finished configuration by collapsed classifier FD." in text
    assert "*: the best mean." in text
    assert "Bold" not in text


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = small(tmp_path).path

    def rendered() -> list[str]:
        record = load([path])
        tables = [configurations(record), marginal(record, RANK), pivot(record, DEPTH, LR, unequal=True)]
        texts = [(table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()) for table in tables]
        return [text for each in texts for text in each]

    first = rendered()
    assert first == rendered()
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in first)


def test_html_has_every_cell_and_escapes_markup() -> None:
    cells = (Cell("<b> & co"), Cell(1.5e-7, 2e-8, count=3, of=4, marker="≈"), Cell(reason="failed"))
    columns = (Column("name", "name", "left"), Column("a<b ↓", "a", spec=".2e"), Column("c", "c"))
    table = Table("t", "A & B", columns, (Row(cells, "block", "†", bold=True),), ("Note <1>.",))
    text = table.to_html()
    ElementTree.fromstring(f"<div>{text}</div>")
    for expected in (
        "<caption>A &amp; B</caption>",
        '<th style="text-align: right">a&lt;b ↓</th>',
        '<tr><th colspan="3" scope="rowgroup">block</th></tr>',
        "<td><b>&lt;b&gt; &amp; co †</b></td>",
        '<td style="text-align: right"><b>(1.50 ± 0.20) × 10<sup>−7</sup> (3/4) ≈</b></td>',
        "– failed",
        "<li>Note &lt;1&gt;.</li>",
    ):
        assert expected in text
    assert table.to_html(standalone=True).startswith('<!doctype html><html lang="en"><meta charset="utf-8">')


def test_markdown_escapes_what_would_be_markup() -> None:
    assert "| a\\|b \\*c\\* \\<d> \\_e\\_ f_g |" in one_cell(Cell("a|b *c* <d> _e_ f_g")).to_markdown()
