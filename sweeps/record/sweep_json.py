"""sweep.json: what a sweep is and how it stands (docs/record.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

RULES = 2
"""Which rules a search follows that begins now; a record keeps its own, so that its replay gives the same trials.

1: what diverges is told as failed, the seeds of a configuration know nothing of each other, and values of a stepped
range are sums (0.30000000000000004). 2: as ``sweeps.search.schedule`` says.
"""


def read_record(paths: SweepPaths) -> dict[str, Any] | None:
    """A sweep's record, None where there is none; raises ``InputError`` for a file that is not one."""
    if not paths.sweep_json.exists():
        return None
    try:
        record = json.loads(paths.sweep_json.read_text(encoding="utf-8"))
        if not isinstance(record["spec"], dict):
            raise TypeError("spec is not a mapping")
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = (
            f"is not a sweep's record ({type(error).__name__}: {error}); put it back, or remove the sweep's folder"
        )
        raise InputError(str(paths.sweep_json), [Problem("", message)]) from None
    return dict(record)


def write_record(paths: SweepPaths, record: Mapping[str, Any]) -> None:
    """Write a sweep's record whole."""
    write_whole(paths.sweep_json, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
