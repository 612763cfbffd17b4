"""Where the variance of a metric comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import RecordError, health, load
from analysis.report.list_of_tables import ablation_tables
from analysis.statistics.variance import REST, variance_components
from analysis.tables.variance import TOGETHER, variance
from tests.analysis.record_factory import DEPTH, FD, SweepFiles, frame_of

INIT, ORDER, SPLIT, SAMPLING = "seeds.init", "seeds.order", "data.split", "seeds.sampling"
SPACE = {INIT: {"int": [0, 4]}, ORDER: {"int": [0, 4]}, SPLIT: {"int": [0, 4]}}


def drawn(folder: Path, **searched: object) -> tuple[SweepFiles, dict[str, list[int]], list[float]]:
    """Thirty trials at random seeds: init moves values most, the split less, the order not at all."""
    rng = np.random.default_rng(4)
    effects = {INIT: 3 * rng.normal(size=5), ORDER: np.zeros(5), SPLIT: rng.normal(size=5)}
    files = SweepFiles(folder, space=SPACE | searched)
    levels: dict[str, list[int]] = {name: [] for name in effects}
    values = []
    for number in range(30):
        at = {name: int(rng.integers(5)) for name in effects}
        value = 20 + sum(float(effects[name][level]) for name, level in at.items()) + 0.3 * float(rng.normal())
        point = {**at, DEPTH: 1 + number % 2} if DEPTH in searched else at
        files.finished(number, point, value + 50 * (number % 2) if DEPTH in searched else value)
        for name, level in at.items():
            levels[name].append(level)
        values.append(value)
    return files, levels, values


def test_each_seed_has_its_share_and_the_largest_is_first(tmp_path: Path) -> None:
    files, levels, values = drawn(tmp_path)
    frame = frame_of(variance(load([files.path]))).set_index("source")
    assert list(frame.index[:2]) == ["initial weights", "split"]
    names = {"initial weights": INIT, "split": SPLIT, "order of data": ORDER}
    sources = {name: np.array(levels[leaf], dtype=float) for name, leaf in names.items()}
    for name, expected in variance_components(np.array(values), sources).items():
        row = frame.loc[TOGETHER if name == REST else name]
        assert row["variance"] == pytest.approx(expected.variance, abs=1e-9)
        assert row["share percent"] == pytest.approx(100 * expected.share, abs=1e-9)
        assert row["standard deviation"] == pytest.approx(expected.variance**0.5, abs=1e-9)
    assert frame.loc["split", "levels"] == 5


def test_what_is_no_seed_has_means_of_its_own(tmp_path: Path) -> None:
    alone, _, _ = drawn(tmp_path / "alone")
    both, _, _ = drawn(tmp_path / "both", **{DEPTH: {"grid": [1, 2]}})
    table = variance(load([both.path]))
    assert "2 configurations" in table.notes[0]
    # Half as far apart in the one, since the other's means are taken from it: both are of the same effects.
    found, plain = (
        frame_of(each).set_index("source")["standard deviation"] for each in (table, variance(load([alone.path])))
    )
    assert found["initial weights"] == pytest.approx(plain["initial weights"], rel=0.1)


def test_seeds_that_follow_the_trials_seed_are_one_source(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={SAMPLING: {"grid": [0, 1, 2]}}, seeds=range(4))
    rng = np.random.default_rng(0)
    of_seed = 5 * rng.normal(size=4)
    for number, noise in enumerate((0, 1, 2)):
        for seed in range(4):
            value = 10 + float(of_seed[seed]) + 0.1 * float(rng.normal())
            files.finished(number, {SAMPLING: noise}, value, seed=seed)
    frame = frame_of(variance(load([files.path]))).set_index("source")
    assert frame.index[0] == "initial weights and order of data"
    assert frame.loc["initial weights and order of data", "levels"] == 4
    assert frame.loc["sampling", "levels"] == 3


def test_a_source_given_the_trials_own_number_is_the_same_seed(tmp_path: Path) -> None:
    """Seed 1 with its own initial weights, and seed 0 with those of seed 1, begin alike."""
    files = SweepFiles(tmp_path, space={INIT: {"grid": [-1, 0, 1]}}, seeds=(0, 1))
    for number, given in enumerate((-1, 0, 1)):
        for seed in (0, 1):
            own = seed if given == -1 else given
            files.finished(number, {INIT: given}, 10.0 * own + seed + 0.1 * number, seed=seed)
    frame = frame_of(variance(load([files.path]))).set_index("source")
    assert frame.loc["initial weights", "levels"] == 2
    assert frame.loc["initial weights", "share percent"] > 95


def test_searched_seeds_have_the_table_in_place_of_marginals_and_are_no_edge(tmp_path: Path) -> None:
    files, _, _ = drawn(tmp_path)
    record = load([files.path])
    assert [table.name for table in ablation_tables(record).made] == ["configurations", "variance"]
    found = {row.cells[0].value: str(row.cells[2].value) for row in health(record).rows}
    assert "seeds.init" not in found["edge of the space"]
    assert "order" not in found["axes"]


def test_what_has_no_seeds_is_refused(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [1, 2]}})
    for number in (0, 1):
        files.finished(number, {DEPTH: number + 1}, 5.0 + number)
    with pytest.raises(RecordError, match=r"no seed varies over the finished trials; search seeds\.init, seeds\.order"):
        variance(load([files.path]))
    several = SweepFiles(tmp_path, "one-each", space=SPACE)
    for number in range(3):
        several.finished(number, {INIT: number, ORDER: number, SPLIT: 0}, 1.0 + number, **{"test/swd_sampled": 1.0})
    with pytest.raises(
        RecordError, match=f"{FD}: too few values to separate initial weights and order of data and the rest"
    ):
        variance(load([several.path]))
