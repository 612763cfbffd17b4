"""How long trials were trained: longer training is not compared with shorter, unless that is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.runs import Record, RecordError

LEAVES = ("train.steps", "train.batch_size", "data.name", "data.images")
ASK = "ask for it with --unequal, or compare what was trained alike"


def budgets(record: Record, trials: pd.DataFrame) -> pd.Series[Any]:
    """The training of each trial (rows of ``record.runs``) in words: equal words are equal optimiser steps."""
    specs = {sweep.name: sweep.spec for sweep in record.sweeps}
    names = [*("sweep", "epoch", "overrides"), *(leaf for leaf in LEAVES if leaf in record.axes)]
    rows = zip(*(trials[name].tolist() for name in names), strict=True)
    told = (dict(zip(names, row, strict=True)) for row in rows)
    words = [_words(trial, _leaves(trial, specs)) for trial in told]
    return pd.Series(words, index=trials.index, dtype="object")


def _words(trial: Mapping[str, Any], leaves: Mapping[str, Any]) -> str:
    epochs = 0 if pd.isna(trial["epoch"]) else int(trial["epoch"])
    if leaves["train.steps"]:
        return f"{epochs * int(leaves['train.steps'])} steps"
    images, data = leaves["data.images"], leaves["data.name"]
    passes = f"{epochs} epochs of {f'{images} images of ' if images else ''}{data or 'the data'}"
    return f"{passes} in batches of {leaves['train.batch_size']}" if leaves["train.batch_size"] else passes


def _leaves(trial: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a configuration's optimiser steps depend on besides its epochs; None where nobody says."""
    overrides = json.loads(trial["overrides"])
    leaves = {}
    for name in LEAVES:
        section, _, leaf = name.partition(".")
        value = (specs[trial["sweep"]].get(section) or {}).get(leaf)
        value = overrides.get(name, value)
        leaves[name] = value if pd.isna(trial.get(name)) else trial[name]
    return leaves


def check_equal(record: Record, trials: pd.DataFrame, what: str) -> None:
    """Raise ``RecordError`` where ``what`` would compare trials (rows of ``record.runs``) of unequal training."""
    stopped, finished = (trials["state"] == "stopped").sum(), (trials["state"] == "finished").sum()
    if stopped and finished:
        raise RecordError(
            f"{record.names}: {what} would compare {stopped} trials that were stopped early with {finished} finished; "
            f"{ASK}"
        )
    found = budgets(record, trials[trials["state"] == "finished"]).value_counts(sort=False)
    if len(found) > 1:
        told = "; ".join(f"{count} trials of {words}" for words, count in found.items())
        raise RecordError(f"{record.names}: {what} would compare unequal training: {told}; {ASK}")
