"""Tables of a sweep's cost, failures and provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from analysis.record.runs import KINDS, STATES, Record, SweepInfo
from analysis.render.cells import Cell, Column, Row
from analysis.render.table import Table
from analysis.tables.layout import BLOCKS
from linearizer_core.words import counted

NAMES = {"search": "search", **{kind: name for kind, name in BLOCKS.items() if name}}
GPU_SECONDS = "cost/gpu_seconds"
LONGEST = 300
"""The most characters of a reason that are shown; the journal has all of it."""


def cost(record: Record) -> Table:
    """Trials and hours by kind and outcome; spending on trials without a result is listed as well.

    >>> import analysis
    >>> table = analysis.cost(analysis.example())
    >>> [row.cells[1].value for row in table.rows]
    [24, 3, 2, 3, 32]
    """
    runs = record.runs
    total = float(_own(runs)["seconds"].sum()) / 3600
    rows = []
    for kind in KINDS:
        for state in STATES:
            here = runs[(runs["kind"] == kind) & (runs["state"] == state)]
            if len(here):
                rows.append(Row(_spent(f"{NAMES[kind]}, {state}", here, total)))
    rows.append(Row(_spent("all", runs, total), bold=True))
    columns = [
        Column("trials", "trials", "left"),
        Column("count", "count", spec="d"),
        Column("epochs", "epochs", spec=",d"),
        Column("hours", "hours", spec=".3f"),
        Column("share (%)", "share percent", spec=".1f"),
        Column("longest (h)", "longest hours", spec=".3f"),
        *([Column("GPU hours", "gpu hours", spec=".3f")] if GPU_SECONDS in runs else []),
    ]
    reused = record.counts.reused
    notes = ["Hours: the time that attempts took, summed over trials, which may have run in parallel."]
    if reused:
        notes.append(f"{reused} trials were reused from identical ones; they cost nothing and have no hours.")
    notes += [f"{sweep.name}: {_wall(sweep, record)}." for sweep in record.sweeps]
    return Table("cost", f"{record.names}: what it cost", tuple(columns), tuple(rows), tuple(notes))


def _spent(label: str, trials: pd.DataFrame, total: float) -> tuple[Cell, ...]:
    own = _own(trials)
    hours = own["seconds"] / 3600
    spent, longest = float(hours.sum()), float(hours.max())
    cells = [Cell(label), Cell(len(trials)), Cell(int(trials["epoch"].fillna(0).sum())), Cell(spent)]
    cells += [Cell(100 * spent / total if total else None), Cell(longest)]
    if GPU_SECONDS in trials:
        cells.append(Cell(float(own[GPU_SECONDS].sum()) / 3600))
    return tuple(cells)


def _own(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that were not reused; reused ones have the times of the original."""
    return trials[trials["reused_from"].isna()]


def _wall(sweep: SweepInfo, record: Record) -> str:
    """The time during which any of a sweep's trials ran, without gaps such as a weekend between two launches.

    A trial whose attempts are not known counts as having run without a break.
    """
    if sweep.ended is None:
        return "it has not ended"
    own = _own(record.runs[record.runs["sweep"] == sweep.name])
    attempts = record.attempts[record.attempts["sweep"] == sweep.name]
    known, untold = attempts["trial"].isin(own["trial"]), ~own["trial"].isin(attempts["trial"])
    times = [frame[["started", "seconds"]].dropna() for frame in (attempts[known], own[untold])]
    worked, until = 0.0, -math.inf
    for started, seconds in sorted(pair for frame in times for pair in frame.itertuples(index=False, name=None)):
        worked += max(0.0, started + seconds - max(until, started))
        until = max(until, started + seconds)
    return f"{worked / 3600:.3f} hours in which a trial ran"


def failures(record: Record) -> Table:
    """The trials that failed, were interrupted or have warnings, with the epoch and the reason.

    >>> import analysis
    >>> analysis.failures(analysis.example()).notes
    ('0 of 29 trials failed, 0 were interrupted.',)
    """
    runs = record.runs
    odd = runs["state"].isin(["failed", "interrupted"]) | runs["warnings"].notna()
    rows = []
    for row in runs[odd].to_dict("records"):
        words = row["reason"] if isinstance(row["reason"], str) else ""
        said = row["warnings"] if isinstance(row["warnings"], str) else ""
        epoch = None if pd.isna(row["epoch"]) else int(row["epoch"])
        cells = [Cell(f"{row['sweep']}/{row['trial']}"), Cell(str(row["state"])), Cell(epoch)]
        rows.append(Row((*cells, Cell(_short(words)), Cell(_short(said)))))
    counts = record.counts
    notes = [f"{counts.failed} of {counted(counts.trials, 'trial')} failed, {counts.interrupted} were interrupted."]
    columns = (
        Column("trial", "trial", "left"),
        Column("state", "state", "left"),
        Column("epoch", "epoch", spec="d"),
        Column("reason", "reason", "left"),
        Column("warnings", "warnings", "left"),
    )
    return Table("failures", f"{record.names}: what failed or warned", columns, tuple(rows), tuple(notes))


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"


def provenance(record: Record) -> Table:
    """Each sweep's search, code, packages, machine and data, with one column per sweep.

    >>> import analysis
    >>> table = analysis.provenance(analysis.example())
    >>> [row.cells[0].value for row in table.rows][:4]
    ['state', 'id', 'started', 'family']
    """
    told = [_provenance(sweep) for sweep in record.sweeps]
    names = list(dict.fromkeys(name for each in told for name in each))
    rows = [Row((Cell(name), *(Cell(each.get(name, "")) for each in told))) for name in names]
    columns = [Column("what", "what", "left"), *(Column(sweep.name, sweep.name, "left") for sweep in record.sweeps)]
    return Table("provenance", f"{record.names}: where it comes from", tuple(columns), tuple(rows))


def _provenance(sweep: SweepInfo) -> dict[str, str]:
    search = sweep.spec.get("search") or {}
    stopping = search.get("stop_early") or {}
    found = {
        "state": " ".join(filter(None, (sweep.state, sweep.document.get("reason")))),
        "id": str(sweep.document.get("id", "")),
        "started": datetime.fromtimestamp(sweep.started, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "family": sweep.family,
        "data": _plain((sweep.spec.get("data") or {}).get("name", "")),
        "data checksum": _plain(sweep.provenance.get("data_checksum", "")),
        "sampler": _plain(search.get("sampler", "")),
        "early stopping": _plain(stopping.get("scheduler", "none" if search else "")),
        "seeds": _seeds(search.get("seeds") or ()),
        "constraints": ", ".join(f"{key} {rule}" for key, rule in sweep.constraints.items()),
    }
    git = sweep.provenance.get("git") or {}
    commit = _plain(git.get("commit") or "an installed package")
    found["code"] = f"{commit}{' with uncommitted changes' if git.get('dirty') else ''}"
    for name, value in (sweep.provenance.get("hardware") or {}).items():
        found[str(name).replace("_", " ")] = _plain(value)
    for name, value in sorted((sweep.provenance.get("packages") or {}).items()):
        found[str(name)] = _plain(value)
    return {name: value for name, value in found.items() if value}


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return "" if value is None else str(value)


def _seeds(seeds: Sequence[int] | Mapping[str, int]) -> str:
    """The seeds of a search as text; for a race, their smallest and largest number."""
    if isinstance(seeds, Mapping):
        return f"{seeds['at_least']} to {seeds['at_most']}, in a race"
    return ", ".join(map(str, seeds))
