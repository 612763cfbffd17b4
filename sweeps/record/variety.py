"""Precision and recall of trials, which are shown beside a distance wherever one is printed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from analysis.configuration.variety import keys_beside
from linearizer_core.experiment.journal import state_of
from sweeps.record.paths import SweepPaths


def variety(paths: SweepPaths, trials: Sequence[str], objective: str) -> str:
    """``, precision 0.95, recall 0.79`` as means over trials; empty if none are recorded with the objective."""
    metrics = [state_of(paths.journal(trial)).metrics for trial in trials if paths.journal(trial).exists()]
    common = [key for key in metrics[0] if all(key in each for each in metrics)] if metrics else []
    words = [
        f", {key.partition('/')[2].partition('_')[0]} {fmean(each[key] for each in metrics):.3g}"
        for key in keys_beside(objective, common)
    ]
    return "".join(words)
