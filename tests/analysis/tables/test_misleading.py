"""What must not mislead: inactive axes, points drawn again, partly finished configurations, cells without a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import Record, RecordError, by_configuration, configurations, load, marginal, pivot
from analysis.figures.parallel import parallel_coordinates
from analysis.report.summary import summary
from analysis.tables.cost import cost
from analysis.tables.importance import importance
from analysis.tables.interaction import interaction
from analysis.tables.one_factor import one_factor
from analysis.tables.pairs import comparisons
from analysis.tables.pareto import front
from analysis.tables.scaling import scaling
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, START, SweepFiles, told

CONDITIONER, KERNEL = "model.flow.conditioner", "model.flow.kernel"
CONDITIONAL: dict[str, Any] = {
    DEPTH: {"grid": [1, 2, 3, 4]},
    CONDITIONER: {"grid": ["mlp", "conv"]},
    KERNEL: {"grid": [3, 5, 7], "when": {CONDITIONER: "conv"}},
}


def conditional(tmp_path: Path, seeds: int = 1) -> Record:
    """Depths 1 to 4 of an mlp (10 + depth), and of convolutions of kernel 3, 5 and 7 (20 + depth + kernel).

    The configuration of an mlp has a kernel as well, the base's, which nothing reads.
    """
    files = SweepFiles(tmp_path, space=CONDITIONAL, seeds=range(seeds))
    number = 0
    for depth in (1, 2, 3, 4):
        points: list[tuple[dict[str, Any], float]] = [({CONDITIONER: "mlp"}, 10.0 + depth)]
        points += [({CONDITIONER: "conv", KERNEL: kernel}, 20.0 + depth + kernel) for kernel in (3, 5, 7)]
        for point, value in points:
            for seed in range(seeds):
                trial = f"t{number:03d}-s{seed}"
                files.begin(trial, number, {DEPTH: depth, **point}, seed=seed, config={KERNEL: 3})
                files.complete(trial, value + 0.1 * seed, **{"cost/params": 100.0 - value})
            number += 1
    files.begin("c000-s0", 0, {CONDITIONER: "mlp"}, kind="control", label="one layer", config={KERNEL: 3, DEPTH: 1})
    files.complete("c000-s0", 30.0)
    return load([files.path])


def column(table: Any, header: str) -> list[Any]:
    (place,) = [index for index, column in enumerate(table.columns) if column.header == header]
    return [row.cells[place].value for row in table.rows]


def test_an_axis_that_is_not_there_takes_part_in_nothing(tmp_path: Path) -> None:
    record = conditional(tmp_path)
    frame = by_configuration(record)
    assert frame[KERNEL].notna().tolist() == (frame[CONDITIONER] == "conv").tolist()
    assert column(configurations(record, [FD]), "kernel")[:4] == [None] * 4  # those of an mlp are the best
    table = marginal(record, KERNEL)
    # 20 + 2.5 + kernel: without the four mlp, whose 12.5 would have made kernel 3 the best by far.
    assert column(table, "kernel") == ["3", "5", "7"]
    assert column(table, "finished") == [4, 4, 4]
    assert column(table, "mean ↓") == [25.5, 27.5, 29.5]
    assert f"Left out: 4 configurations that have no {KERNEL}, whose condition does not hold there." in table.notes
    assert column(marginal(record, CONDITIONER), "finished") == [4, 12]
    grid = pivot(record, DEPTH, KERNEL)
    assert [column.header for column in grid.columns][1:4] == ["3", "5", "7"]
    assert [cell.value for cell in grid.rows[0].cells[1:4]] == [24.0, 26.0, 28.0]
    assert column(comparisons(record, KERNEL), "kernel") == ["3", "5", "7"]
    both = interaction(record, DEPTH, KERNEL, kind="linear")
    assert "Over 12 configurations" in both.notes[1]
    laws = scaling(record)
    assert {(row.cells[0].value, row.cells[8].value) for row in laws.rows} == {("depth", 16), ("kernel", 12)}
    assert column(front(record), "kernel")[0] is None
    last = importance(record, resamples=2).rows[-1]
    assert last.cells[0].value == "kernel"
    assert all(cell.missing and cell.reason == "not told" for cell in last.cells[1:])
    assert any("(depth 1, conditioner mlp, kernel –)" in text for text in told(parallel_coordinates(record)))


def test_one_change_brings_the_axes_that_depend_on_it(tmp_path: Path) -> None:
    table = one_factor(conditional(tmp_path), base="t000")
    assert "from depth 1, conditioner mlp" in table.title
    assert column(table, "change") == [
        "base: t000", "depth = 2", "depth = 3", "depth = 4",
        *(f"conditioner = conv, kernel = {kernel}" for kernel in (3, 5, 7)), "one layer",
    ]  # fmt: skip


def test_an_axis_that_no_configuration_has_is_refused(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=CONDITIONAL)
    files.begin("t000-s0", 0, {DEPTH: 1, CONDITIONER: "mlp"}, config={KERNEL: 3})
    files.complete("t000-s0", 1.0)
    with pytest.raises(RecordError, match=f"no configuration has {KERNEL}"):
        marginal(load([files.path]), KERNEL)


@pytest.mark.parametrize("reused", [True, False])
def test_a_trial_counts_once_however_often_it_is_drawn(tmp_path: Path, reused: bool) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1), space={DEPTH: {"int": [1, 6]}}, sampler="tpe")
    for number, (depth, values) in enumerate([(1, (10.0, 11.0)), (2, (20.0, 22.0)), (3, (30.0, 33.0))]):
        for seed, value in enumerate(values):
            files.finished(number, {DEPTH: depth}, value, seed=seed)
    before = {name: make(load([files.path])) for name, make in TABLES.items()}
    for number in range(3, 15):
        for seed, value in enumerate((10.0, 11.0)):
            source = {"reused_from": f"demo/t000-s{seed}"} if reused else {}
            trial = f"t{number:03d}-s{seed}"
            files.begin(trial, number, {DEPTH: 1}, seed=seed, config_hash="s00000000000", **source)
            files.complete(trial, value)
    record = load([files.path])
    assert by_configuration(record)["name"].tolist() == ["t000", "t001", "t002"]
    for name, make in TABLES.items():
        assert make(record).rows == before[name].rows
    note = "24 trials repeat points that were drawn before; each point counts once."
    assert note in marginal(record, DEPTH).notes
    assert note in configurations(record).notes


TABLES: dict[str, Any] = {
    "configurations": configurations,
    "marginal": lambda record: marginal(record, DEPTH),
    "comparisons": lambda record: comparisons(record, DEPTH),
    "one_factor": one_factor,
    "scaling": scaling,
}


def test_the_seed_that_finished_counts_whichever_draw_it_was(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1), space={DEPTH: {"int": [1, 6]}})
    files.finished(0, {DEPTH: 1}, 10.0, seed=0)
    files.failed(0, {DEPTH: 1}, "out of memory", seed=1)
    for seed in (0, 1):
        files.begin(f"t001-s{seed}", 1, {DEPTH: 1}, seed=seed, config_hash="s00000000000")
        files.complete(f"t001-s{seed}", 10.0 + seed)
    (row,) = by_configuration(load([files.path])).to_dict("records")
    assert (row["used"], row["state"], row[FD]) == (("t000-s0", "t001-s1"), "finished", 10.5)


def test_a_trial_taken_over_from_another_sweep_of_the_record_counts_there(tmp_path: Path) -> None:
    one, two = (SweepFiles(tmp_path, name, space={DEPTH: {"int": [1, 6]}}) for name in ("one", "two"))
    one.finished(0, {DEPTH: 1}, 10.0)
    one.finished(1, {DEPTH: 1}, 14.0)
    two.begin("t000-s0", 0, {DEPTH: 1}, reused_from="one/t001-s0")
    two.complete("t000-s0", 14.0)
    two.finished(1, {DEPTH: 2}, 9.0)
    table = marginal(load([one.path, two.path]), DEPTH)
    assert column(table, "finished") == [2, 1]
    assert column(table, "mean ↓") == [12.0, 9.0]


@pytest.mark.parametrize(
    ("epochs", "words", "value", "marker"),
    [
        ({0: ("finished", 80), 1: ("stopped", 3), 2: ("finished", 80)}, "2 of 3 finished, 1 stopped @ 3", 11.0, "‡"),
        ({0: ("stopped", 9), 1: ("stopped", 3), 2: ("stopped", 9)}, "stopped @ 3…9", 11.0, "†"),
        ({0: ("stopped", 9), 1: ("stopped", 9), 2: ("stopped", 9)}, "stopped @ 9", 122 / 3, "†"),
        ({0: ("finished", 80), 1: ("failed", 1), 2: ("finished", 80)}, "2 of 3 finished", 11.0, "‡"),
    ],
)
def test_values_of_different_epochs_are_not_told_as_one(
    tmp_path: Path, epochs: dict[int, tuple[str, int]], words: str, value: float, marker: str
) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2), space={DEPTH: {"int": [1, 6]}})
    for seed, (state, epoch) in epochs.items():
        reached = {0: 10.0, 1: 100.0, 2: 12.0}[seed]
        if state == "finished":
            files.finished(0, {DEPTH: 1}, reached, seed=seed)
        elif state == "stopped":
            files.stopped(0, {DEPTH: 1}, reached, epoch=epoch, seed=seed)
        else:
            files.failed(0, {DEPTH: 1}, "out of memory", seed=seed)
    record = load([files.path])
    (row,) = by_configuration(record).to_dict("records")
    assert (row["words"], row[FD]) == (words, pytest.approx(value))
    assert configurations(record).rows[0].marker == marker


def test_a_control_says_how_many_of_its_seeds_have_finished(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2))
    files.finished(0, {DEPTH: 1, RANK: 4, LR: 1e-3}, 1.0)
    files.control(0, "g = identity", {DEPTH: 1, RANK: 4, LR: 1e-3}, 2.0)
    assert column(configurations(load([files.path])), "state") == ["1 of 3 finished", "1 of 3 finished"]


def test_cells_that_could_not_be_tested_are_marked(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2), space={DEPTH: {"grid": [1, 2, 3]}})
    random = np.random.default_rng(0)
    for depth, seeds in ((1, (0, 1, 2)), (2, (0, 1, 2)), (3, (0,))):
        for seed in seeds:
            files.finished(depth, {DEPTH: depth}, 10.0 * depth + random.normal(), seed=seed)
    table = marginal(load([files.path]), DEPTH)
    assert [row.cells[3].marker for row in table.rows] == ["", "", "?"]
    assert "?: not tested, with fewer than two seeds in common." in table.notes


@pytest.mark.parametrize(
    "dimension", [{"float": [0.1, 0.4], "step": 0.1}, {"grid": [0.1, 0.2, 0.3, 0.4]}, {"choice": [0.1, 0.2, 0.3, 0.4]}]
)
def test_listed_values_are_shown_as_listed(tmp_path: Path, dimension: dict[str, Any]) -> None:
    files = SweepFiles(tmp_path, space={LR: dimension})
    for number, value in enumerate((0.1, 0.2, 0.30000000000000004, 0.4, 0.3)):
        files.finished(number, {LR: value}, 1.0)
    table = marginal(load([files.path]), LR)
    assert column(table, "lr") == ["0.1", "0.2", "0.3", "0.4"]
    assert column(table, "finished") == [1, 1, 2, 1]


def test_a_long_list_is_shown_as_listed(tmp_path: Path) -> None:
    listed = [0.5 * place for place in range(1, 13)]
    files = SweepFiles(tmp_path, space={LR: {"grid": listed}})
    for number, value in enumerate(listed):
        files.finished(number, {LR: value}, 1.0)
    assert column(marginal(load([files.path]), LR), "lr") == [f"{value:g}" for value in listed]


def test_an_objective_that_was_searched_the_wrong_way_is_told(tmp_path: Path) -> None:
    key = "quality/ssim_collapsed"
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}}, objective={key: "min"})
    for number, value in enumerate((0.2, 0.9)):
        files.finished(number, {DEPTH: 1 + number}, 1.0, **{key: value})
    said = f"{key} was minimised, although higher is better: the order is that of the search, worst first."
    record = load([files.path])
    assert said in configurations(record).notes
    assert said.removesuffix(".") in summary(record)
    assert not any("is better: the order" in note for note in configurations(conditional(tmp_path / "right")).notes)


def test_a_value_of_training_is_no_end_value(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})
    files.finished(0, {DEPTH: 1}, 10.0)
    files.begin("t001-s0", 1, {DEPTH: 2})
    files.epoch("t001-s0", 5, 3.0)
    files.end("t001-s0")  # and the line of its final metrics was lost
    record = load([files.path])
    assert by_configuration(record)["words"].tolist() == ["finished", "interrupted @ 80"]
    assert summary(record).startswith("Of 1 finished configuration t000 is best")
    assert column(marginal(record, DEPTH), "finished") == [1, 0]


def test_one_trial_of_two_sweeps_counts_once(tmp_path: Path) -> None:
    """Run again with --fresh: the same configuration, seeds and values, and no further observation."""
    for name, depths in (("one", (1, 2, 3)), ("two", (2, 3, 4))):
        files = SweepFiles(tmp_path, name, seeds=(0, 1), space={DEPTH: {"int": [1, 6]}})
        for number, depth in enumerate(depths):
            for seed in (0, 1):
                trial = f"t{number:03d}-s{seed}"
                files.begin(trial, number, {DEPTH: depth}, seed=seed, config_hash=f"s{depth:011d}")
                other = 0.5 if (name, depth, seed) == ("two", 3, 1) else 0.0
                files.complete(trial, 10.0 * depth + seed + other)
    record = load([tmp_path / "one", tmp_path / "two"])
    table = marginal(record, DEPTH)
    assert column(table, "finished") == [1, 1, 2, 1]  # at depth 3 another value: another version, say
    assert "1 configuration of two sweeps counts once: every seed has the same value in both." in table.notes


def test_configurations_of_several_sweeps_are_told_apart(tmp_path: Path) -> None:
    for name, value in (("one", 2.0), ("two", 1.0)):
        files = SweepFiles(tmp_path, name, space={DEPTH: {"int": [1, 6]}})
        for number in (0, 1):
            size = {"cost/params": 10.0 - value - number}
            files.finished(number, {DEPTH: 1 + number}, value + number / 2, **size)
    record = load([tmp_path / "one", tmp_path / "two"])
    assert column(configurations(record), "configuration") == ["two/t000", "two/t001", "one/t000", "one/t001"]
    assert column(configurations(record), "sweep") == ["two", "two", "one", "one"]
    assert "two/t000 is best" in summary(record)
    assert column(front(record), "configuration") == ["two/t000", "two/t001", "one/t001"]
    assert column(one_factor(record, base="one/t000"), "change") == ["base: one/t000", "depth = 2"]
    with pytest.raises(RecordError, match="no configuration 't000'; did you mean"):
        one_factor(record, base="t000")


def test_finished_without_a_finite_value_is_said_as_it_is(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})
    files.finished(0, {DEPTH: 1}, "Infinity")
    said = "no configuration of the search has finished with a finite collapsed classifier FD (1 trial: 1 finished)"
    assert said in summary(load([files.path]))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda record: front(record, {FD: "minimize", "cost/params": "min"}), "must be min or max, got 'minimize'"),
        (lambda record: front(record, reference={FD: float("nan"), "cost/params": 1.0}), "reference must be finite"),
        (lambda record: comparisons(record, DEPTH, DEPTH), f"need two different axes, got '{DEPTH}' twice"),
        (lambda record: interaction(record, DEPTH, KERNEL, kind="cubic"), "categorical or linear, got 'cubic'"),
        (lambda record: importance(record, resamples=0), "resamples must be 1 or more, got 0"),
        (lambda record: configurations(record, ci="boot"), "no way to make intervals 'boot'; did you mean bootstrap"),
        (lambda record: marginal(record, DEPTH, ci="boot"), "no way to make intervals 'boot'"),
        (lambda record: pivot(record, DEPTH, KERNEL, ci="boot"), "no way to make intervals 'boot'"),
        (lambda record: one_factor(record, ci="boot"), "no way to make intervals 'boot'"),
        (lambda record: by_configuration(record, ["serch"]), "no kind of trial 'serch'; did you mean search"),
    ],
)
def test_what_is_asked_in_words_that_nobody_knows_is_refused(tmp_path: Path, ask: Any, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        ask(conditional(tmp_path))


def test_a_single_text_is_one_name(tmp_path: Path) -> None:
    record = conditional(tmp_path)
    assert len(by_configuration(record, "control")) == 1
    once = configurations(record, FD).to_csv()
    assert once == configurations(record, [FD]).to_csv() == configurations(record, [FD, FD]).to_csv()


def test_a_distance_of_few_held_out_images_has_its_caveat(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})
    files.finished(0, {DEPTH: 1}, 12.3)
    said = (
        "classifier_fd: 30 held-out images have a covariance of rank 29 in 64 features: the distance is biased upwards"
    )
    files.sweep["caveats"] = [said, "swd: 12 samples leave a standard error of about 29 %"]
    files.write_sweep()
    record = load([files.path])
    for table in (configurations(record), marginal(record, DEPTH)):
        assert f"{said}." in table.notes
        assert not any(note.startswith("swd") for note in table.notes), "of a metric that is not shown"


def test_a_resumed_trial_ran_when_its_attempts_did(tmp_path: Path) -> None:
    hour = 3600.0
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})
    files.begin("t000-s0", 0, {DEPTH: 1}, time=START)
    files.epoch("t000-s0", 1, 5.0, time=START + hour)
    files.begin("t000-s0", 0, {DEPTH: 1}, attempt=2, resumed_epoch=1, time=START + 10 * hour)
    files.add("t000-s0", "end", time=START + 11 * hour, state="finished", epoch=2, reason=None)
    files.begin("t001-s0", 1, {DEPTH: 2}, time=START)
    files.add("t001-s0", "end", time=START + 2 * hour, state="finished", epoch=1, reason=None)
    files.sweep["ended"] = START + 11 * hour
    files.write_sweep()
    record = load([files.path])
    assert "demo: 3.000 hours in which a trial ran." in cost(record).notes
    assert record.attempts["trial"].tolist() == ["t000-s0", "t000-s0", "t001-s0"]
    assert (record.attempts["started"] - START).tolist() == [0.0, 10 * hour, 0.0]
    # The journals come from the cache now; an exported file does not say when the attempts were.
    assert "demo: 3.000 hours in which a trial ran." in cost(load([files.path])).notes
    exported = load(record.export(tmp_path / "demo.parquet"))
    assert "demo: 2.000 hours in which a trial ran." in cost(exported).notes


def test_what_a_killed_trial_took_was_spent(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})
    files.begin("t000-s0", 0, {DEPTH: 1}, time=START)
    files.epoch("t000-s0", 1, 5.0, time=START + 3600)
    files.begin("t000-s0", 0, {DEPTH: 1}, attempt=2, resumed_epoch=1, time=START + 7200)
    files.epoch("t000-s0", 2, 4.0, time=START + 9000)
    record = load([files.path])
    assert record.runs["state"].tolist() == ["interrupted"]
    spent = cost(record)
    hours, longest = spent.rows[0].cells[3].value, spent.rows[0].cells[5].value
    assert (hours, longest) == (1.5, 1.5), "an hour of the first attempt, and half of one of the second"
    assert "demo: 1.500 hours in which a trial ran." in spent.notes


def test_a_weekend_between_two_launches_is_no_work(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})
    for number, start in enumerate((0.0, 30.0, 2.5e5)):
        files.begin(f"t00{number}-s0", number, {DEPTH: 1}, time=START + start)
        files.add(f"t00{number}-s0", "end", time=START + start + 60, state="finished", epoch=1, reason=None)
    files.sweep["ended"] = START + 2.5e5 + 60
    files.write_sweep()
    # 90 seconds of two at once, and 60 on Monday.
    assert "demo: 0.042 hours in which a trial ran." in cost(load([files.path])).notes
