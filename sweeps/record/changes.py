"""What may change of a sweep between two launches of it."""

from __future__ import annotations

from linearizer_core.experiment.nested import flatten
from linearizer_core.experiment.recipes import of_then
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.spec.load import recorded
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem

MAY_CHANGE = (
    "search.trials", "search.storage", "budget.", "resources.", "tracking.", "storage", "data.root", "data.download",
    "labels",
)  # fmt: skip
"""Leaves that may differ when a sweep is launched again: they change how much, where or words, not what a trial is."""


def check_folder(sweep: Sweep) -> None:
    """Raise ``InputError`` when the sweep's folder holds a sweep with another spec."""
    record = read_record(SweepPaths(sweep.folder))
    if record is None:
        return
    before, now = flatten(of_then(record["spec"])), flatten(sweep.resolved)
    changed = [
        f"{key}: {before.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        message = (
            f"{sweep.folder} holds a sweep of this name with another spec ({'; '.join(changed)}); "
            "give this one another name (--set name=…) or remove that folder"
        )
        raise InputError(sweep.source, [Problem("name", message)])
    most = recorded(record, sweep.folder).configurations
    if sweep.configurations < most:
        message = f"{sweep.name} was launched with {most} already; the number can only grow"
        raise InputError(sweep.source, [Problem("search.trials", message)])
