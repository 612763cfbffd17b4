"""sweep.json: what a sweep is and its state (docs/record.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from analysis.record.sweep_info import REMEDY, RecordError, check_document, document_of
from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

RULES = 2
"""The version of the search rules for new sweeps; a record keeps its own, so that its replay gives the same trials.

1: a diverged trial is told as failed, the seeds of a configuration do not affect each other, and values of a stepped
range are sums (0.30000000000000004). 2: as ``sweeps.search.schedule`` describes.
"""


def read_record(paths: SweepPaths) -> dict[str, Any] | None:
    """A sweep's record, or None if there is none; raises ``InputError`` for a file that is not a record."""
    if not paths.sweep_json.exists():
        return None
    try:
        record = document_of(paths.sweep_json.read_bytes())
        check_document(record, str(paths.sweep_json))
        if not isinstance(record.get("spec"), dict):
            raise TypeError("spec is not a mapping")
    except RecordError as error:
        raise InputError(
            str(paths.sweep_json), [Problem("", str(error).removeprefix(f"{paths.sweep_json}: "))]
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"is not a sweep's record ({type(error).__name__}: {error}); {REMEDY}"
        raise InputError(str(paths.sweep_json), [Problem("", message)]) from None
    return dict(record)


def check_to_go_on(paths: SweepPaths, record: Mapping[str, Any]) -> None:
    """Raise ``InputError`` if a field that a launch needs from an earlier one's record is missing or wrong.

    Commands that only show a record do not need these fields.
    """
    origin = record.get("provenance") or {}
    known = {
        "id": isinstance(record.get("id"), str),
        "lookahead": type(record.get("lookahead")) is int,
        "fresh": isinstance(record.get("fresh"), bool),
        "rules": record.get("rules", 1) in range(1, RULES + 1),
        "provenance.data_checksum": isinstance(origin.get("data_checksum"), str),
        "provenance.git": isinstance(origin.get("git"), Mapping),
    }
    found = [
        Problem(name, f"is missing or invalid, so the sweep cannot continue; {REMEDY}")
        for name, right in known.items()
        if not right
    ]
    if found:
        raise InputError(str(paths.sweep_json), found)


def write_record(paths: SweepPaths, record: Mapping[str, Any]) -> None:
    """Write a sweep's whole record."""
    write_whole(paths.sweep_json, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
