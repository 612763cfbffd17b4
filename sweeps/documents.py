"""What the reading commands print with ``--json``, as JSON values (docs/commands.md lists the keys)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from linearizer_core.experiment.journal import ENDED
from sweeps.record.lookup import shown
from sweeps.record.paths import SweepPaths
from sweeps.record.writers import running
from sweeps.words import trial_state

if TYPE_CHECKING:
    from analysis.render.table import Table
    from analysis.report.write import Written
    from linearizer_core.errors import LinsweepError
    from sweeps.compare import Comparison
    from sweeps.execution.plan import Plan
    from sweeps.listing import Listing
    from sweeps.logs import Logs
    from sweeps.samples import Samples
    from sweeps.status import Status

Document = dict[str, Any]


def of_listing(listing: Listing) -> Document:
    """The sweeps of a storage folder."""
    return {"storage": shown(listing.storage), **of_statuses(listing.sweeps, listing.unreadable)}


def of_statuses(statuses: Sequence[Status], unreadable: Mapping[str, LinsweepError]) -> Document:
    """The status of sweeps, and the errors of those that cannot be read."""
    return {
        "sweeps": [of_status(status) for status in statuses],
        "unreadable": [{"sweep": name, "problem": str(error)} for name, error in unreadable.items()],
    }


def of_status(status: Status) -> Document:
    """The status of a sweep."""
    from sweeps.tracking.views import comparison_link

    sweep, budget = status.sweep, status.sweep.model.budget
    best = status.best and {"configuration": status.best_name, "trials": status.best[0], "value": status.best[1]}
    return {
        "sweep": sweep.folder.name,
        "folder": str(sweep.folder),
        "family": sweep.family,
        "state": status.state,
        "reason": status.reason,
        "started": status.started,
        "seen": status.seen,
        "trials": {
            "total": status.total,
            "ended": status.ended,
            **{state: status.trials[state] for state in (*ENDED, "running", "waiting", "interrupted")},
            "reused": status.reused,
            "set_aside": status.set_aside,
        },
        "hours": {"spent": status.hours, "projected": status.projected, "cap": budget.hours},
        "gpu_hours": {"spent": status.gpu_hours, "projected": status.projected_gpu, "cap": budget.gpu_hours},
        "objective": dict(sweep.search.objective),
        "race": status.race and vars(status.race),
        "best": best,
        "open": [vars(each) for each in status.open],
        "unsent_bytes": status.unsent,
        "compare": comparison_link(SweepPaths(sweep.folder)),
    }


def of_tables(made: Written) -> Document:
    """The tables of sweeps, the ones that could not be made, and the files written."""
    return {
        "tables": [table.to_dict() for table in made.tables],
        "left_out": made.refused,
        "files": [str(path) for path in made.files],
    }


def of_checks(table: Table) -> Document:
    """The findings of the checks, and what could not be checked."""
    names = ("check", "verdict", "found", "remedy")
    checks = [dict(zip(names, (cell.value for cell in row.cells), strict=True)) for row in table.rows]
    return {"checks": checks, "untold": list(table.notes)}


def of_comparison(comparison: Comparison) -> Document:
    """Trials or sweeps side by side."""
    return {
        "sides": [
            {"name": side.name, "state": side.state, "configuration": dict(side.leaves), "metrics": dict(side.metrics)}
            for side in comparison.sides
        ],
        "note": comparison.note,
        "differing": comparison.differing,
        "main": comparison.main,
        "contrasts": {
            key: [found and asdict(found) for found in contrasts] for key, contrasts in comparison.contrasts.items()
        },
    }


def of_samples(made: Samples) -> Document:
    """The images sampled from a trial: how many, their shape, and the files written."""
    return {
        "trial": made.trial,
        "seed": made.seed,
        "count": len(made.images),
        "event": list(made.images.shape[1:]),
        "grid": str(made.grid),
        "archive": str(made.archive),
    }


def of_logs(logs: Logs) -> Document:
    """A trial: the state in its journal, and the journal's events."""
    events, state = logs.read()
    identity = state.identity
    return {
        "sweep": logs.paths.root.name,
        "trial": logs.trial,
        "kind": identity and identity.kind,
        "label": identity and identity.label,
        "seed": identity and identity.seed,
        "overrides": identity and dict(identity.overrides),
        "state": trial_state(state.state, running(logs.paths)),
        "reason": state.reason,
        "epoch": state.epoch,
        "attempts": len(state.attempts),
        "reused_from": state.reused_from,
        "metrics": state.metrics,
        "warnings": list(state.warnings),
        "events": events,
    }


def of_plan(plan: Plan) -> Document:
    """What a sweep would do; ``spec`` is the whole spec with every default filled in, without passwords."""
    from linearizer_core.experiment import data as datasets
    from linearizer_core.experiment.callbacks import keys_of
    from linearizer_core.experiment.caveats import caveats
    from linearizer_core.experiment.families import family_of
    from sweeps.execution.plan import parameters
    from sweeps.record.opening import shown
    from sweeps.spec.notes import notes

    sweep = plan.sweep
    common = {
        "sweep": sweep.name,
        "source": sweep.source,
        "folder": str(sweep.folder),
        "configurations": sweep.configurations,
        "trials": plan.trials,
        "at_a_time": plan.concurrency,
        "recorded": plan.growth.document(),
        "price": plan.price and vars(plan.price),
    }
    rest = {"notes": notes(sweep), "spec": shown(sweep.resolved)}
    if sweep.function is not None:
        return {**common, "function": sweep.function, **rest}
    config = sweep.trial_config({}, 0)
    data = datasets.load(config.data)
    smallest, largest = parameters(sweep)
    return {
        **common,
        "data": {
            "name": data.name,
            "event": list(data.event),
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            "notes": list(data.notes),
        },
        "parameters": {"least": smallest, "most": largest},
        "metrics": family_of(config).summary_keys(config) + keys_of(config),
        "caveats": caveats(config, data),
        **rest,
    }
