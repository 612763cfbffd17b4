"""Commands for MLflow: sync, promote, ui."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from analysis.record.uri import SQLITE
from linearizer_core.bucket import is_address
from sweeps.children import NO_TELEMETRY, environment, module
from sweeps.cli.completion import trials
from sweeps.cli.options import NamesArgument, StorageOption, ToOption
from sweeps.spec.validation import InputError, Problem


def sync(names: NamesArgument, storage: StorageOption = Path("runs"), to: ToOption = None) -> None:
    """Send to MLflow what it has not received yet: journals, tables, reports."""
    from sweeps.api.tracking import sync

    console = Console(soft_wrap=True, highlight=False)
    for name in names:
        sent = sync(name, storage=storage, to=to)
        console.print(Text(f"{sent.sweep}: {sent.events} events sent to {sent.uri}"))


def promote(
    trial: Annotated[str, typer.Argument(metavar="SWEEP/TRIAL", help="A finished trial.", autocompletion=trials)],
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
    console.print(Text(f"  mlflow.set_tracking_uri({json.dumps(made.uri, ensure_ascii=False)})"))
    if os.environ.get("MLFLOW_REGISTRY_URI"):  # MLflow would look for the model there
        console.print(Text(f"  mlflow.set_registry_uri({json.dumps(made.uri, ensure_ascii=False)})"))
    console.print(Text(f'  model = mlflow.pyfunc.load_model("models:/{made.name}/{made.version}")'))
    console.print(Text('  images = model.predict({"count": [16], "seed": [0]})'))


def ui(
    storage: StorageOption = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Serve MLflow on 127.0.0.1 with the sweeps of a storage folder."""
    from analysis.record.copies import work_folder
    from analysis.record.mlflow_errors import explain
    from analysis.record.mlflow_internals import follow_artifacts
    from sweeps.record.lookup import shown
    from sweeps.record.paths import SweepPaths
    from sweeps.tracking.views import comparison_link

    if is_address(storage):
        storage = work_folder(shown(storage))
    paths = SweepPaths(storage / "any")
    console = Console(soft_wrap=True, highlight=False)
    base = f"http://127.0.0.1:{port}"
    sweeps = [SweepPaths(path.parent) for path in sorted(storage.glob("*/sweep.json"))]
    links = [(sweep.root.name, comparison_link(sweep, base)) for sweep in sweeps]
    served = paths.mlflow_database.exists()
    artifacts = paths.mlflow_artifacts.resolve().as_uri()
    if served:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise InputError("--port", [Problem("", f"{port} is not available: {error.strerror}")]) from None
        console.print(f"MLflow on [bold]{base}[/] (stop it with Ctrl-C)")
    elif not any(link for _, link in links):
        raise InputError(str(storage), [Problem("", f"has no {paths.mlflow_database.name}; launch a sweep first")])
    for name, link in links:
        if link is not None:
            console.print(Text.assemble((name, "bold"), f"  {link}"))
    if not served:
        return
    try:
        follow_artifacts(paths.mlflow_database, paths.mlflow_artifacts.resolve())
    except sqlite3.Error as error:
        raise InputError(str(paths.mlflow_database), [Problem("", explain(error, ""))]) from None
    # Use a name that needs no quoting, and drop settings of other servers, which would redirect the database.
    os.chdir(storage)
    kept = {
        name: value for name, value in environment().items() if not name.startswith("MLFLOW_") or name in NO_TELEMETRY
    }
    # MLflow's jobs for model serving would start seven more processes that nobody needs.
    kept["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", f"{SQLITE}{paths.mlflow_database.name}"]
    arguments += ["--artifacts-destination", artifacts]
    command = module("mlflow", "server", *arguments)
    os.execve(command[0], command, kept)
