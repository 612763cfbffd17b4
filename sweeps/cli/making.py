"""Commands that write specs and delete records: init, delete."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sweeps.cli.options import NameArgument, StorageOption, path, wide_console
from sweeps.spec.validation import InputError, Problem


def init(
    spec: Annotated[
        Path, typer.Argument(help="The file to write; it must not exist.", parser=path, metavar="FILE")
    ] = Path("spec.yaml"),
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="digits, mnist, fashion-mnist, cifar10, celeba, a folder of images, or an .npz file."
        ),
    ] = None,
    family: Annotated[
        str | None, typer.Option(metavar="FAMILY", help="The family to train: diffusion, idempotent or style.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="QUESTION", help="The question to ask: depth-rank, rank or best.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name of the sweep, by default that of the file.")
    ] = None,
) -> None:
    """Write a first spec with comments; on a terminal, ask for what is not given."""
    from sweeps.api.making import init
    from sweeps.spec.first import FAMILIES, QUESTIONS

    written = init(
        spec,
        data=data
        or _asked(
            "data: digits, mnist, fashion-mnist, cifar10, celeba, a folder of images or an .npz file", {}, "digits"
        ),
        family=family or _asked("family", FAMILIES, "diffusion"),
        question=question or _asked("question", QUESTIONS, "depth-rank"),
        name=name,
    )
    Console(soft_wrap=True, highlight=False).print(
        Text.assemble(f"written: {written}. Next: ", (f"linsweep plan {shlex.quote(str(written))}", "bold"))
    )


def _asked(what: str, choices: Mapping[str, str], default: str) -> str:
    """The answer to a question on a terminal, or the default without a terminal."""
    if not sys.stdin.isatty():
        return default
    for name, meaning in choices.items():
        typer.echo(f"  {name}: {meaning}", err=True)

    def checked(answer: str) -> str:
        if choices and answer not in choices:
            raise typer.BadParameter(f"{answer} is not one of {', '.join(choices)}")
        return answer

    return str(typer.prompt(what, default=default, value_proc=checked, err=True))


def delete(
    name: NameArgument,
    storage: StorageOption = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a sweep's record: list its files, ask, and delete them. MLflow keeps its runs."""
    from sweeps.api.making import delete
    from sweeps.record.removal import render, size_told

    found = delete(name, storage=storage, dry_run=True)
    console = wide_console()
    console.print(render(found))
    what = f"{found.place}: {found.files} files, {size_told(found.size)}"
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(name, [Problem("", f"cannot ask without a terminal; give --yes to remove {what}")])
        if not typer.confirm(f"Remove {what}?"):
            console.print("nothing was removed")
            raise typer.Exit(1)
    delete(name, storage=storage)
    Console(soft_wrap=True, highlight=False).print(Text(f"removed {what}"))
