"""The command line: every command of `linsweep`."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from analysis.record.uri import without_password, without_passwords
from sweeps.children import environment, module
from sweeps.spec.validation import InputError, Problem, suggestion

if TYPE_CHECKING:
    from sweeps.execution.executor import Executor
    from sweeps.spec.model import Sweep
    from sweeps.tracking.sync import Sync

app = typer.Typer(
    name="linsweep",
    help="Sweeps over Linearizers: how flow depth and the rank of A decide what a model can do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpecArgument = Annotated[str, typer.Argument(help="A spec file, or the name of a shipped one such as quickstart.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a leaf of the spec.")]
AddressOption = Annotated[
    str | None, typer.Option(help="A Ray cluster that this machine is a node of: auto, or HEAD:6379.")
]
ClusterOption = Annotated[
    Path | None, typer.Option(help="The cluster's file for `ray up` or KubeRay: what its autoscaler may add.")
]
ProfileOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="A profile of the spec, such as mnist: the leaves that it changes.")
]
NamesArgument = Annotated[list[str], typer.Argument(help="Sweeps, by name or by folder.")]
NameArgument = Annotated[str, typer.Argument(help="A sweep, by name or by folder.")]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Run every trial, also where another sweep has an identical finished one.")
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug", help="Run the trials in this process, one after the other, without Ray: a breakpoint() stops there."
    ),
]
StorageOption = Annotated[Path, typer.Option(help="Where the sweeps are recorded.")]
ToOption = Annotated[str | None, typer.Option(help="A tracking URI other than the sweep's own.")]

Interval = Literal["t", "bootstrap"]

INTERRUPTED = 130
WIDE = 200


@app.command()
def plan(
    spec: SpecArgument,
    profile: ProfileOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Validate a spec and print what it would do, starting nothing."""
    from sweeps.spec.load import load

    sweep = load(spec, set_ or (), profile)
    from sweeps.execution.plan import make_plan, render
    from sweeps.record.changes import check_folder

    check_folder(sweep)
    with _executor(address, cluster).reached() as capacity:
        made = make_plan(sweep, capacity)
    console = Console()
    console.print(render(made))
    console.print()
    words = _words(spec, profile, [without_passwords(text) for text in set_ or ()], address, cluster)
    console.print("Nothing was started. Next:", Text(f"linsweep launch {shlex.join(words)}", style="bold"))


@app.command()
def launch(
    spec: SpecArgument,
    profile: ProfileOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    fresh: FreshOption = False,
    debug: DebugOption = False,
) -> None:
    """Carry a sweep out; one that was cut short goes on where it stopped."""
    from sweeps.spec.load import load

    _carry_out(load(spec, set_ or (), profile), address, cluster, fresh, debug)


@app.command()
def resume(
    name: NameArgument,
    storage: StorageOption = Path("runs"),
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    debug: DebugOption = False,
) -> None:
    """Go on with a sweep from its record; --set can raise its budget."""
    from sweeps.spec.load import recorded

    record, folder = _record_of(name, storage)
    _carry_out(recorded(record, folder, set_ or ()), address, cluster, False, debug)


