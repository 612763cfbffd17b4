"""Every fault of ``faults.py``, and a sweep killed again and again: measured, for the tables of docs/reliability.md.

python -m tests.end_to_end.chaos [--rounds 20] [--seed 0] [--only trial,node] [--write docs/reliability.md]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from tests.end_to_end import faults, lab
from tests.end_to_end.audit import Audit, audit
from tests.end_to_end.faults import FAULTS, Laboratory, Survival

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
"""What is between these in the written file is replaced."""

KILLED = "killed"
LONGEST_LIFE = 40.0
SEARCHED = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="how often a launch is killed at a random moment")
    parser.add_argument("--seed", type=int, default=0, help="fixes the moments")
    parser.add_argument("--only", help="names of faults, comma-separated")
    parser.add_argument("--write", type=Path, help="a Markdown file whose measured part is replaced")
    arguments = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray reads it by this name
    rows: list[str] = []
    wrong = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        for name in ("server", "sweeps", "postgres"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        server = stack.enter_context(lab.mlflow_server(folder / "server"))
        tell("the undisturbed sweep")
        laboratory = Laboratory.open(folder / "sweeps", server)
        known = everything(stack, folder / "postgres")
        chosen = arguments.only.split(",") if arguments.only else list(known)
        for name in chosen:
            what, fault = known[name]
            tell(what)
            started = time.monotonic()
            try:
                survival = fault(laboratory, f"fault-{name}")
            except Exception as error:  # noqa: BLE001 - the other faults are to be seen as well
                wrong += 1
                rows.append(f"| {what} | failed: {' '.join(str(error).split())[:200]} | | | | |")
            else:
                wrong += bool(survival.audit.problems or survival.audit.lost or survival.audit.duplicated)
                rows.append(row(what, survival))
            tell(f"{rows[-1]} ({time.monotonic() - started:.0f} s)")
        text = table(rows)
        if arguments.rounds:
            said, failed = rounds(laboratory, arguments.rounds, random.Random(arguments.seed))
            wrong += failed
            text += "\n" + said
    print(text)
    if arguments.write:
        whole = arguments.write.read_text()
        before, _, rest = whole.partition(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    return 1 if wrong else 0


def everything(stack: ExitStack, folder: Path) -> dict[str, tuple[str, Callable[[Laboratory, str], Survival]]]:
    """Every fault that this machine can be given, by name, with what it is."""
    known = {name: (str(fault.__doc__), fault) for name, fault in FAULTS.items()}
    if os.geteuid() == 0:
        known["full"] = (str(faults.disk_full.__doc__), faults.disk_full)
    binaries = lab.postgres_binaries()
    if binaries is not None:
        postgres = stack.enter_context(lab.postgres_server(folder, binaries))
        known["postgres"] = (
            str(faults.postgres_restarted.__doc__),
            partial(faults.postgres_restarted, postgres=postgres),
        )
    return known


def row(what: str, survival: Survival) -> str:
    found = survival.audit
    problems = "; ".join(found.problems)[:300] or "nothing"
    redone = f"{found.redone_epochs} epochs, {found.redone_seconds:.1f} s" if found.redone_epochs else "nothing"
    return f"| {what} | {found.lost} | {found.duplicated} | {redone} | {survival.seconds:.0f} | {problems} |"


def table(rows: list[str]) -> str:
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {memory:.0f} GiB"
    columns = "| fault | trials lost | trials twice | done again | seconds to go on | disagrees |"
    head = [columns, "|---|---:|---:|---|---:|---|"]
    return "\n".join([f"Measured on {machine}.", "", *head, *rows, ""])


def rounds(laboratory: Laboratory, count: int, draw: random.Random) -> tuple[str, int]:
    """Kill a launch ``count`` times, each at a random moment of its life, and go on from the record each time.

    A sweep that ends between two kills is looked at, and another one is launched for the rest of them.
    """
    bench = laboratory.linsweep
    sweeps: list[Audit] = []
    moments: list[float] = []
    while len(moments) < count:
        name = f"{KILLED}{len(sweeps)}"
        words = laboratory.words(name, f"search.trials={SEARCHED}")
        while len(moments) < count:
            process = bench.start(*words)
            moment = draw.uniform(1, LONGEST_LIFE)
            try:
                process.communicate(timeout=moment)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                moments.append(moment)
            tell(f"kill {len(moments)}, after {moment:.0f} s: {name} has {len(bench.trials(name))} journals")
        bench.run(*words)
        expected = ["r000", "r001", "r002", *(f"t{number:03d}-s0" for number in range(SEARCHED))]
        sweeps.append(audit(bench, name, expected, laboratory.server.uri))
        tell(f"{name} is over: {sweeps[-1]}")
    agrees = "; ".join(problem for found in sweeps for problem in found.problems) or "journals, study and MLflow agree"
    lost, twice = (sum(getattr(found, of) for found in sweeps) for of in ("lost", "duplicated"))
    text = (
        f"{len(sweeps)} sweeps of {SEARCHED} trials, whose launches were killed {len(moments)} times in all at "
        f"random moments of their first {LONGEST_LIFE:g} seconds and launched again each time, ended with exactly "
        f"these trials: {lost} lost, {twice} twice, {sum(found.redone_epochs for found in sweeps)} epochs "
        f"({sum(found.redone_seconds for found in sweeps):.1f} s) trained again; {agrees}.\n"
    )
    return text, int(agrees != "journals, study and MLflow agree" or bool(lost or twice))


def tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
