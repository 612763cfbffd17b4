"""The command `linsweep`: its commands in the order in which help lists them, and how it ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sweeps.cli import looking, making, records, running, tracking, trials
from sweeps.cli.errors import ended_in_order
from sweeps.cli.options import JsonOption, print_json, wide_console


def schema(
    key: Annotated[str | None, typer.Argument(help="A key such as train.lr, or a section such as train.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the type, default, bounds and meaning of a spec's key; without a key, print the JSON schema of a spec."""
    from sweeps.api.running import schema
    from sweeps.spec.keys import render

    if key is None:
        return print_json(schema())
    keys = schema(key)
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
    """Sweeps over Linearizers: how flow depth and the rank of A decide what a model can do."""


app = typer.Typer(
    name="linsweep",
    callback=_options,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    making.init,
    running.plan,
    running.launch,
    running.resume,
    running.stop,
    running.status,
    looking.list,
    looking.logs,
    running.supervise,
    records.table,
    records.compare,
    records.report,
    records.export,
    trials.sample,
    trials.reproduce,
    tracking.sync,
    tracking.promote,
    tracking.ui,
    making.delete,
    schema,
):
    app.command()(command)


def main() -> None:
    """Run the command of ``sys.argv``, and exit: 0, 1 where it failed, 2 for wrong input, 130 where interrupted."""
    raise SystemExit(ended_in_order(app))