def _carry_out(sweep: Sweep, address: str | None, cluster: Path | None, fresh: bool, debug: bool) -> None:
    """Launch a sweep, and say how it ended and what comes next."""
    console = Console(soft_wrap=not sys.stdout.isatty())
    storage = _storage_option(Path(sweep.model.storage))
    again = _resume_words(sweep.folder) + (f" --address {shlex.quote(address)}" if address else "")
    again += f" --cluster {shlex.quote(str(cluster))}" if cluster else ""
    again += " --debug" if debug else ""
    try:
        from sweeps.launch import launch as run

        result = run(sweep, console, _executor(address, cluster, debug), fresh)
    except KeyboardInterrupt:
        console.print(Text.assemble(("interrupted", "yellow"), "; what is recorded stays. To go on: ", (again, "bold")))
        raise typer.Exit(INTERRUPTED) from None
    counts = ", ".join(f"{count} {state}" for state, count in sorted(result.trials.items()))
    reused = f" ({result.reused} reused from identical trials)" if result.reused else ""
    state = f"{result.state} ({result.reason})" if result.reason else result.state
    console.print(
        Text.assemble((sweep.name, "bold"), f" {state}: {counts or 'no trial'}{reused}; record in {sweep.folder}")
    )
    console.print(
        "seconds: " + ", ".join(f"{phase} {value:.1f}" for phase, value in result.seconds.items()), style="dim"
    )
    if result.best:
        from sweeps.spec.space import describe_point

        objective = next(iter(sweep.search.objective))
        identity = result.best[0]
        console.print(
            Text.assemble(
                "best: ", (describe_point(identity.overrides), "bold"), f"  {objective} = {result.best_value:.4g}",
                f"  (trial {', '.join(each.trial for each in result.best)})",
            )
        )  # fmt: skip
    if result.not_sent:
        console.print(
            Text.assemble(
                ("not everything is in MLflow: ", "yellow"), result.not_sent, "\nThe journals are complete; later: ",
                (f"linsweep sync {sweep.name}{storage}", "bold"),
            )
        )  # fmt: skip
    if result.not_copied:
        console.print(Text.assemble(("the study's copy is not complete: ", "yellow"), result.not_copied))
    if result.state == "interrupted":
        console.print(Text.assemble("To go on: ", (again, "bold")))
        if result.reason and result.reason.startswith("budget."):
            console.print("with more of it: --set " + result.reason.split(" ")[0] + "=…")
        raise typer.Exit(INTERRUPTED)
    if result.state == "failed":
        why = f"the first that failed, {result.failure}" if result.failure else "the reasons are in the journals"
        console.print(Text.assemble(("no configuration of the search finished", "red"), f"; {why}"))
        raise typer.Exit(1)
    console.print(Text.assemble("Next: ", (f"linsweep table {sweep.name}{storage}", "bold")))
    console.print(Text.assemble("compare in MLflow: ", (_comparison(sweep.folder), "bold")))


@app.command()
def stop(name: NameArgument, storage: StorageOption = Path("runs")) -> None:
    """Ask a running sweep, wherever it runs, to save its trials' states and stop; waits until it has."""
    from sweeps.execution.stop import request_stop
    from sweeps.record.paths import SweepPaths
    from sweeps.status import running

    folder = find_sweep(name, storage)
    paths = SweepPaths(folder)
    if not running(paths):
        raise InputError(name, [Problem("", "is not running")])
    request_stop(paths, "linsweep stop")
    console = Console(soft_wrap=True)
    with console.status(f"waiting for {folder.name} to stop"):
        while running(paths):
            time.sleep(0.5)
    console.print(Text.assemble((folder.name, "bold"), " has stopped. To go on: ", _resume_words(folder)))


@app.command()
def status(
    names: Annotated[list[str] | None, typer.Argument(help="Sweeps; none: all of the storage folder.")] = None,
    storage: StorageOption = Path("runs"),
) -> None:
    """Say how sweeps stand: trials by state, what is spent and what is to come, and what MLflow still lacks."""
    from sweeps.status import render, status_of

    folders = [find_sweep(name, storage) for name in names or ()]
    folders = folders or sorted(path.parent for path in storage.glob("*/sweep.json"))
    if not folders:
        raise InputError(str(storage), [Problem("", "holds no sweep; launch one or give --storage")])
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    for folder in folders:
        console.print(render(status_of(folder)))


@app.command()
def supervise(
    spec: SpecArgument,
    profile: ProfileOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    fresh: FreshOption = False,
    stall: Annotated[
        float, typer.Option(min=30, help="Seconds without a sign of life after which a launch is ended.")
    ] = 300,
) -> None:
    """Launch a sweep, and launch it again from its record whenever it dies: with its process, or with Ray's head."""
    from sweeps.record.paths import SweepPaths
    from sweeps.spec.load import load
    from sweeps.supervise import supervise as run

    sweep = load(spec, set_ or (), profile)
    words = [*_words(spec, profile, set_ or (), address, cluster), *(["--fresh"] if fresh else [])]
    raise typer.Exit(run(words, SweepPaths(sweep.folder), stall, Console(soft_wrap=True)))


