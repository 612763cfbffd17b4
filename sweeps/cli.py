"""The command line: linsweep plan | launch | table | sync | ui | schema."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sweeps.uri import without_password
from sweeps.validation import InputError, Problem, suggestion

app = typer.Typer(
    name="linsweep",
    help="Sweeps over Linearizers: how flow depth and the rank of A decide what a model can do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpecArgument = Annotated[str, typer.Argument(help="A spec file, or the name of a shipped one such as quickstart.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a leaf of the spec.")]
AddressOption = Annotated[str | None, typer.Option(help="A Ray cluster, such as auto or ray://head:10001.")]
ProfileOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="A profile of the spec, such as mnist: the leaves that it changes.")
]
NamesArgument = Annotated[list[str], typer.Argument(help="Sweeps, by name or by folder.")]
StorageOption = Annotated[Path, typer.Option(help="Where the sweeps are recorded.")]

INTERRUPTED = 130
WIDE = 200


@app.command()
def plan(
    spec: SpecArgument, profile: ProfileOption = None, set_: SetOption = None, address: AddressOption = None
) -> None:
    """Validate a spec and print what it would do, starting nothing."""
    from sweeps.spec import load

    sweep = load(spec, set_ or (), profile)
    from sweeps.cluster import connected, local_capacity
    from sweeps.launch import check_folder
    from sweeps.plan import make_plan, render

    check_folder(sweep)
    if address is None:
        made = make_plan(sweep, local_capacity())
    else:
        with connected(address) as capacity:
            made = make_plan(sweep, capacity)
    console = Console()
    console.print(render(made))
    console.print()
    words = _words(spec, profile, set_, address)
    console.print("Nothing was started. Next:", Text(f"linsweep launch {words}", style="bold"))


@app.command()
def launch(
    spec: SpecArgument, profile: ProfileOption = None, set_: SetOption = None, address: AddressOption = None
) -> None:
    """Carry a sweep out; one that was cut short goes on where it stopped."""
    from sweeps.spec import load

    sweep = load(spec, set_ or (), profile)
    console = Console(soft_wrap=not sys.stdout.isatty())
    again = f"linsweep launch {_words(spec, profile, set_, address)}"
    storage = _storage_option(Path(sweep.model.storage))
    try:
        from sweeps.launch import launch as run

        result = run(sweep, console, address)
    except KeyboardInterrupt:
        console.print(Text.assemble(("interrupted", "yellow"), "; what is recorded stays. To go on: ", (again, "bold")))
        raise typer.Exit(INTERRUPTED) from None
    counts = ", ".join(f"{count} {state}" for state, count in sorted(result.trials.items()))
    state = f"{result.state} ({result.reason})" if result.reason else result.state
    console.print(Text.assemble((sweep.name, "bold"), f" {state}: {counts or 'no trial'}; record in {sweep.folder}"))
    console.print(
        "seconds: " + ", ".join(f"{phase} {value:.1f}" for phase, value in result.seconds.items()), style="dim"
    )
    if result.best:
        from sweeps.progress import describe_point

        objective = next(iter(sweep.search.objective))
        identity = result.best[0].identity
        console.print(
            Text.assemble(
                "best: ", (describe_point(identity.overrides), "bold"), f"  {objective} = {result.best_value:.4g}",
                f"  (trial {', '.join(trial.identity.trial for trial in result.best)})",
            )
        )  # fmt: skip
    if result.not_shipped:
        console.print(
            Text.assemble(
                ("not everything is in MLflow: ", "yellow"), result.not_shipped, "\nThe journals are complete; later: ",
                (f"linsweep sync {sweep.name}{storage}", "bold"),
            )
        )  # fmt: skip
    if result.state == "interrupted":
        console.print(Text.assemble("To go on: ", (again, "bold")))
        raise typer.Exit(INTERRUPTED)
    if result.state == "failed":
        console.print("[red]no configuration of the search finished[/]; the reasons are in the journals")
        raise typer.Exit(1)
    console.print(Text.assemble("Next: ", (f"linsweep table {sweep.name}{storage}", "bold")))


@app.command()
def table(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    metric: Annotated[list[str] | None, typer.Option(help="Metric columns instead of the default ones.")] = None,
    rows: Annotated[str | None, typer.Option(help="An axis: with --cols, a grid of two axes.")] = None,
    cols: Annotated[str | None, typer.Option(help="The other axis.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print the ablation tables and write them as CSV, Markdown and LaTeX, with their figures."""
    from analysis.report import write_tables
    from analysis.runs import RecordError

    folders = [find_sweep(name, storage) for name in names]
    # Into a file or a pipe, whole rows: whoever reads it there can scroll.
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    try:
        written = write_tables(folders, metrics=metric, rows=rows, cols=cols)
    except RecordError as error:
        raise InputError("table", [Problem("", str(error))]) from None
    for made in written.tables:
        if markdown:
            sys.stdout.write(made.to_markdown() + "\n")
        else:
            console.print(made.to_rich(console.width))
            console.print()
    if not markdown:
        console.print("written:", soft_wrap=True)
        for path in written.files:
            console.print(Text(f"  {path}"), soft_wrap=True)
        console.print(
            Text.assemble("compare in MLflow: ", (f"linsweep ui{_storage_option(folders[0].parent)}", "bold"))
        )


