"""Arguments and options that several commands share, and the consoles they print to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from analysis.record.uri import at_home
from linearizer_core.bucket import local_path
from linearizer_core.experiment.journal import as_json
from sweeps.cli.completion import leaves, profiles, sides, specs, sweeps, trials


def path(text: str | Path) -> Path:
    """The path in an option's value; shells expand a leading ``~`` but not the one in ``--storage=~/runs``."""
    try:
        return Path(at_home(local_path(str(text))))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A spec file, or the name of a shipped spec such as quickstart.", autocompletion=specs
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the spec; repeatable.", autocompletion=leaves),
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Ray cluster with this machine as a node: auto, or HEAD:6379."),
]
ClusterOption = Annotated[
    Path | None,
    typer.Option(
        help="The cluster's file for `ray up` or KubeRay, which says how many nodes its autoscaler may add.",
        parser=path,
        metavar="PATH",
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A profile of the spec, such as mnist.",
        autocompletion=profiles,
    ),
]
NamesArgument = Annotated[
    list[str], typer.Argument(metavar="NAME", help="Sweeps, by name or folder.", autocompletion=sweeps)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A sweep, by name or folder.", autocompletion=sweeps)]
TrialArgument = Annotated[
    str, typer.Argument(metavar="SWEEP/TRIAL", help="A trial, such as quickstart/t006-s0.", autocompletion=trials)
]
SideArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A sweep, or a trial such as quickstart/t006-s0.", autocompletion=sides),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Train every trial, even if another sweep finished an identical one.")
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug", help="Run the trials one after the other in this process, without Ray; breakpoint() works there."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else; docs/commands.md lists its keys.")
]
StorageOption = Annotated[Path, typer.Option(help="The folder with the sweeps.", parser=path, metavar="PATH")]
ToOption = Annotated[str | None, typer.Option(metavar="URI", help="A tracking URI other than the sweep's own.")]

Interval = Literal["t", "bootstrap"]
IntervalOption = Annotated[
    Interval, typer.Option(metavar="t|bootstrap", help="95 % intervals by Student's t or by the bootstrap.")
]
StyleOption = Annotated[
    Literal["two-column", "one-column"],
    typer.Option("--style", help="The page layout that figures are made for: two columns, or one."),
]
MarginOption = Annotated[
    float | None,
    typer.Option(
        metavar="NUMBER",
        help="Margin for testing equality; default: half the 95 % interval of the metric's own error.",
    ),
]
UnequalOption = Annotated[
    bool, typer.Option("--unequal", help="Also compare trials trained for different numbers of epochs.")
]

WIDE = 200


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document, in ASCII if the output's encoding is not UTF, so that no character is replaced."""
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    sys.stdout.write(json.dumps(as_json(document), indent=2, ensure_ascii=ascii_only) + "\n")


def wide_console() -> Console:
    """A console for tables; in a file or a pipe rows stay whole, since its reader can scroll."""
    return Console(width=None if sys.stdout.isatty() else WIDE)