@app.command()
def table(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    metric: Annotated[list[str] | None, typer.Option(help="Metric columns instead of the default ones.")] = None,
    rows: Annotated[str | None, typer.Option(help="An axis: with --cols, a grid of two axes.")] = None,
    cols: Annotated[str | None, typer.Option(help="The other axis.")] = None,
    ci: Annotated[Interval, typer.Option(help="95 % intervals by Student's t, or by the bootstrap.")] = "t",
    unequal: Annotated[
        bool, typer.Option("--unequal", help="Compare trials that were trained unequally long as well.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print the ablation tables and write them as CSV, Markdown, LaTeX and HTML, with their figures."""
    from analysis.record.runs import RecordError
    from analysis.report.write import write_tables

    folders = [find_sweep(name, storage) for name in names]
    # Into a file or a pipe, whole rows: whoever reads it there can scroll.
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    try:
        written = write_tables(folders, metrics=metric, rows=rows, cols=cols, ci=ci, unequal=unequal)
    except RecordError as error:
        raise InputError("table", [Problem("", str(error))]) from None
    for made in written.tables:
        if markdown:
            sys.stdout.write(made.to_markdown() + "\n")
        else:
            console.print(made.to_rich(console.width))
            console.print()
    for reason in written.refused:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("left out: ", "yellow"), reason))
    if not markdown:
        console.print("written:", soft_wrap=True)
        for path in written.files:
            console.print(Text(f"  {path}"), soft_wrap=True)
        links = dict.fromkeys(_comparison(folder) for folder in folders)
        console.print(Text.assemble("compare in MLflow: ", ("  ".join(links), "bold")), soft_wrap=True)


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Trials, as SWEEP/TRIAL, or sweeps.")],
    storage: StorageOption = Path("runs"),
) -> None:
    """Print where the configurations of trials or sweeps differ, and their metrics side by side."""
    from sweeps.compare import render, side_of

    sides = [side_of(name, lambda sweep: find_sweep(sweep, storage)) for name in names]
    if len(sides) < 2:
        raise InputError(names[0], [Problem("", "give something to compare it with")])
    Console(width=None if sys.stdout.isatty() else WIDE).print(render(sides))


@app.command()
def report(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    metric: Annotated[str | None, typer.Option(help="What it is about, instead of the first objective.")] = None,
    ci: Annotated[Interval, typer.Option(help="95 % intervals by Student's t, or by the bootstrap.")] = "t",
    unequal: Annotated[
        bool, typer.Option("--unequal", help="Compare trials that were trained unequally long as well.")
    ] = False,
) -> None:
    """Write the report: one HTML page that works offline, and an appendix for a paper in LaTeX and Markdown."""
    from analysis.record.runs import RecordError
    from analysis.report.write import write_report

    folders = [find_sweep(name, storage) for name in names]
    try:
        written = write_report(folders, metric, ci=ci, unequal=unequal)
    except RecordError as error:
        raise InputError("report", [Problem("", str(error))]) from None
    for reason in written.refused:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("left out: ", "yellow"), reason))
    page, *_, appendix = written.files
    console = Console(soft_wrap=True)
    console.print(Text.assemble("open in a browser: ", (str(page), "bold")))
    console.print(Text(f"for a paper: {appendix.parent} ({len(written.files) - 1} files)"))


@app.command()
def export(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    to: Annotated[Path | None, typer.Option(help="The file, instead of NAME.parquet in the storage folder.")] = None,
) -> None:
    """Write sweeps to one Parquet file, which any program reads and analysis.load takes for the sweeps themselves."""
    from analysis.record.runs import RecordError
    from analysis.report.write import export as write

    folders = [find_sweep(name, storage) for name in names]
    try:
        path = write(folders, to)
    except RecordError as error:
        raise InputError("export", [Problem("", str(error))]) from None
    except OSError as error:
        raise InputError("--to", [Problem("", f"{to} cannot be written: {error.strerror}")]) from None
    Console(soft_wrap=True).print(Text(f"written: {path}"))


@app.command()
def sync(
    names: NamesArgument,
    storage: StorageOption = Path("runs"),
    to: ToOption = None,
) -> None:
    """Send to MLflow what it lacks of a sweep's journals, with the tables and the report that have been made."""
    console = Console(soft_wrap=True, highlight=False)
    for name in names:
        folder = find_sweep(name, storage)
        with _syncing(name, folder, to) as sending:
            from sweeps.tracking.parent_run import finish

            sent = sending.send()
            finish(sending.connect(), sending.paths)
        console.print(Text(f"{folder.name}: {sent} events sent to {without_password(sending.uri)}"))


