"""How long trials were trained: unequal training is compared only on request."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd

from analysis.configuration.levels import plain
from analysis.record.runs import Record, RecordError

LEAVES = ("train.steps", "train.batch_size", "data.name", "data.images")
ASK = "compare trials that were trained equally, or pass --unequal"


def budgets(record: Record, trials: pd.DataFrame) -> pd.Series[Any]:
    """A description of each trial's training (rows of ``record.runs``); it is equal if the optimiser steps are."""
    columns = [plain(trials["epoch"]), *(_leaf(record, trials, name) for name in LEAVES)]
    words = [_words(*training) for training in zip(*columns, strict=True)]
    return pd.Series(words, index=trials.index, dtype="object")


def _leaf(record: Record, trials: pd.DataFrame, name: str) -> list[Any]:
    """A leaf of each trial's configuration; if it was not recorded, the spec's value, or None."""
    section, _, leaf = name.partition(".")
    told = {sweep.name: (sweep.spec.get(section) or {}).get(leaf) for sweep in record.sweeps}
    values = plain(trials[name]) if name in trials else [None] * len(trials)
    return [
        told[sweep] if value is None else value for sweep, value in zip(trials["sweep"].tolist(), values, strict=True)
    ]


@lru_cache(maxsize=4096)
def _words(epoch: int | None, steps: int | None, batch: int | None, data: str | None, images: int | None) -> str:
    if steps:
        return f"{(epoch or 0) * int(steps)} steps"
    passes = f"{epoch or 0} epochs of {f'{images} images of ' if images else ''}{data or 'the data'}"
    return f"{passes} in batches of {batch}" if batch else passes


def check_equal(record: Record, trials: pd.DataFrame, what: str) -> None:
    """Raise ``RecordError`` if ``what`` would compare trials (rows of ``record.runs``) of unequal training."""
    stopped, finished = (trials["state"] == "stopped").sum(), (trials["state"] == "finished").sum()
    if stopped and finished:
        raise RecordError(
            f"{record.names}: {what} would compare {stopped} trials that were stopped early with {finished} that "
            f"finished; {ASK}"
        )
    found = budgets(record, trials[trials["state"] == "finished"]).value_counts(sort=False)
    if len(found) > 1:
        told = "; ".join(f"{count} trials of {words}" for words, count in found.items())
        raise RecordError(f"{record.names}: {what} would compare unequal training: {told}; {ASK}")
