"""Commands that show sweeps and trials: list, logs.

A module of its own, because one command has the name of a built-in type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sweeps.cli.errors import WRONG_INPUT, tell
from sweeps.cli.options import JsonOption, StorageOption, TrialArgument, print_json, wide_console
from sweeps.documents import of_listing, of_logs
from sweeps.spec.validation import InputError, Problem


def list(storage: StorageOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List the sweeps of a storage folder: state, trials, best configuration, age."""
    from sweeps.api.looking import list
    from sweeps.listing import render

    found = list(storage)
    if as_json:
        print_json(of_listing(found))
    else:
        wide_console().print(render(found))
    for error in found.unreadable.values():
        tell(error)
    if found.unreadable:
        raise typer.Exit(WRONG_INPUT)


def logs(
    trial: TrialArgument,
    storage: StorageOption = Path("runs"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the trial has ended.")] = False,
    whole: Annotated[bool, typer.Option("--all", help="Show every final metric.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a trial did: epochs, metrics, warnings, and how it ended."""
    from sweeps.api.looking import logs

    log = logs(trial, storage=storage, whole=whole)
    if as_json and follow:
        raise InputError("--json", [Problem("", "prints one document, which --follow never ends; give only one")])
    if as_json:
        return print_json(of_logs(log))
    console = Console(soft_wrap=True, highlight=False)
    for line in log.follow() if follow else log:
        console.print(Text(str(line), style=line.style))
    if log.ending:
        console.print(Text(log.ending, style="yellow"))
    return None
