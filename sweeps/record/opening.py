"""sweep.json at the start of a launch."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console

from analysis.record.uri import without_password
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.caveats import caveats
from linearizer_core.experiment.nested import with_leaves
from linearizer_core.experiment.sample_metrics import better
from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths
from sweeps.record.provenance import digest, provenance, uncommitted
from sweeps.record.sweep_json import RULES
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem

NO_DATA = ""
"""The checksum for a user-defined function, whose data are unknown."""


def opened(
    sweep: Sweep, lookahead: int, before: Mapping[str, Any] | None, fresh: bool, console: Console
) -> dict[str, Any]:
    """The sweep.json of a new sweep, or of the one ``before`` that is continued.

    Raises ``InputError`` if the recorded sweep had other data.
    """
    checksum, said, ways = NO_DATA, list[str](), dict[str, str]()
    if sweep.function is None:
        config = sweep.trial_config({}, 0)
        data = datasets.load(config.data)
        checksum, said = data.checksum, caveats(config, data)
        ways = {name: better(config.evaluate, name) for name in config.evaluate.plugged.get("metric", {})}
    origin = provenance(checksum)
    if before and before["provenance"]["data_checksum"] != checksum:
        message = f"these are not the images that {sweep.name} began with; use those, or another name"
        raise InputError(sweep.source, [Problem("data", message)])
    if before and before["provenance"]["git"] != origin["git"]:
        console.print("the code has changed since the sweep began; each trial records its own version", style="yellow")
    record: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "name": sweep.name,
        "family": sweep.family,
        "axes": list(sweep.search.space),
        "objective": dict(sweep.search.objective),
        "directions": ways,
        "lookahead": lookahead,
        "rules": RULES,
        "spec": shown(sweep.resolved),
        "fresh": fresh,
        "state": "running",
        "reason": None,
        "started": time.time(),
        "ended": None,
        "best": None,
        "best_value": None,
        "provenance": origin,
        "caveats": said,
    }
    # The trials of a search depend on its look-ahead and rules, so a sweep keeps those that it began with.
    kept = {key: before[key] for key in ("id", "started", "lookahead")} if before else {}
    if before:
        kept["rules"] = before.get("rules", 1)
    return record | kept | {"fresh": fresh or bool(before and before["fresh"])}


LARGEST_PATCH = 10 * 2**20
"""The largest patch that is kept, in bytes; anything larger is not code but files that should not be tracked."""


def keep_uncommitted(paths: SweepPaths, record: Mapping[str, Any]) -> None:
    """Keep uncommitted changes to the code beside ``sweep.json``: results could not be reproduced without them."""
    name = record["provenance"]["git"].get("patch")
    if name is None or paths.patch(name).exists():
        return
    patch = uncommitted()
    if digest(patch) == name and len(patch) <= LARGEST_PATCH:  # unless the code was changed in the meantime
        with suppress(OSError):  # failing to keep it does not stop a launch
            write_whole(paths.patch(name), patch)


def shown(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved spec in the form that may be stored: URIs without passwords."""
    leaves = {"tracking.uri": spec["tracking"]["uri"], "search.storage": spec["search"]["storage"]}
    return with_leaves(spec, {name: without_password(uri) for name, uri in leaves.items() if uri})
