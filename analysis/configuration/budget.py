"""How long trials were trained: unequal training is compared only on request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pandas as pd

from analysis.configuration.levels import plain
from analysis.record.runs import Record, RecordError
from linearizer_core.words import counted

LEAVES = ("train.steps", "train.batch_size", "data.name", "data.images")
ASK = "compare trials that were trained equally, or pass --unequal"


class UnequalTrainingError(RecordError):
    """A comparison would be of trials that were not trained equally: ``what`` would be compared, and ``why`` not."""

    def __init__(self, names: str, what: str, why: str) -> None:
        super().__init__(f"{names}: {what} would compare {why}; {ASK}")
        self.what, self.why = what, why


REASON = re.compile(rf"(?:.*: )?(?P<names>[^:]+): (?P<what>[^:]+) would compare (?P<why>.+); {re.escape(ASK)}")
"""Matches the message of an ``UnequalTrainingError``, with or without words in front."""


def told_once(reasons: Iterable[str]) -> list[str]:
    """Reasons why something cannot be shown, in order, without repeats; those for unequal training in one sentence.

    >>> from analysis.configuration.budget import ASK, told_once
    >>> first, second = told_once([f"demo: {what} would compare 8 with 10; {ASK}" for what in "ab"] + ["no curve"])
    >>> first.partition(". ")[0]
    'demo: not shown, since this would compare 8 with 10: a; b'
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for reason in reasons:
        match = REASON.fullmatch(reason)
        key = (reason,) if match is None else (match["names"], match["why"])
        whats = found.setdefault(key, [])
        if match is not None and match["what"] not in whats:
            whats.append(match["what"].strip(","))
    ask = f"{ASK[0].upper()}{ASK[1:]}"
    return [
        f"{key[0]}: not shown, since this would compare {key[1]}: {'; '.join(whats)}. {ask}" if whats else key[0]
        for key, whats in found.items()
    ]


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
    """Raise ``UnequalTrainingError`` if ``what`` would compare trials (rows of ``record.runs``) of unequal training."""
    stopped, finished = (trials["state"] == "stopped").sum(), (trials["state"] == "finished").sum()
    if stopped and finished:
        early = f"{counted(stopped, 'trial')} that {'was' if stopped == 1 else 'were'} stopped early"
        raise UnequalTrainingError(record.names, what, f"{early} with {finished} that finished")
    found = budgets(record, trials[trials["state"] == "finished"]).value_counts(sort=False)
    if len(found) > 1:
        told = "; ".join(f"{counted(count, 'trial')} of {words}" for words, count in found.items())
        raise UnequalTrainingError(record.names, what, f"unequal training: {told}")
