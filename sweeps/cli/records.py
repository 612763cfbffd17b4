"""Commands for recorded sweeps: table, compare, report, check, export."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sweeps.cli.completion import sides
from sweeps.cli.options import (
    IntervalOption,
    JsonOption,
    MarginOption,
    NamesArgument,
    StorageOption,
    StyleOption,
    UnequalOption,
    path,
    print_json,
    wide_console,
)
from sweeps.cli.words import comparison
from sweeps.documents import of_checks, of_comparison, of_tables
from sweeps.record.lookup import find_sweep

PAPER = "For a paper"


def table(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="A metric to show instead of the default ones; repeatable."),
    ] = None,
    rows: Annotated[str | None, typer.Option(metavar="AXIS", help="An axis; with --cols, a grid of two axes.")] = None,
    cols: Annotated[str | None, typer.Option(metavar="AXIS", help="The other axis.")] = None,
    across: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Find what is best over several data sets; give the key that differs, such as data.name.",
        ),
    ] = None,
    ci: IntervalOption = "t",
    unequal: UnequalOption = False,
    margin: MarginOption = None,
    style: StyleOption = "two-column",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: JsonOption = False,
    latex: Annotated[
        Path | None,
        typer.Option(
            help="Write only this file: a table for one column of a paper, with the columns and rows named below.",
            parser=path,
            metavar="FILE",
            rich_help_panel=PAPER,
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Axes and metrics, as in the tables.", rich_help_panel=PAPER)
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Rows: best:5, confirmed, controls, references, or names such as t003.",
            rich_help_panel=PAPER,
        ),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The caption, in LaTeX.", rich_help_panel=PAPER)
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The label, instead of tab:NAME.", rich_help_panel=PAPER)
    ] = None,
) -> None:
    """Print the ablation tables, and write them and their figures to files."""
    from sweeps.api.records import table

    made = table(
        names,
        storage=storage,
        metrics=metric,
        rows=rows,
        cols=cols,
        across=across,
        ci=ci,
        unequal=unequal,
        margin=margin,
        style=style,
        latex=latex,
        columns=_listed(columns),
        only=_listed(only),
        caption=caption,
        label=label,
    )
    if as_json:
        return print_json(of_tables(made))
    console = wide_console()
    for each in made.tables:
        if markdown:
            sys.stdout.write(each.to_markdown() + "\n")
        else:
            console.print(each.to_rich(console.width, plain=not console.is_terminal))
            console.print()
    _print_refused(made.refused)
    if not markdown:
        console.print("written:", soft_wrap=True)
        for path in made.files:
            console.print(Text(f"  {path}"), soft_wrap=True)
        links = dict.fromkeys(comparison(find_sweep(name, storage)) for name in names)
        console.print(Text.assemble("compare in MLflow: ", ("  ".join(links), "bold")), soft_wrap=True)
    return None


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", help="Configurations (SWEEP/t001), trials (SWEEP/t001-s0) or sweeps.", autocompletion=sides
        ),
    ],
    storage: StorageOption = Path("runs"),
    whole: Annotated[
        bool, typer.Option("--all", help="Show every key and metric, not only the main ones that differ.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare configurations, trials or sweeps: settings that differ, and tests of their metrics."""
    from sweeps.api.records import compare
    from sweeps.compare import render

    made = compare(*names, storage=storage)
    if as_json:
        return print_json(of_comparison(made))
    wide_console().print(render(made, whole))
    return None


def report(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    metric: Annotated[
        str | None, typer.Option(metavar="KEY", help="The metric to report, instead of the first objective.")
    ] = None,
    ci: IntervalOption = "t",
    unequal: UnequalOption = False,
    margin: MarginOption = None,
    style: StyleOption = "two-column",
) -> None:
    """Write the report: an HTML page that works offline, and an appendix for a paper."""
    from sweeps.api.records import report

    made = report(names, storage=storage, metric=metric, ci=ci, unequal=unequal, margin=margin, style=style)
    _print_refused(made.refused)
    page, *_, appendix = made.files
    console = Console(soft_wrap=True)
    console.print(Text.assemble("open in a browser: ", (str(page), "bold")))
    console.print(Text(f"for a paper: {appendix.parent} ({len(made.files) - 1} files)"))


def check(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    unequal: UnequalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether the sweeps can be relied on, and say what to do if not."""
    from sweeps.api.records import check

    made = check(names, storage=storage, unequal=unequal)
    if as_json:
        return print_json(of_checks(made))
    console = wide_console()
    console.print(made.to_rich(console.width))
    return None


def export(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    to: Annotated[
        Path | None,
        typer.Option(help="The file, instead of NAME.parquet in the storage folder.", parser=path, metavar="PATH"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write sweeps to one Parquet file, which pandas and analysis.load can read."""
    from sweeps.api.records import export

    written = export(names, storage=storage, to=to)
    if as_json:
        return print_json({"file": str(written)})
    Console(soft_wrap=True).print(Text(f"written: {written}"))
    return None


def _listed(text: str | None) -> list[str] | None:
    """The items of a comma-separated option."""
    return None if text is None else [word for each in text.split(",") if (word := each.strip())]


def _print_refused(reasons: Iterable[str]) -> None:
    for reason in reasons:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("left out: ", "yellow"), reason))