@app.command()
def sync(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    to: Annotated[str | None, typer.Option(help="A tracking URI other than the sweep's own.")] = None,
) -> None:
    """Send to MLflow what it lacks of a sweep's journals."""
    from sweeps.launch import only_launch, shipper_for
    from sweeps.paths import SweepPaths
    from sweeps.tracking import describe

    console = Console(soft_wrap=True)
    for name in names:
        folder = find_sweep(name, storage)
        shipper = shipper_for(folder, to)
        # A running launch ships by itself, and two writers would make every run twice.
        with only_launch(name, SweepPaths(folder)):
            try:
                sent = shipper.ship()
                shipper.finish()
            # Whatever keeps the server from taking the journals is told in one line; they stay complete.
            except Exception as error:
                raise InputError(without_password(shipper.uri), [Problem("", describe(error, shipper.uri))]) from error
        console.print(Text(f"{folder.name}: {sent} events sent to {without_password(shipper.uri)}"))


@app.command()
def ui(
    storage: StorageOption = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Serve MLflow's UI for the sweeps of a storage folder on 127.0.0.1."""
    from sweeps.paths import SweepPaths
    from sweeps.tracking import comparison_link

    paths = SweepPaths(storage / "any")
    if not paths.mlflow_database.exists():
        raise InputError(str(storage), [Problem("", f"holds no {paths.mlflow_database.name}; launch a sweep first")])
    database = f"sqlite:///{paths.mlflow_database.resolve()}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError("--port", [Problem("", f"{port} cannot be used: {error.strerror}")]) from None
    console = Console(soft_wrap=True, highlight=False)
    base = f"http://127.0.0.1:{port}"
    console.print(f"MLflow on [bold]{base}[/] (Ctrl-C ends it)")
    for path in sorted(storage.glob("*/sweep.json")):
        link = comparison_link(base, SweepPaths(path.parent))
        if link is not None:
            console.print(Text.assemble((path.parent.name, "bold"), f"  {link}"))
    # Model serving jobs of MLflow's own would start seven more processes for nothing.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    arguments = ["--backend-store-uri", database, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    artifacts = ["--artifacts-destination", paths.mlflow_artifacts.resolve().as_uri()]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments, *artifacts])


@app.command()
def schema() -> None:
    """Print the JSON schema of a spec."""
    from sweeps.spec import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")


def find_sweep(name: str, storage: Path) -> Path:
    """The folder of a recorded sweep; raises ``InputError`` that names those there are."""
    for folder in (storage / name, Path(name)):
        if (folder / "sweep.json").exists():
            return folder
    known = sorted(path.parent.name for path in storage.glob("*/sweep.json"))
    hint = suggestion(name, known) if known else f"{storage} holds none; launch one or give --storage"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])


def _words(spec: str, profile: str | None, overrides: list[str] | None, address: str | None) -> str:
    """The arguments as they can be typed again, without a password."""
    shown = [
        f"{key}={without_password(value)}" if key == "tracking.uri" else text
        for text in overrides or ()
        for key, _, value in [text.partition("=")]
    ]
    options = ["--profile", profile] if profile else []
    options += [word for text in shown for word in ("--set", text)]
    options += ["--address", address] if address else []
    return shlex.join([spec, *options])


def _storage_option(storage: Path) -> str:
    return "" if storage.resolve() == Path("runs").resolve() else f" --storage {shlex.quote(str(storage))}"


def main() -> None:
    """The console command: wrong input prints every problem and exits with 2."""
    try:
        app()
    except InputError as error:
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        for problem in error.problems:
            console.print(Text.assemble((f"{error.source}: ", "bold red"), str(problem)))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
