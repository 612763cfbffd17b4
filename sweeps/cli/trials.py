"""Commands for single trials: sample, reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sweeps.cli.options import JsonOption, StorageOption, TrialArgument, path, print_json, wide_console
from sweeps.documents import of_samples


def sample(
    trial: TrialArgument,
    storage: StorageOption = Path("runs"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, metavar="COUNT", help="The number of images.")] = 64,
    out: Annotated[Path, typer.Option(help="The folder for the images.", parser=path, metavar="FOLDER")] = Path(
        "samples"
    ),
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="The same seed gives the same images.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="The device to use: cpu, cuda, cuda:1, ….")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Sample images from a trial's model: one picture, and an .npz file."""
    from sweeps.api.trials import sample
    from sweeps.samples import render

    made = sample(trial, storage=storage, count=count, seed=seed, out=out, device=device)
    if as_json:
        return print_json(of_samples(made))
    Console(soft_wrap=True, highlight=False).print(render(made))
    return None


def reproduce(
    trial: TrialArgument,
    storage: StorageOption = Path("runs"),
    out: Annotated[Path, typer.Option(help="The folder for the new record.", parser=path, metavar="FOLDER")] = Path(
        "reproduced"
    ),
    data_root: Annotated[
        Path | None, typer.Option(help="The folder of the images, if they have moved.", parser=path, metavar="PATH")
    ] = None,
) -> None:
    """Train a trial again in this process, and show what differs from its record."""
    from sweeps.record.lookup import find_trial
    from sweeps.reproduction import render, reproduce

    console = wide_console()
    with console.status(f"running {trial} again") as status:

        def told(result: dict[str, Any]) -> None:
            status.update(f"running {trial} again: epoch {result['epoch']}")

        made = reproduce(*find_trial(trial, storage), out, data_root, told)
    console.print(render(made))
    if not made.agrees:
        raise typer.Exit(1)
