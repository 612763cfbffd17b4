"""Commands that run sweeps: plan, launch, resume, stop, retry, status, supervise."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.text import Text

from analysis.record.uri import without_passwords
from sweeps.cli.completion import sweeps
from sweeps.cli.errors import WRONG_INPUT, GoingOn, logged_in, tell
from sweeps.cli.options import (
    AddressOption,
    ClusterOption,
    DebugOption,
    FreshOption,
    JsonOption,
    NameArgument,
    ProfileOption,
    SetOption,
    SideArgument,
    SpecArgument,
    StorageOption,
    TrialArgument,
    print_json,
    wide_console,
)
from sweeps.cli.words import comparison, launch_words, resume_command
from sweeps.documents import of_plan, of_status, of_statuses
from sweeps.record.lookup import all_sweeps, named, storage_option
from sweeps.record.lookup import shown as place
from sweeps.spec.validation import InputError, Problem

if TYPE_CHECKING:
    from sweeps.spec.model import Sweep

INTERRUPTED = 130


def plan(
    spec: SpecArgument,
    profile: ProfileOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    whole: Annotated[bool, typer.Option("--all", help="Name every metric that is recorded.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a spec and show what it would do, without starting anything."""
    from sweeps.api.running import plan
    from sweeps.execution.plan import render

    made = plan(spec, set=set_ or (), profile=profile, address=address, cluster=cluster)
    if as_json:
        return print_json(of_plan(made))
    console = Console()
    console.print(render(made, whole))
    console.print()
    words = launch_words(spec, profile, [without_passwords(text) for text in set_ or ()], address, cluster)
    # Unwrapped: a command that is broken over lines cannot be pasted.
    console.print(
        "Nothing was started. Next:", Text(f"linsweep launch {shlex.join(words)}", style="bold"), soft_wrap=True
    )
    return None


