"""Fronts and volumes, importances, searches over time, solver steps, laws and interactions, of recorded sweeps."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna._hypervolume import compute_hypervolume
from scipy import stats

from analysis import RecordError, Table, load
from analysis.record.runs import Record
from analysis.report.list_of_tables import ablation_tables, statistics_tables
from analysis.statistics.curves import area, steps_to
from analysis.statistics.fronts import hypervolume, nondominated
from analysis.tables.anytime import anytime, best_so_far, mean_between
from analysis.tables.importance import importance, study_of
from analysis.tables.interaction import interaction
from analysis.tables.pareto import front
from analysis.tables.scaling import scaling
from analysis.tables.steps import steps_to_quality
from tests.analysis.record_factory import DEPTH, FD, RANK, START, SweepFiles

PARAMS = "cost/params"
GRID = {DEPTH: {"grid": [1, 2, 4, 8]}, RANK: {"grid": [4, 8, 16, 32, 64]}}


def frame_of(table: Table) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(table.to_csv()))


# Fronts and volumes


def test_what_no_other_point_is_better_than() -> None:
    points = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [2.0, 2.0], [1.0, 5.0]])
    assert nondominated(points).tolist() == [True, True, True, False, True, False]


@pytest.mark.parametrize("objectives", [2, 3])
def test_fronts_are_those_of_their_definition(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(0, 5, (40, objectives)).astype(float)
    wanted = [not any(all(q <= p) and any(q < p) for q, p in ((other, point) for other in points)) for point in points]
    assert nondominated(points).tolist() == wanted


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_volume_is_that_of_optuna(objectives: int) -> None:
    random = np.random.default_rng(objectives)
    for count in (1, 2, 7, 40):
        points, corner = random.uniform(0, 1.3, (count, objectives)), np.ones(objectives)
        inside = points[(points < 1).all(axis=1)]
        wanted = float(compute_hypervolume(inside, corner)) if len(inside) else 0.0
        assert hypervolume(points, corner) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_volume_is_the_number_of_dominated_cells(objectives: int) -> None:
    points = np.random.default_rng(objectives + 10).integers(0, 7, (12, objectives)).astype(float)
    cells = itertools.product(range(7), repeat=objectives)
    dominated = sum(any((point <= cell).all() for point in points) for cell in map(np.array, cells))
    assert hypervolume(points, np.full(objectives, 7.0)) == dominated


def test_volumes_of_worked_examples() -> None:
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([4.0, 4.0])) == 7.0
    assert hypervolume(np.array([[0.0, 0.0, 0.0]]), np.array([2.0, 3.0, 4.0])) == 24.0
    assert hypervolume(np.array([[5.0, 0.0]]), np.array([4.0, 4.0])) == 0.0
    with pytest.raises(ValueError, match="1, 2 or 3 objectives"):
        hypervolume(np.zeros((1, 4)), np.ones(4))
    with pytest.raises(ValueError, match="finite"):
        nondominated(np.array([[math.nan, 1.0]]))


def test_the_front_of_a_sweep(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=GRID, seeds=(0, 1))
    # Mean quality 10, 20, 15, 30 at sizes 400, 100, 200, 300: the last is worse than the third in both.
    for number, (values, size) in enumerate([((9, 11), 400), ((20, 20), 100), ((10, 20), 200), ((30, 30), 300)]):
        for seed, value in enumerate(values):
            files.finished(number, {DEPTH: 1, RANK: 4}, float(value), seed=seed, **{PARAMS: float(size)})
    table = front(load([files.path]))
    frame = frame_of(table)
    assert frame["configuration"].tolist() == ["t000", "t002", "t001"]
    # At seed 1, t001 is as good as t002, and smaller.
    assert frame["front of seeds"].tolist() == ["2 of 2", "1 of 2", "2 of 2"]
    # From (30, 400): 10 × 300 of t001, and 5 × 200 more of t002; t000 is at the edge of the box of 20 × 300.
    assert "Hypervolume 4000 from" in table.notes[1]
    assert "66.7 % of the box" in table.notes[1]
    assert "Hypervolume 6000" not in table.to_markdown()


def test_a_maximised_objective_and_an_own_reference(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=GRID, objective={FD: "max"})
    for number, (value, size) in enumerate([(1.0, 1.0), (3.0, 2.0), (2.0, 3.0)]):
        files.finished(number, {DEPTH: 1, RANK: 4}, value, **{PARAMS: size})
    record = load([files.path])
    table = front(record, {FD: "max", PARAMS: "min"}, reference={FD: 0.0, PARAMS: 4.0})
    assert frame_of(table)["configuration"].tolist() == ["t001", "t000"]
    # (3 - 0) × (4 - 2) and (1 - 0) × (2 - 1).
    assert "Hypervolume 7 from" in table.notes[1]
    with pytest.raises(RecordError, match="two objectives"):
        front(record, {FD: "max"})
    with pytest.raises(RecordError, match="the reference must have"):
        front(record, {FD: "max", PARAMS: "min"}, reference={FD: 0.0})


# Importance


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
    for name in ("PED-ANOVA", "fANOVA"):
        assert frame[name].sum() == pytest.approx(1.0)
        assert (frame[f"{name} ci95 low"] <= frame[f"{name} ci95 high"]).all()
    assert "95 % of 2 bootstraps of the configurations" in table.notes[0]


def test_stability_is_over_seeds_where_there_are_three(tmp_path: Path) -> None:
    table = importance(searched(tmp_path, 15, seeds=(0, 1, 2)))
    assert "95 % of 3 seeds" in table.notes[0]
    assert "fANOVA: rankings of seeds agree with a mean rank correlation of" in table.notes[2]


def test_few_configurations_have_no_importances(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"importances need 10 configurations .* got 9"):
        importance(searched(tmp_path, 9))


# Searches over time


def timed(
    folder: Path, name: str, sampler: str, trials: Sequence[tuple[float, float, float]], gpus: float = 0
) -> SweepFiles:
    """A search whose trials begin and end at those seconds with those values."""
    files = SweepFiles(folder, name, space=GRID, sampler=sampler)
    files.sweep["spec"]["resources"] = {"workers": 1, "gpus_per_worker": gpus}
    files.write_sweep()
    for number, (begin, end, value) in enumerate(trials):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, {DEPTH: 1, RANK: 4}, time=START + begin)
        files.add(trial, "summary", metrics={FD: value}, time=START + end)
        files.add(trial, "end", time=START + end, state="finished", epoch=10, reason=None)
    return files


def test_the_best_so_far_is_told_when_trials_end(tmp_path: Path) -> None:
    # Two at once: the third ends before the second, which began before it.
    files = timed(tmp_path, "one", "tpe", [(0, 10, 5.0), (0, 40, 2.0), (10, 30, 3.0), (30, 50, 4.0)], gpus=0.5)
    record = load([files.path])
    frame = best_so_far(record)
    assert frame["spent"].tolist() == [10, 30, 70, 90]
    assert frame["best"].tolist() == [5, 3, 2, 2]
    assert best_so_far(record, unit="gpu_hours")["spent"].tolist() == pytest.approx(np.array([10, 30, 70, 90]) / 7200)
    assert best_so_far(record, unit="trials")["spent"].tolist() == [1, 2, 3, 4]
    assert mean_between(frame, 10, 90) == pytest.approx((20 * 5 + 40 * 3 + 20 * 2) / 80)


def test_samplers_are_compared_after_equal_spending(tmp_path: Path) -> None:
    folders = []
    for index in range(3):
        better = [(0, 10, 5.0 + index / 10), (10, 20, 1.0), (20, 40, 0.5)]
        worse = [(0, 10, 6.0 + index / 10), (10, 20, 5.0), (20, 30, 2.0)]
        folders += [timed(tmp_path, f"tpe{index}", "tpe", better).path]
        folders += [timed(tmp_path, f"random{index}", "random", worse).path]
    table = anytime(load(folders))
    frame = frame_of(table)
    assert frame["sampler"].tolist() == ["tpe", "random"]
    assert frame["sweeps"].tolist() == [3, 3]
    # Equal spending ends at 30: by then the third trial of tpe has not.
    assert frame["best at 30 seconds"].tolist() == [1.0, 2.0]
    assert frame["best at 15 seconds"].tolist() == pytest.approx([5.1, 6.1])
    assert frame["seconds to 2"].tolist() == [20.0, 30.0]
    means = [[(5 + i / 10 + 1) / 2 for i in range(3)], [(6 + i / 10 + 5) / 2 for i in range(3)]]
    assert frame["mean best so far"].tolist() == pytest.approx([np.mean(row) for row in means])
    assert frame["p holm"][1] == pytest.approx(stats.ttest_ind(*means, equal_var=False).pvalue)


def test_gpu_hours_without_gpus_are_refused(tmp_path: Path) -> None:
    record = load([timed(tmp_path, "one", "tpe", [(0, 10, 5.0)]).path])
    with pytest.raises(RecordError, match="had no GPU"):
        best_so_far(record, unit="gpu_hours")
    with pytest.raises(RecordError, match="no objective of the search"):
        best_so_far(record, "cost/params")


# Solver steps


def test_steps_to_a_quality_are_at_the_crossing_on_a_log_scale() -> None:
    steps, values = np.array([1.0, 4.0, 16.0]), np.array([100.0, 20.0, 10.0])
    assert steps_to(steps, values, 20.0, "min") == 4.0
    assert steps_to(steps, values, 60.0, "min") == pytest.approx(2.0)  # half way, and √(1 · 4)
    assert steps_to(steps, values, 200.0, "min") == 1.0
    assert math.isnan(steps_to(steps, values, 5.0, "min"))
    assert steps_to(steps, -values, -60.0, "max") == pytest.approx(2.0)


def test_the_area_is_the_mean_over_log_steps() -> None:
    steps = np.array([1.0, 2.0, 8.0])
    assert area(steps, np.array([3.0, 1.0, 1.0])) == pytest.approx((2 * 1 + 1 * 2) / 3)
    assert area(steps, np.full(3, 7.0)) == pytest.approx(7.0)
    assert area(steps, np.log(steps)) == pytest.approx(math.log(8) / 2)
    assert area(np.array([4.0]), np.array([2.0])) == 2.0


def test_the_steps_of_a_sweep(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=GRID, seeds=(0, 1))
    for seed, last in enumerate((10.0, 10.4)):
        files.finished(0, {DEPTH: 1, RANK: 4}, last, seed=seed, curve={1: 100.0, 4: 20.0, 16: last})
        files.finished(1, {DEPTH: 2, RANK: 4}, 50.0, seed=seed, curve={1: 90.0, 4: 60.0, 16: 50.0})
    files.control(0, "g = identity", {DEPTH: 1, RANK: 4}, 15.0, curve={1: 15.0, 4: 15.0, 16: 15.0})
    record = load([files.path])
    table = steps_to_quality(record, target=20.0)
    frame = frame_of(table)
    assert frame["configuration"].tolist() == ["t000", "t001", "g = identity"]
    assert frame["steps"].tolist() == ["4.0", "> 16", "1.0"]
    assert frame["reached"].tolist() == ["2 of 2", "0 of 2", "1 of 1"]
    assert frame["area"].tolist() == pytest.approx([(60 + 15.1) / 2, (75 + 55) / 2, 15.0])
    assert frame["block"].fillna("").tolist() == ["", "", "controls"]
    assert "steps to a classifier_fd of 10.71" in steps_to_quality(record).title  # 5 % above 10.2
    with pytest.raises(RecordError, match="no curve 'nfe/swd'"):
        steps_to_quality(record, "swd")


# Laws and interactions over a grid


def gridded(tmp_path: Path, value: Mapping[str, float], seeds: int = 3, noise: float = 0.5) -> Record:
    """Depth × rank: a law in rank, a slope in log depth, and how much the one changes the other."""
    files, random = SweepFiles(tmp_path, "grid", space=GRID, seeds=range(seeds)), np.random.default_rng(1)
    points = itertools.product(GRID[DEPTH]["grid"], GRID[RANK]["grid"])
    for number, (depth, rank) in enumerate(points):
        mean = value["a"] * rank ** -value["b"] + value["depth"] * math.log2(depth)
        mean += value["both"] * (depth == 8) * (rank == 64)
        for seed in range(seeds):
            point = {DEPTH: depth, RANK: rank}
            files.finished(number, point, 20 + mean + noise * float(random.normal()), seed=seed)
    return load([files.path])


def test_the_law_of_a_grid_is_fitted_at_each_level_of_the_other_axis(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 200.0, "b": 1.0, "depth": 0.0, "both": 0.0})
    frame = frame_of(scaling(record)).set_index(["over", "at", "law"])
    power = frame.xs("power", level="law")
    assert power.loc["rank", "supported"].eq("yes").all()
    assert power.loc["rank", "b"].tolist() == pytest.approx([1.0] * 4, abs=0.15)
    assert power.loc["rank", "c"].tolist() == pytest.approx([20.0] * 4, abs=2.0)
    assert power.loc["depth", "supported"].str.startswith("no: ").all()
    logarithm = frame.xs("logarithm", level="law").loc["depth", "supported"]
    assert (logarithm.str.contains("covers 0") | logarithm.str.contains("of the variance")).all()


def analysed(table: Table) -> pd.DataFrame:
    return frame_of(table).set_index("source")


def test_the_interaction_of_a_grid(tmp_path: Path) -> None:
    planted = gridded(tmp_path / "a", {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 6.0})
    table = interaction(planted, DEPTH, RANK)
    frame = analysed(table)
    assert frame["degrees of freedom"].tolist() == [3, 4, 12, 40]
    assert frame.loc["depth × rank", "p"] < 1e-3
    assert "They act together" in table.notes[0]
    null = gridded(tmp_path / "b", {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 0.0})
    table = interaction(null, DEPTH, RANK)
    assert analysed(table).loc["depth × rank", "p"] > 0.01
    linear = analysed(interaction(null, DEPTH, RANK, kind="linear"))
    assert linear.index.tolist() == ["depth", "log₂ rank", "depth × rank", "residual"]
    assert linear["degrees of freedom"].tolist() == [1, 1, 1, 56]


def test_one_value_a_cell_has_no_error_to_test_against(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 0.0}, seeds=1)
    with pytest.raises(RecordError, match=r"as many cells as values.*more seeds"):
        interaction(record, DEPTH, RANK)
    assert analysed(interaction(record, DEPTH, RANK, kind="linear"))["p"].notna().sum() == 3


@pytest.mark.parametrize(
    "of", [front, importance, scaling, best_so_far, lambda record: interaction(record, DEPTH, RANK)]
)
def test_unequal_training_is_refused(tmp_path: Path, of: Any) -> None:
    files = SweepFiles(tmp_path, space=GRID)
    for number, depth in enumerate((1, 2, 4)):
        files.begin(f"t{number:03d}-s0", number, {DEPTH: depth, RANK: 4})
        files.add(f"t{number:03d}-s0", "summary", metrics={FD: 1.0, PARAMS: 2.0})
        files.end(f"t{number:03d}-s0", epoch=10 * depth)
    with pytest.raises(RecordError, match=r"unequal training: 1 trials of 10 epochs .* --unequal"):
        of(load([files.path]))


# All of them


def test_every_table_that_a_record_supports_is_made_and_the_others_say_why(tmp_path: Path) -> None:
    record = gridded(tmp_path, {"a": 20.0, "b": 0.5, "depth": 2.0, "both": 6.0})
    tables = ablation_tables(record)
    assert [table.name for table in tables.made] == ["configurations", "marginal-depth", "marginal-rank"]
    assert tables.refused == []
    grid = ablation_tables(record, [FD], DEPTH, RANK, ci="bootstrap")
    assert [table.name for table in grid.made] == ["pivot-depth-rank", "comparisons-depth-rank"]
    assert [table.name for table in ablation_tables(record, cols=RANK).made] == ["marginal-rank"]
    further = statistics_tables(record)
    assert [table.name for table in further.made] == ["one-factor", "importance", "scaling", "interaction-depth-rank"]
    assert further.refused == [f"grid: a front needs two objectives, got {FD}"]
    for table in [*tables.made, *grid.made, *further.made]:
        for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()):
            assert text.endswith("\n")
        assert table.to_rich(120).row_count >= len(table.rows)