@app.command()
def promote(
    trial: Annotated[str, typer.Argument(metavar="SWEEP/TRIAL", help="A finished trial.")],
    storage: StorageOption = Path("runs"),
    to: ToOption = None,
) -> None:
    """Register a trial's model in MLflow under the name of its sweep."""
    name, _, label = trial.rstrip("/").rpartition("/")
    if not name:
        raise InputError(trial, [Problem("", "give the sweep and the trial, as SWEEP/TRIAL")])
    folder = find_sweep(name, storage)
    with _syncing(name, folder, to) as sending:
        from sweeps.tracking.model import promote as register

        version = register(sending.connect, sending.paths, label)
    console = Console(soft_wrap=True, highlight=False)
    known = folder.resolve().name
    console.print(Text.assemble((f"{known} version {version}", "bold"), f" is the model of {label}. In Python:"))
    console.print(Text("  import mlflow"))
    console.print(Text(f'  mlflow.set_tracking_uri("{without_password(sending.uri)}")'))
    console.print(Text(f'  model = mlflow.pyfunc.load_model("models:/{known}/{version}")'))
    console.print(Text('  images = model.predict({"count": [16], "seed": [0]})'))


@contextmanager
def _syncing(name: str, folder: Path, to: str | None) -> Iterator[Sync]:
    """What sends a sweep that is not running, whatever goes wrong with its server being told in one line."""
    from analysis.record.mlflow_errors import explain
    from sweeps.launch import sync_of
    from sweeps.record.paths import SweepPaths
    from sweeps.record.writers import only_launch

    sending = sync_of(folder, to)
    # A running launch sends by itself, and two writers would make every run twice.
    with only_launch(name, SweepPaths(folder)):
        try:
            yield sending
        except InputError:
            raise
        # The journals stay complete, whatever keeps the server from taking them.
        except Exception as error:
            raise InputError(without_password(sending.uri), [Problem("", explain(error, sending.uri))]) from error


@app.command()
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


@app.command()
def schema() -> None:
    """Print the JSON schema of a spec."""
    from sweeps.spec.model import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")


def find_sweep(name: str, storage: Path) -> Path:
    """The folder of a recorded sweep; raises ``InputError`` that names those there are."""
    for folder in (storage / name, Path(name)):
        if (folder / "sweep.json").exists():
            return folder
    known = sorted(path.parent.name for path in storage.glob("*/sweep.json"))
    hint = suggestion(name, known) if known else f"{storage} holds none; launch one or give --storage"
    raise InputError(name, [Problem("", f"no sweep of this name in {storage}; {hint}")])


def _executor(address: str | None, cluster: Path | None, debug: bool = False) -> Executor:
    """What carries the trials out: Ray, here or on a cluster, or this process."""
    if debug:
        if address or cluster:
            message = "runs the trials in this process: leave out --address and --cluster"
            raise InputError("--debug", [Problem("", message)])
        from sweeps.execution.in_process import InProcess

        return InProcess()
    from sweeps.execution.autoscaler import potential_nodes
    from sweeps.execution.ray_tune import RayTune

    return RayTune(address, potential_nodes(cluster) if cluster else ())


def _record_of(name: str, storage: Path) -> tuple[dict[str, Any], Path]:
    from sweeps.record.paths import SweepPaths
    from sweeps.record.sweep_json import read_record

    folder = find_sweep(name, storage)
    record = read_record(SweepPaths(folder))
    assert record is not None, f"{folder} holds no sweep"
    return record, folder


def _resume_words(folder: Path) -> str:
    return f"linsweep resume {folder.name}{_storage_option(folder.parent)}"


def _words(
    spec: str, profile: str | None, overrides: Sequence[str], address: str | None, cluster: Path | None
) -> list[str]:
    """The arguments of a launch as they can be given again."""
    words = [spec, *(["--profile", profile] if profile else [])]
    words += [word for text in overrides for word in ("--set", text)]
    words += ["--address", address] if address else []
    return words + (["--cluster", str(cluster)] if cluster else [])


def _comparison(folder: Path) -> str:
    """Where a sweep's trials are side by side: its page on the team's server, or the command that serves it."""
    from sweeps.record.paths import SweepPaths
    from sweeps.tracking.views import comparison_link

    return comparison_link(SweepPaths(folder)) or f"linsweep ui{_storage_option(folder.parent)}"


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
