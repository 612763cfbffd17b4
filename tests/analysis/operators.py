"""A sweep of affine operators whose numbers can be counted by hand: rank curves, controls, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.analysis.record_factory import DEPTH, FD, SweepFiles

NAMES = ("flat", "random", "swapped", "shared", "pooled", "means")
TEST = "test/classifier_fd_collapsed"
OWN = 10.0
"""Of the better configuration on the test split, at every seed."""
CURVE = {1: 40.0, 8: 20.0, 64: 30.0}
"""Its rank curve on the validation split at the middle seed; each other seed is one lower or higher."""


def measured(
    own: float, factors: Mapping[str, float], *, curve: Mapping[int, float] = CURVE, off: float = 0.0, rank: float = 8.0
) -> tuple[dict[str, float], dict[str, tuple[list[int], list[float]]]]:
    """End scalars and curves of a trial: controls are ``factors`` times its own value on test.

    The curve is ``off`` above ``curve`` at each rank, and a tenth more on the test split.
    """
    scalars = {
        FD: own - 1, TEST: own,
        "quality/precision_collapsed": 0.95, "quality/recall_collapsed": 0.7,
        "test/precision_collapsed": 0.95, "test/recall_collapsed": 0.7,
        "sampling/rank": rank, "sampling/temperature": 1.25,
    }  # fmt: skip
    for name, factor in factors.items():
        scalars |= {f"test/classifier_fd_{name}": own * factor, f"controls/{name}": factor}
    ranks = list(curve)
    values = [value + off for value in curve.values()]
    curves = {
        "rank/classifier_fd": (ranks, values),
        "rank/test_classifier_fd": (ranks, [1.1 * value for value in values]),
        "rank/test_recall": (ranks, [0.1 * (1 + place) for place in range(len(ranks))]),
    }
    return scalars, curves


def write(files: SweepFiles, trial: str, scalars: Mapping[str, float], curves: Mapping[str, Any] | None = None) -> None:
    """The curves, the summary and the end of a trial that has begun."""
    for metric, (ranks, values) in (curves or {}).items():
        files.add(trial, "curve", metric=metric, steps=ranks, values=values)
    files.add(trial, "summary", metrics=dict(scalars))
    files.end(trial)


def operators(
    storage: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    flat: Sequence[float] = (1.7, 1.8, 1.9),
    others: float = 4.0,
    identity: Sequence[float] = (50.0, 50.0, 50.0),
    name: str = "operators",
) -> SweepFiles:
    """Depths 4 and 2: 10 and 20 on test at every seed, beside a control of the spec, g = identity, at as many seeds.

    A flat spectrum is ``flat`` times worse at the seeds for the better one and as good for the other, every other
    control ``others`` times.
    """
    files = SweepFiles(storage, name, space={DEPTH: {"grid": [2, 4]}}, seeds=seeds)
    for number, (depth, own) in enumerate(((4, OWN), (2, 2 * OWN))):
        for place, seed in enumerate(seeds):
            factors = dict.fromkeys(NAMES, others) | {"flat": flat[place] if depth == 4 else 1.0}
            trial = f"t{number:03d}-s{seed}"
            files.begin(trial, number, {DEPTH: depth}, seed=seed)
            off, rank = seed - 1.0 + 5.0 * number, 64.0 if seed == 2 else 8.0
            write(files, trial, *measured(own, factors, off=off, rank=rank))
    for seed, value in zip(seeds, identity, strict=False):
        control(files, "g = identity", {"model.flow.kind": "identity"}, seed, value)
    files.begin("r000", 0, kind="reference", label="real against real", seed=None)
    real = {FD: 1.0, TEST: 2.0, "quality/recall_collapsed": 0.9, "test/recall_collapsed": 0.92}
    write(files, "r000", real)
    return files


def control(files: SweepFiles, label: str, sets: Mapping[str, Any], seed: int, value: float, number: int = 0) -> None:
    """A seed of a control of the spec, with its value on both splits."""
    trial = f"c{number:03d}-s{seed}"
    files.begin(trial, number, sets, kind="control", label=label, seed=seed)
    write(files, trial, {FD: value, TEST: value, "test/recall_collapsed": 0.2})
