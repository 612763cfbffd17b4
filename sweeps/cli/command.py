"""The `linsweep` command: its subcommands in the order in which help lists them."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from sweeps.children import NO_TELEMETRY
from sweeps.cli import looking, making, records, running, tracking, trials
from sweeps.cli.completion import keys
from sweeps.cli.errors import ended_in_order
from sweeps.cli.options import JsonOption, print_json, wide_console


def schema(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="A key such as train.lr, or a section such as train.", autocompletion=keys),
    ] = None,
    spec: Annotated[
        str | None, typer.Option(metavar="SPEC", help="A spec file; the settings of its plugins become keys too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a key of a spec; without a key, print the JSON schema."""
    from sweeps.api.running import schema
    from sweeps.spec.keys import render

    if key is None:
        return print_json(schema(spec=spec))
    keys = schema(key, spec=spec)
    if as_json:
        return print_json(keys.document())
    wide_console().print(render(keys))
    return None


def _version(asked: bool) -> None:
    if asked:
        from sweeps.api.version import __version__

        sys.stdout.write(f"linsweep {__version__}\n")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Sweeps over Linearizers: which depth of flow and which rank of A a model needs, with error bars."""


def _plain(command: TyperCommand | TyperGroup, ctx: Any) -> None:
    """Make a command's help show the metavar of a parameter instead of a type such as ``<list[str]>``."""
    for parameter in command.get_params(ctx):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif isinstance(parameter, TyperArgument):
            parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]


class PlainCommand(TyperCommand):
    """A command whose help shows metavars instead of Python types."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _plain(self, ctx)
        super().format_help(ctx, formatter)


class PlainGroup(TyperGroup):
    """The same for the group of commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _plain(self, ctx)
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="linsweep",
    cls=PlainGroup,
    callback=_options,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = {
    "Run": (
        making.init,
        running.plan,
        running.launch,
        running.resume,
        running.supervise,
        running.stop,
        running.retry,
    ),
    "Inspect": (running.status, looking.list, looking.logs, schema),
    "Results": (
        records.table,
        records.compare,
        records.report,
        records.check,
        records.export,
        trials.sample,
        trials.reproduce,
        making.delete,
    ),
    "MLflow": (tracking.sync, tracking.promote, tracking.ui),
}
for _panel, _commands in COMMANDS.items():
    for _command in _commands:
        app.command(cls=PlainCommand, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command in ``sys.argv`` and exit: 0, 1 if it failed, 2 for invalid input, 130 if interrupted."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    # Always the installed name: a shell cannot complete "python -m linsweep".
    raise SystemExit(ended_in_order(lambda: app(prog_name="linsweep")))
