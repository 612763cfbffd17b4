"""Whether two axes act together."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import RecordError, Table, load
from analysis.tables.interaction import interaction
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, frame_of
from tests.analysis.tables.grids import gridded


def analysed(table: Table) -> pd.DataFrame:
    return frame_of(table).set_index("source")


def test_the_interaction_of_a_grid(tmp_path: Path) -> None:
    planted = gridded(tmp_path / "a", {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 6.0})
    table = interaction(planted, DEPTH, RANK)
    frame = analysed(table)
    assert frame["degrees of freedom"].tolist() == [3, 4, 12, 38]
    assert frame.loc["depth × rank", "p"] < 1e-3
    assert "They interact" in table.notes[0]
    assert any("against the interaction" in note for note in table.notes)
    null = gridded(tmp_path / "b", {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 0.0})
    table = interaction(null, DEPTH, RANK)
    assert analysed(table).loc["depth × rank", "p"] > 0.01
    linear = analysed(interaction(null, DEPTH, RANK, kind="linear"))
    assert linear.index.tolist() == ["depth", "log₂ rank", "depth × rank", "residual"]
    # A configuration can be off a slope by itself, at all of its seeds: twenty observations, not sixty.
    assert linear["degrees of freedom"].tolist() == [1, 1, 1, 16]


def test_one_value_a_cell_has_no_error_to_test_against(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 0.0}, seeds=1)
    with pytest.raises(RecordError, match=r"as many cells as values.*more seeds"):
        interaction(record, DEPTH, RANK)
    assert analysed(interaction(record, DEPTH, RANK, kind="linear"))["p"].notna().sum() == 3


def test_ten_times_the_seeds_tell_no_more_of_the_axes(tmp_path: Path) -> None:
    """Configurations have effects of their own, and seeds repeat them exactly: the axes are as uncertain as before."""
    own = np.random.default_rng(5).standard_normal((3, 4))
    found, space = [], {DEPTH: {"grid": [1, 2, 4]}, RANK: {"grid": [4, 8, 16, 32]}}
    for seeds in (2, 20):
        files = SweepFiles(tmp_path, f"s{seeds}", space=space, seeds=range(seeds))
        for number, (i, j) in enumerate(itertools.product(range(3), range(4))):
            for seed in range(seeds):
                point = {DEPTH: [1, 2, 4][i], RANK: [4, 8, 16, 32][j]}
                files.finished(number, point, float(own[i, j]) + 1e-3 * (-1) ** seed * (1 + number), seed=seed)
        found.append(analysed(interaction(load([files.path]), DEPTH, RANK)))
    rows, cols = own.mean(1, keepdims=True), own.mean(0, keepdims=True)
    left = float(np.square(own - rows - cols + own.mean()).sum()) / 6
    for frame in found:
        assert frame.loc["depth", "F"] == pytest.approx(4 * rows.var(ddof=1) / left, rel=1e-6)
        assert frame.loc["rank", "F"] == pytest.approx(3 * cols.var(ddof=1) / left, rel=1e-6)
        assert frame.loc["depth × rank", "p"] < 1e-3


def test_a_seed_that_is_better_for_all_alike_hides_no_interaction_and_makes_none(tmp_path: Path) -> None:
    shifts = [0.0, 50.0, -70.0]
    for both, least, most in ((6.0, 0.0, 1e-3), (0.0, 0.01, 1.0)):
        folder = tmp_path / str(both)
        gridded(folder, {"a": 20.0, "b": 0.5, "depth": 2.0, "both": both})
        for path in (folder / "grid" / "journal").glob("*.jsonl"):
            seed = int(path.stem.rpartition("-s")[2])
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for line in lines:
                for key in line.get("metrics", {}):
                    line["metrics"][key] += shifts[seed]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        p = analysed(interaction(load([folder / "grid"]), DEPTH, RANK)).loc["depth × rank", "p"]
        assert least <= p < most
