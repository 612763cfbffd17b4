"""Which axes matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from analysis import RecordError, load
from analysis.record.runs import Record
from analysis.tables.importance import importance, study_of
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, frame_of


def searched(tmp_path: Path, count: int, seeds: Sequence[int] = (0,)) -> Record:
    """The value depends on depth much, on rank a little, on the kind not at all."""
    space: dict[str, Any] = {
        DEPTH: {"int": [1, 6]}, RANK: {"int": [4, 64], "log": True}, "model.kind": {"choice": ["a", "b"]},
    }  # fmt: skip
    files, random = SweepFiles(tmp_path, space=space, seeds=seeds, sampler="random"), np.random.default_rng(0)
    for number in range(count):
        point = {
            DEPTH: int(random.integers(1, 7)),
            RANK: int(2 ** random.uniform(2, 6)),
            "model.kind": str(random.choice(["a", "b"])),
        }
        for seed in seeds:
            value = (point[DEPTH] - 5) ** 2 - 0.5 * math.log2(point[RANK]) + 0.1 * random.normal()
            files.finished(number, point, value, seed=seed)
    return load([files.path])


def test_a_study_is_rebuilt_with_the_points_and_ranges_of_the_record(tmp_path: Path) -> None:
    record = searched(tmp_path, 12)
    points = [{DEPTH: 2, RANK: 16, "model.kind": "b"}, {DEPTH: 6, RANK: 5, "model.kind": "a"}]
    study = study_of(points, [1.0, 2.0], record, "min")
    assert [trial.params for trial in study.trials] == points
    assert study.best_value == 1.0
    assert study.trials[0].distributions == {
        DEPTH: optuna.distributions.IntDistribution(1, 6),
        RANK: optuna.distributions.IntDistribution(4, 64, log=True),
        "model.kind": optuna.distributions.CategoricalDistribution(["a", "b"]),
    }


def test_the_planted_axis_is_the_important_one(tmp_path: Path) -> None:
    table = importance(searched(tmp_path, 40), resamples=2)
    frame = frame_of(table).set_index("axis")
    assert frame.index[0] == "depth"
    assert frame.loc["depth", "fANOVA"] > 0.8
    assert frame.loc["kind", "fANOVA"] < 0.1
    assert frame["PED-ANOVA"].idxmax() == "depth"
    assert frame["near the best"].idxmax() == "depth"
    for name in ("PED-ANOVA", "fANOVA", "near the best"):
        assert frame[name].sum() == pytest.approx(1.0)
        # An interval that need not hold its own estimate is none.
        assert f"{name} ci95 low" not in frame
    assert "without intervals: a bootstrap repeats configurations" in table.notes[0]
    assert "fANOVA: rankings of bootstraps of the configurations agree with" in table.notes[3]


def test_stability_is_over_seeds_where_there_are_three(tmp_path: Path) -> None:
    table = importance(searched(tmp_path, 15, seeds=(0, 1, 2)))
    assert "fANOVA: rankings of seeds agree with a mean rank correlation of" in table.notes[3]


def test_few_configurations_have_no_importances(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"a model of .* needs 10 configurations .* got 9"):
        importance(searched(tmp_path, 9))


def test_near_the_best_another_axis_may_matter(tmp_path: Path) -> None:
    """Of rank where depth is 1, of depth nowhere near: depth decides over the whole, rank around the best."""
    space: dict[str, Any] = {DEPTH: {"grid": [1, 2, 3, 4]}, RANK: {"grid": [4, 8, 16, 32]}}
    files = SweepFiles(tmp_path, space=space)
    values = {1: lambda rank: 10.0 - math.log2(rank), 2: lambda _: 9.0, 3: lambda _: 30.0, 4: lambda _: 60.0}
    for number, (depth, rank) in enumerate((d, r) for d in values for r in (4, 8, 16, 32)):
        # Whoever is at another depth has another value; at the best rank none has.
        value = values[depth](rank) if rank < 32 else values[1](rank)
        files.finished(number, {DEPTH: depth, RANK: rank}, value)
    frame = frame_of(importance(load([files.path]), resamples=1)).set_index("axis")
    assert frame.loc["depth", "fANOVA"] > 0.6
    assert frame.loc["rank", "near the best"] > 0.6
