"""One self-contained page of a sweep: no file, no network and no server behind it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from analysis.configuration.configurations import Configurations, Recorded
from analysis.record.artifacts import sample_grids
from analysis.record.runs import Record
from analysis.render.table import Table
from analysis.report.interactive import series_of, svg
from analysis.report.list_of_figures import ListedFigure
from analysis.report.summary import question, summary

# Nothing may be fetched, whatever a record has in its names.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
MOST_SHOWN = 4
"""Configurations whose samples are in the page, the best first."""


def page(
    record: Recorded,
    figures: Sequence[ListedFigure],
    tables: Sequence[Table],
    statistics: Sequence[Table],
    costs: Sequence[Table],
    refused: Sequence[str],
) -> str:
    """The report as HTML: question, answer, health, figures, tables, samples, cost, what failed, provenance.

    ``costs`` holds the tables of cost, failures and provenance by these names, and of health where there is one;
    ``refused`` says what could not be made and why.
    """
    configurations = Configurations.of(record)
    record = configurations.record
    title = html.escape(record.names)
    named = {table.name: table for table in costs}
    sections = {
        "health": ("Can it be relied on?", _tables([named["health"]] if "health" in named else [])),
        "figures": ("Figures", _figures(figures)),
        "tables": ("Tables", _tables(tables)),
        "statistics": ("Statistics", _tables(statistics)),
        "samples": ("Samples", _samples(configurations)),
        "cost": ("Cost", _tables([named["cost"]])),
        "failed": ("What failed", _tables([named["failures"]]) + _refused(refused)),
        "provenance": ("Provenance", _tables([named["provenance"]]) + _specs(record)),
    }
    shown = {name: content for name, content in sections.items() if content[1]}
    links = "".join(f'<a href="#section-{name}">{heading}</a>' for name, (heading, _) in shown.items())
    body = [
        f'<section id="section-{name}"><h2>{heading}</h2>{content}</section>'
        for name, (heading, content) in shown.items()
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
        f'<p class="answer">{html.escape(summary(configurations))}</p>',
        f'<p class="note">{html.escape(str(record.counts))}.</p>',
        f"<nav>{links}</nav>",
        *body,
        '<div id="told" role="status" hidden></div>',
        f"<script>{_asset('report.js')}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _asset(name: str) -> str:
    return resources.files("analysis.report").joinpath("assets", name).read_text(encoding="utf-8")


def _figures(figures: Sequence[ListedFigure]) -> str:
    if not figures:
        return ""
    told = (
        '<p class="note">Point at a mark for its values: the same configuration is lit in every figure and table. '
        "Buttons turn series off and on; a table is sorted by the column whose header is clicked.</p>"
    )
    return f'{told}<div class="figures">{"".join(map(_figure, figures))}</div>'


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
    """The pictures of the best configurations, of what was confirmed first at fresh seeds, and of the controls."""
    record, frame = configurations.record, configurations.ranked
    found = []
    for kind, most in (("search", MOST_SHOWN), ("confirm", 1), ("control", MOST_SHOWN)):
        shown = 0
        for row in frame[frame["kind"] == kind].to_dict("records"):
            grids = next((each for trial in row["trials"] if (each := sample_grids(record, row["sweep"], trial))), {})
            if not grids or shown == most:
                continue
            shown += 1
            pictures = "".join(_picture(f"{row['name']}, {name}", path) for name, path in grids.items())
            found.append(f'<h3>{html.escape(str(row["name"]))}</h3><div class="samples">{pictures}</div>')
    return "".join(found)


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
