"""Commands for MLflow: sync, promote, ui."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sweeps.children import environment, module
from sweeps.cli.options import NamesArgument, StorageOption, ToOption
from sweeps.spec.validation import InputError, Problem


def sync(names: NamesArgument, storage: StorageOption = Path("runs"), to: ToOption = None) -> None:
    """Send to MLflow what it lacks of a sweep's journals, with the tables and the report that have been made."""
    from sweeps.api.tracking import sync

    console = Console(soft_wrap=True, highlight=False)
    for name in names:
        sent = sync(name, storage=storage, to=to)
        console.print(Text(f"{sent.sweep}: {sent.events} events sent to {sent.uri}"))


def promote(
    trial: Annotated[str, typer.Argument(metavar="SWEEP/TRIAL", help="A finished trial.")],
    storage: StorageOption = Path("runs"),
    to: ToOption = None,
) -> None:
    """Register a trial's model in MLflow under the name of its sweep."""
    from sweeps.api.tracking import promote

    made = promote(trial, storage=storage, to=to)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        Text.assemble((f"{made.name} version {made.version}", "bold"), f" is the model of {made.trial}. In Python:")
    )
    console.print(Text("  import mlflow"))
    console.print(Text(f'  mlflow.set_tracking_uri("{made.uri}")'))
    console.print(Text(f'  model = mlflow.pyfunc.load_model("models:/{made.name}/{made.version}")'))
    console.print(Text('  images = model.predict({"count": [16], "seed": [0]})'))


def ui(
    storage: StorageOption = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Serve MLflow's UI for the sweeps of a storage folder on 127.0.0.1."""
    from sweeps.record.paths import SweepPaths
    from sweeps.tracking.views import comparison_link

    paths = SweepPaths(storage / "any")
    console = Console(soft_wrap=True, highlight=False)
    base = f"http://127.0.0.1:{port}"
    sweeps = [SweepPaths(path.parent) for path in sorted(storage.glob("*/sweep.json"))]
    links = [(sweep.root.name, comparison_link(sweep, base)) for sweep in sweeps]
    served = paths.mlflow_database.exists()
    if served:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise InputError("--port", [Problem("", f"{port} cannot be used: {error.strerror}")]) from None
        console.print(f"MLflow on [bold]{base}[/] (Ctrl-C ends it)")
    elif not any(link for _, link in links):
        raise InputError(str(storage), [Problem("", f"holds no {paths.mlflow_database.name}; launch a sweep first")])
    for name, link in links:
        if link is not None:
            console.print(Text.assemble((name, "bold"), f"  {link}"))
    if not served:
        return
    database = f"sqlite:///{paths.mlflow_database.resolve()}"
    # Model serving jobs of MLflow's own would start seven more processes for nothing.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    arguments = ["--backend-store-uri", database, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    artifacts = ["--artifacts-destination", paths.mlflow_artifacts.resolve().as_uri()]
    command = module("mlflow", "server", *arguments, *artifacts)
    os.execve(command[0], command, environment())