def launch(
    spec: SpecArgument,
    profile: ProfileOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    fresh: FreshOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a sweep; one that was interrupted continues where it stopped."""
    with Console().status("checking the spec"):
        from sweeps.api.running import sweep_of

        sweep = sweep_of(spec, set_ or (), profile)
    _carry_out(sweep, address, cluster, fresh, debug)


def resume(
    name: NameArgument,
    storage: StorageOption = Path("runs"),
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    debug: DebugOption = False,
) -> None:
    """Continue a recorded sweep; --set can raise its budget."""
    with Console().status("checking the record"):
        from sweeps.api.running import recorded_sweep

        sweep = recorded_sweep(name, storage, set_ or ())
    _carry_out(sweep, address, cluster, False, debug)


def _carry_out(sweep: Sweep, address: str | None, cluster: Path | None, fresh: bool, debug: bool) -> None:
    """Launch a sweep, and print how it ended and what to do next."""
    from sweeps.api.running import launch
    from sweeps.result import render

    # A failure to print never ends a sweep.
    output = cast(IO[str], GoingOn())
    console = Console(file=output, soft_wrap=not sys.stdout.isatty())
    # Commands stay unwrapped, so that they can be pasted.
    whole = Console(file=output, soft_wrap=True)
    again = resume_command(sweep.folder, address, cluster, debug)
    try:
        with logged_in(sweep.folder):
            result = launch(sweep, address=address, cluster=cluster, fresh=fresh, debug=debug, progress=console)
    except KeyboardInterrupt:
        whole.print(Text.assemble(("interrupted", "yellow"), "; the record is kept. To continue: ", (again, "bold")))
        raise typer.Exit(INTERRUPTED) from None
    console.print(render(result))
    if result.not_sent:
        whole.print(
            Text.assemble(
                ("MLflow is not complete: ", "yellow"), result.not_sent, "\nThe journals are complete; send them with ",
                (f"linsweep sync {named(sweep.folder)}", "bold"),
            )
        )  # fmt: skip
    if result.not_copied:
        console.print(Text.assemble(("the copy of the study is not complete: ", "yellow"), result.not_copied))
    if result.state == "interrupted":
        whole.print(Text.assemble("To continue: ", (again, "bold")))
        if result.reason and result.reason.startswith("budget."):
            whole.print("with a higher budget: --set " + result.reason.split(" ")[0] + "=…")
        raise typer.Exit(INTERRUPTED)
    if result.state == "failed":
        why = f"the first failure: {result.failure}" if result.failure else "the reasons are in the journals"
        console.print(Text.assemble(("no configuration of the search finished", "red"), f"; {why}"))
        raise typer.Exit(1)
    whole.print(Text.assemble("Next: ", (f"linsweep table {named(sweep.folder)}", "bold")))
    whole.print(Text.assemble("compare in MLflow: ", (comparison(sweep.folder), "bold")))


def stop(name: SideArgument, storage: StorageOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Ask a running sweep, or one of its trials, to save its state and stop, and wait until it has."""
    from sweeps.api.running import stop
    from sweeps.record.lookup import names_trial

    console = Console(soft_wrap=True, stderr=as_json)
    with console.status(f"waiting for {name} to stop"):
        status = stop(name, storage=storage)
    if as_json:
        return print_json(of_status(status))
    folder = status.sweep.folder
    if names_trial(name, storage):
        again = f"linsweep retry {name}{storage_option(storage)}"
        console.print(Text.assemble((name, "bold"), " has stopped. To continue it: ", again))
    else:
        console.print(Text.assemble((folder.name, "bold"), " has stopped. To continue: ", resume_command(folder)))
    return None


def retry(trial: TrialArgument, storage: StorageOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Retry a trial that failed or was stopped by hand, in the running launch or else in the next one."""
    from sweeps.api.running import retry

    status = retry(trial, storage=storage)
    if as_json:
        return print_json(of_status(status))
    goes_on = status.state in ("running", "stopping")
    when = "once the other trials have ended" if goes_on else f"with {resume_command(status.sweep.folder)}"
    Console(soft_wrap=True).print(Text.assemble((trial, "bold"), f" will be retried {when}"))
    return None


def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Sweeps; default: all in the storage folder.", autocompletion=sweeps),
    ] = None,
    storage: StorageOption = Path("runs"),
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Redraw every two seconds until the sweeps have ended.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the state of sweeps: trials, time, the best so far, and what MLflow has not received yet."""
    from sweeps.cli.statuses import read_all, shown
    from sweeps.cli.watch import Look
    from sweeps.cli.watch import watch as go_on
    from sweeps.status import render

    wanted = names or all_sweeps(storage)
    if not wanted:
        raise InputError(place(storage), [Problem("", "holds no sweep; launch one or give --storage")])
    if watch and as_json:
        raise InputError("--json", [Problem("", "prints one document, which --watch never ends; give only one")])
    console = wide_console()
    found = read_all(wanted, storage)

    def look() -> Look:
        nonlocal found
        found = read_all(wanted, storage)
        return shown(found)

    if watch:
        go_on(look, console)
    elif as_json:
        print_json(of_statuses(list(found.statuses.values()), found.unreadable))
    else:
        for each in found.statuses.values():
            console.print(render(each))
    for error in found.unreadable.values():
        tell(error)
    if found.unreadable:
        raise typer.Exit(WRONG_INPUT)


def supervise(
    spec: SpecArgument,
    profile: ProfileOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
    fresh: FreshOption = False,
    stall: Annotated[
        float, typer.Option(min=30, metavar="SECONDS", help="Kill a launch that shows no sign of life for this long.")
    ] = 300,
) -> None:
    """Launch a sweep, and relaunch it from its record whenever the launch dies."""
    from sweeps.api.running import sweep_of
    from sweeps.record.paths import SweepPaths
    from sweeps.supervise import supervise

    sweep = sweep_of(spec, set_ or (), profile)
    # Options first: behind "--" they would be a second spec.
    words = [*(["--fresh"] if fresh else []), *launch_words(spec, profile, set_ or (), address, cluster)]
    console = Console(file=cast(IO[str], GoingOn()), soft_wrap=True)
    raise typer.Exit(supervise(words, SweepPaths(sweep.folder), stall, console))
