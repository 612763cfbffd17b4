"""The report as one self-contained page, which needs no other file, no network and no server."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from analysis.configuration.configurations import Configurations, Recorded
from analysis.record.artifacts import sample_grids
from analysis.record.runs import Record
from analysis.render.table import Table
from analysis.report.interactive import series_of, svg
from analysis.report.list_of_figures import ListedFigure
from analysis.report.summary import answer, question, values

# The page must not fetch anything, whatever names a record contains.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
MOST_CONTROLS = 4
"""The largest number of controls whose samples are shown."""
MOST_ROWS = 5
"""The most configurations of the search in the table at the top."""
FIRST = ("ranks", "heat-map", "rank-curve", "steps", "configurations")
"""The figure at the top of the page is the first of these that there is."""


def page(
    record: Recorded,
    figures: Sequence[ListedFigure],
    tables: Sequence[Table],
    statistics: Sequence[Table],
    costs: Sequence[Table],
    refused: Sequence[str],
) -> str:
    """The report as HTML: question, answer, one figure, one table and health checks, with the rest folded below.

    The rest is figures, tables, samples, cost, failures and provenance. ``costs`` holds the tables named cost,
    failures and provenance, and health if there is one; ``refused`` says what could not be made and why.
    """
    configurations = Configurations.of(record)
    record = configurations.record
    title = html.escape(record.names)
    first = [_cut(table) for table in tables[:1]]
    named = {table.name: table for table in costs}
    top = next((made for name in FIRST for made in figures if made.name == name), None)
    opening = {
        "top": ("At a glance", _at_a_glance(top, first)),
        "health": ("Can it be relied on?", _tables([named["health"]] if "health" in named else [])),
    }
    sections = {
        "figures": ("More figures", _figures([made for made in figures if made is not top])),
        "tables": ("More tables", _tables(tables[1:] if first == list(tables[:1]) else tables)),
        "statistics": ("Statistics", _tables(statistics)),
        "samples": ("Samples", _samples(configurations)),
        "cost": ("Cost", _tables([named["cost"]])),
        "failed": ("What failed", _tables([named["failures"]]) + _refused(refused)),
        "provenance": ("Provenance", _tables([named["provenance"]]) + _specs(record)),
    }
    links = "".join(
        f'<a href="#section-{name}">{heading}</a>' for name, (heading, text) in (opening | sections).items() if text
    )
    body = [
        f'<section id="section-{name}"><h2>{heading}</h2>{content}</section>'
        for name, (heading, content) in opening.items()
        if content
    ]
    body += [
        f'<details id="section-{name}"><summary><h2>{heading}</h2></summary>{content}</details>'
        for name, (heading, content) in sections.items()
        if content
    ]
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{_asset('report.css')}</style>",
        "</head>",
        "<body>",
        f"<h1>{title}</h1>",
        f'<p class="question">{html.escape(question(record))}</p>',
        _answer(configurations),
        f'<p class="note">{html.escape(str(record.counts))}.</p>',
        f"<nav>{links}</nav>",
        *body,
        '<div id="told" role="status" hidden></div>',
        f"<script>{_asset('report.js')}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _answer(configurations: Configurations) -> str:
    """The answer, with the values behind it folded."""
    behind = values(configurations)
    folded = f"<details><summary>In numbers</summary><p>{html.escape(behind)}</p></details>" if behind else ""
    return f'<div class="answer"><p>{html.escape(answer(configurations))}</p>{folded}</div>'


def _cut(table: Table) -> Table:
    """The table of configurations with only the best of the search; confirmed ones, controls and references stay."""
    searched = [row for row in table.rows if not row.block]
    if len(searched) <= MOST_ROWS:
        return table
    rows = (*searched[:MOST_ROWS], *(row for row in table.rows if row.block))
    rest = f"The other {len(searched) - MOST_ROWS} of the search are below, in More tables."
    return replace(table, rows=rows, notes=(rest, *table.notes))


def _asset(name: str) -> str:
    return resources.files("analysis.report").joinpath("assets", name).read_text(encoding="utf-8")


def _at_a_glance(top: ListedFigure | None, tables: Sequence[Table]) -> str:
    """The figure and the table that show the answer, and how to read them."""
    told = (
        '<p class="note">Point at a mark to see its values and highlight the same configuration in every figure and '
        "table. Buttons turn series off and on; click a column's header to sort a table by it.</p>"
    )
    figure = "" if top is None else f'<div class="figures">{_figure(top)}</div>'
    return f"{told}{figure}{_tables(tables)}" if figure or tables else ""


def _figures(figures: Sequence[ListedFigure]) -> str:
    return f'<div class="figures">{"".join(map(_figure, figures))}</div>' if figures else ""


def _figure(made: ListedFigure) -> str:
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-switch="{html.escape(name)}">{html.escape(name)}</button>'
        for name in series_of(made.chart)
    )
    drawn = svg(made.chart, made.name, made.title)
    return (
        f'<figure id="figure-{made.name}"><h3>{html.escape(made.title)}</h3>'
        f'<div class="switches">{buttons}</div>{drawn}<figcaption>{html.escape(made.caption)}</figcaption></figure>'
    )


def _tables(tables: Iterable[Table]) -> str:
    return "".join(f'<div class="scroll">{table.to_html()}</div>' for table in tables)


def _samples(configurations: Configurations) -> str:
    """The samples of the best, median and worst finished configuration of the search, of the first one confirmed at
    fresh seeds, and of the controls."""
    frame = configurations.ranked
    searched = [row for row in frame[frame["kind"] == "search"].to_dict("records") if row["rank"] <= 1]
    pictured = [(row, grids) for row in searched if (grids := _grids(configurations, row))]
    places = dict.fromkeys([0, (len(pictured) - 1) // 2, len(pictured) - 1]) if pictured else {}
    words = ("best", "median", "worst") if len(places) == 3 else ("best", "worst") if len(places) == 2 else ("best",)
    found = [_pictures(*pictured[place], word) for place, word in zip(places, words, strict=False)]
    for kind, most in (("confirm", 1), ("control", MOST_CONTROLS)):
        rows = frame[frame["kind"] == kind].to_dict("records")
        others = [(row, grids) for row in rows if (grids := _grids(configurations, row))]
        found += [_pictures(row, grids, kind) for row, grids in others[:most]]
    return "".join(found)


def _grids(configurations: Configurations, row: Mapping[Any, Any]) -> Mapping[str, Path]:
    """The sample grids of a configuration's first seed that has any."""
    found = (sample_grids(configurations.record, row["sweep"], trial) for trial in row["trials"])
    return next(filter(None, found), {})


def _pictures(row: Mapping[Any, Any], grids: Mapping[str, Path], word: str) -> str:
    pictures = "".join(_picture(f"{row['name']}, {name}", path) for name, path in grids.items())
    known = {"confirm": "confirmed at fresh seeds", "control": "control"}
    heading = f"{known.get(word, word)}: {row['name']}"
    return f'<h3>{html.escape(heading[0].upper() + heading[1:])}</h3><div class="samples">{pictures}</div>'


def _picture(title: str, path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(title)
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{content}"><figcaption>{alt}</figcaption></figure>'


def _refused(refused: Sequence[str]) -> str:
    if not refused:
        return ""
    lines = "".join(f"<li>{html.escape(reason)}</li>" for reason in refused)
    return f"<h3>What the record does not support</h3><ul>{lines}</ul>"


def _specs(record: Record) -> str:
    parts = []
    for sweep in record.sweeps:
        text = json.dumps(sweep.spec, indent=2, ensure_ascii=False)
        parts.append(f"<details><summary>The spec of {html.escape(sweep.name)}, resolved</summary>")
        parts.append(f"<pre>{html.escape(text)}</pre></details>")
    return "".join(parts)
