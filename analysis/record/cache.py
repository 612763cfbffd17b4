"""A cache of the journals already read, in the sweep's folder: only journals that changed are read again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.record.frames import Points, Trial
from analysis.record.parquet import CURVES, nested, unnested, write_table

FILE = "cache.parquet"
KEY = b"linearizer_sweeps_cache"
VERSION = 6
"""Raise it when what is read from a journal, or how, changes: caches of other versions are not used."""

PLAIN = [part.name for part in fields(Trial) if part.name != "points"]


@dataclass(frozen=True)
class Stamp:
    """Size and modification time of a file: if both are the same, the file has not changed."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file as it is now."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Cache:
    """Trials by journal name, None for a journal without one; ``metrics`` lists the metric keys by number.

    ``damage`` lists the unreadable lines of each journal that has any: the line number and the problem.
    """

    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    trials: Mapping[str, Trial | None] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    damage: Mapping[str, list[tuple[int, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Cache:
        """The cache in a sweep's folder; empty if it is missing, unreadable or of another version."""
        try:
            table = pq.read_table(folder / FILE)
            about = json.loads((table.schema.metadata or {})[KEY])
            if about["version"] != VERSION:
                return cls()
            counts, codes, metrics, steps, values = unnested(table[CURVES])
            ends = np.cumsum(counts)
            names, trials = table["journal"].to_pylist(), {}
            for name, text, start, end in zip(names, table["trial"].to_pylist(), ends - counts, ends, strict=True):
                points = Points(codes[start:end], steps[start:end], values[start:end])
                trials[name] = None if text is None else Trial(**json.loads(text), points=points)
            sizes, times = table["size"].to_pylist(), table["modified_ns"].to_pylist()
            stamps = {name: Stamp(*stamp) for name, *stamp in zip(names, sizes, times, strict=True)}
            damage = {name: [(number, problem) for number, problem in found] for name, found in about["damage"].items()}
        # Whatever is wrong with the cache, the journals have all of it.
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError):
            return cls()
        return cls(stamps, trials, metrics, damage)

    def write(self, folder: Path) -> None:
        """Write the cache atomically; do nothing if the folder is not writable."""
        points = [Points.of({}, {}) if trial is None else trial.points for trial in self.trials.values()]
        parts = [Points.of({}, {}), *points]
        lists = nested(
            [len(part.step) for part in points],
            np.concatenate([part.metric for part in parts]),
            self.metrics,
            np.concatenate([part.step for part in parts]),
            np.concatenate([part.value for part in parts]),
        )
        table = pa.table(
            {
                "journal": pa.array(list(self.trials), pa.string()),
                "size": pa.array([stamp.size for stamp in self.stamps.values()], pa.int64()),
                "modified_ns": pa.array([stamp.modified_ns for stamp in self.stamps.values()], pa.int64()),
                "trial": pa.array([_text(trial) for trial in self.trials.values()], pa.string()),
                CURVES: lists,
            }
        )
        with contextlib.suppress(OSError):
            write_table(table, KEY, {"version": VERSION, "damage": self.damage}, folder / FILE)


def _text(trial: Trial | None) -> str | None:
    """A trial without its points, as JSON with Python's NaN and infinities."""
    if trial is None:
        return None
    values: dict[str, Any] = {name: getattr(trial, name) for name in PLAIN}
    return json.dumps(values)
