"""The sources of randomness of a trial: which seed each uses, and which of them a sweep varies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.configuration.levels import plain
from analysis.record.runs import Record
from analysis.statistics.intervals import Array

SOURCES: Mapping[str, tuple[str, bool, int]] = {
    "initial weights": ("seeds.init", True, -1),
    "order of data": ("seeds.order", True, -1),
    "split": ("data.split", False, 0),
    "sampling": ("seeds.sampling", False, 0),
}
"""Each source's leaf, whether it follows the trial's seed if the leaf is negative, and the value in records without the
leaf."""
LEAVES = tuple(leaf for leaf, _, _ in SOURCES.values())


def chance_axes(record: Record) -> list[str]:
    """The searched axes that are seeds: their values are random draws, and none is better than another."""
    return [axis for axis in record.axes if axis in LEAVES]


def sources_of(trials: pd.DataFrame) -> dict[str, Array]:
    """For each source that varies over trials (rows of ``record.runs``), its seed in each, ``(trials,)``.

    Sources that vary together cannot be separated: they are returned as one, under both names.
    """
    seeds = plain(trials["seed"])
    found: dict[bytes, tuple[list[str], Array]] = {}
    for name, (leaf, follows, before) in SOURCES.items():
        column = plain(trials[leaf]) if leaf in trials else [None] * len(trials)
        values = [before if value is None else value for value in column]
        own = [seed if follows and value < 0 else value for value, seed in zip(values, seeds, strict=True)]
        places = {key: place for place, key in enumerate(dict.fromkeys(own))}
        if len(places) > 1:
            levels: Array = np.array([places[key] for key in own], dtype=np.float64)
            found.setdefault(levels.tobytes(), ([], levels))[0].append(name)
    return {" and ".join(names): levels for names, levels in found.values()}
