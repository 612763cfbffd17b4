"""Partial dependence and pairs of axes, of records whose values are known functions of their axes."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import Record, RecordError, dependence_table, importance_pairs, load, partial_dependence
from tests.analysis.record_factory import DEPTH, LR, RANK, SweepFiles, frame_of

KIND = "model.kind"


def gridded(tmp_path: Path, factor: float = 1.0) -> Record:
    """Depth acts alone, rank and kind only together: kind b turns the effect of rank around."""
    space: dict[str, Any] = {
        DEPTH: {"grid": [1, 2, 3]}, RANK: {"grid": [4, 8, 16, 32]}, KIND: {"choice": ["a", "b", "c"]},
    }  # fmt: skip
    files = SweepFiles(tmp_path, space=space)
    for number, (depth, rank, kind) in enumerate(product([1, 2, 3], [4, 8, 16, 32], ["a", "b", "c"])):
        turned = {"a": 1.0, "b": -1.0, "c": 0.0}[kind] * (math.log2(rank) - 3.5)
        files.finished(number, {DEPTH: depth, RANK: rank, KIND: kind}, factor * (10.0 + 2 * depth + turned))
    return load([files.path])


def test_a_pair_that_acts_only_together_is_found(tmp_path: Path) -> None:
    """Var 8/3 of depth, 5/6 of the pair: 0.76 and 0.24."""
    frame = frame_of(importance_pairs(gridded(tmp_path), resamples=1)).set_index("axes")["share"]
    assert frame["depth"] == pytest.approx(0.76, abs=0.03)
    assert frame["rank × kind"] == pytest.approx(0.24, abs=0.03)
    assert frame.drop(["depth", "rank × kind"]).max() < 0.05
    assert frame.index[-1] == "three axes or more, and chance"


def test_partial_dependence_of_a_balanced_grid_is_its_marginal_means(tmp_path: Path) -> None:
    frame = frame_of(dependence_table(gridded(tmp_path)))
    means = frame.set_index(["block", "value"]).iloc[:, 0]
    assert frame["block"].iloc[0] == "depth"
    assert means["depth"].to_list() == pytest.approx([12, 14, 16], abs=0.1)
    assert means["rank"].to_list() == pytest.approx([14] * 4, abs=0.1)
    assert means["kind"].to_list() == pytest.approx([14] * 3, abs=0.1)
    low, high = (frame[name] for name in frame.columns[-2:])
    assert ((low < frame.iloc[:, 2]) & (frame.iloc[:, 2] < high)).all()


def test_values_over_decades_are_taken_in_logarithms(tmp_path: Path) -> None:
    """10^depth: the geometric mean at each depth is its power."""
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [1, 2, 3, 4]}, LR: {"float": [1e-3, 1e-1], "log": True}})
    random = np.random.default_rng(0)
    for number in range(24):
        depth = 1 + number % 4
        files.finished(number, {DEPTH: depth, LR: float(10 ** random.uniform(-3, -1))}, 10.0**depth)
    table = dependence_table(load([files.path]))
    frame = frame_of(table).set_index("block")
    assert frame.loc["depth"].iloc[:, 1].to_list() == pytest.approx([10, 100, 1000, 10000], rel=0.05)
    assert frame.loc["lr", "value"].iloc[[0, 3, -1]].to_list() == [0.001, 0.01, 0.1]
    assert table.notes[0].startswith("The geometric mean")


def test_noise_is_said_not_to_be_relied_on(tmp_path: Path) -> None:
    files, random = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 40]}}), np.random.default_rng(1)
    for number in range(40):
        files.finished(number, {DEPTH: 1 + number}, float(random.normal()))
    assert "do not rely on it" in dependence_table(load([files.path])).notes[1]


def test_an_axis_has_a_panel_with_its_line_and_interval(tmp_path: Path) -> None:
    figure = partial_dependence(gridded(tmp_path))
    assert figure.axes[0].get_xlabel() == "depth"
    told = [mark.told for mark in figure.marks if mark.series == "predicted"]
    assert [len(each) for each in told] == [3, *(len(each) for each in told[1:])]
    assert told[0][0].startswith("depth 1: 12")
    kinds = next(axes for axes in figure.axes if axes.get_xlabel() == "kind")
    assert [text.get_text() for text in kinds.get_xticklabels()] == ["a", "b", "c"]
    assert [line.get_linestyle() for line in kinds.get_lines()][-1] == "None"  # words have no order to join


def test_few_configurations_are_refused(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, {DEPTH: 1, RANK: 4, LR: 1e-3}, 1.0)
    for make in (dependence_table, partial_dependence, importance_pairs):
        with pytest.raises(RecordError, match="needs 10 configurations with a finite value, got 1"):
            make(load([files.path]))
