"""Longer training is not compared with shorter unasked."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analysis import (
    RecordError,
    by_configuration,
    load,
    marginal,
    pivot,
    write_report,
)
from analysis.tables.pairs import comparisons
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles, frame_of, point
from tests.analysis.tables.ablations import cells_of


def test_what_cannot_be_compared_for_one_reason_is_told_once(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.stopped(0, point(1), 5.0)
    for number in range(1, 8):
        files.finished(number, point(number % 6 + 1), 1.0 + number)
    told = write_report([files.path]).refused
    (unequal,) = (reason for reason in told if "with 7 that finished" in reason)
    assert unequal.startswith("demo: not shown, since this would compare 1 trial that was stopped early with 7 that ")
    assert "a model of " in unequal
    assert "the expected best " in unequal
    assert unequal.endswith(". Compare trials that were trained equally, or pass --unequal")


def test_early_stopped_trials_are_not_compared_with_finished_ones_unasked(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(2, 8), 10.0)
    files.stopped(1, point(3, 8), 4.0)
    record = load([files.path])
    table = pivot(record, DEPTH, RANK)
    cells = cells_of(table)
    assert (cells["2 8"].value, cells["2 8"].bold) == (10.0, True)
    assert (cells["3 8"].value, cells["3 8"].reason) == (None, "stopped @ 20")
    assert (
        "Left out of means: 1 configuration that was stopped early. Cells with many of these look better than they are."
        in table.notes
    )
    cells = cells_of(pivot(record, DEPTH, RANK, unequal=True))
    assert (cells["3 8"].value, cells["3 8"].marker, cells["3 8"].bold) == (4.0, "†", False)
    assert cells["2 8"].bold
    assert frame_of(marginal(record, DEPTH))[FD].tolist() == pytest.approx([10.0, math.nan], nan_ok=True)


def test_what_early_stopping_left_of_a_cell_is_not_tested_nor_taken_for_the_best(tmp_path: Path) -> None:
    """Of depth 3 the worse half was stopped: its mean is the lowest, and says less than that of depth 2."""
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [2, 3, 4]}, RANK: {"grid": [8]}, LR: {"grid": [1, 2, 3, 4]}})
    for number in range(4):
        files.finished(number, {DEPTH: 2, RANK: 8, LR: number}, 10.0 + number)
        files.finished(8 + number, {DEPTH: 4, RANK: 8, LR: number}, 30.0 + 2 * number)
        where = {DEPTH: 3, RANK: 8, LR: number}
        if number < 2:
            files.finished(4 + number, where, 8.0 + number)
        else:
            files.stopped(4 + number, where, 90.0)
    record = load([files.path])
    table = pivot(record, "depth", "rank")
    cells = cells_of(table)
    assert (cells["3 8"].value, cells["3 8"].incomplete, cells["3 8"].marker) == (8.5, "2/4", "‡")
    assert cells["2 8"].bold
    assert not cells["3 8"].bold
    assert cells["4 8"].marker == ""  # told from the best
    assert any(note.startswith("‡: those stopped early are left out") for note in table.notes)
    # The best was chosen among two: one pair, and not three.
    tested = comparisons(record, "depth", "rank")
    assert "corrected for 1 comparison," in tested.to_markdown()
    assert any("or with some stopped early (‡)" in note for note in tested.notes)
    frame = frame_of(tested).set_index("model.flow.depth")
    assert frame["verdict"].fillna("").to_dict() == {2: "", 3: "not tested", 4: "different"}


def test_what_is_left_of_seeds_is_marked_as_well(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2), space={DEPTH: {"grid": [2, 3]}, RANK: {"grid": [8]}})
    for seed in range(3):
        files.finished(0, {DEPTH: 2, RANK: 8}, 10.0 + seed, seed=seed)
        if seed:
            files.finished(1, {DEPTH: 3, RANK: 8}, 5.0 + seed, seed=seed)
    files.stopped(1, {DEPTH: 3, RANK: 8}, 90.0)
    cells = cells_of(pivot(load([files.path]), "depth", "rank"))
    assert (cells["3 8"].value, cells["3 8"].incomplete, cells["3 8"].marker) == (6.5, "2/3", "‡")
    assert cells["2 8"].bold


def test_a_stopped_configuration_has_the_value_of_the_seed_that_was_stopped(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for seed in (0, 1):
        files.finished(0, point(2, 8), 10.0 + seed, seed=seed)
    files.stopped(1, point(3, 8), 4.0, epoch=2)
    files.begin("t001-s1", 1, point(3, 8), seed=1)
    files.epoch("t001-s1", 5, 1.0)
    files.end("t001-s1", "interrupted", 5)
    record = load([files.path])
    stopped = by_configuration(record, ["search"]).iloc[1]
    assert (stopped["state"], stopped["used"], stopped[FD]) == ("stopped", ("t001-s0",), 4.0)
    cell = cells_of(pivot(record, DEPTH, RANK, unequal=True))["3 8"]
    assert (cell.value, cell.count, cell.marker) == (4.0, 1, "†")


@pytest.mark.parametrize(
    ("overrides", "epochs", "words"),
    [
        ({}, 40, "1 trial of 80 epochs of the data in batches of 128; 1 trial of 40 epochs"),
        ({"train.batch_size": 64}, 80, "1 trial of 80 epochs of the data in batches of 64"),
        ({"train.steps": 10}, 80, "1 trial of 800 steps"),
    ],
)
def test_longer_training_is_not_compared_with_shorter_unasked(
    tmp_path: Path, overrides: dict[str, int], epochs: int, words: str
) -> None:
    files = SweepFiles(tmp_path)
    files.sweep["spec"]["train"] = {"batch_size": 128, "steps": 0}
    files.write_sweep()
    files.finished(0, point(2, 8), 10.0)
    files.begin("t001-s0", 1, {**point(3, 8), **overrides})
    files.add("t001-s0", "summary", metrics={FD: 12.0})
    files.end("t001-s0", epoch=epochs)
    record = load([files.path])
    with pytest.raises(RecordError, match="unequal training") as caught:
        pivot(record, DEPTH, RANK)
    assert words in str(caught.value)
    with pytest.raises(RecordError, match="unequal training"):
        marginal(record, DEPTH)
    assert cells_of(pivot(record, DEPTH, RANK, unequal=True))["3 8"].value == 12.0


def test_batches_that_a_recipe_brings_count_as_training(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"grid": [2, 3]}, "recipe": {"choice": ["paper", "default"]}})
    for number, (depth, recipe, batch) in enumerate([(2, "paper", 64), (3, "paper", 64), (2, "default", 128)]):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, {DEPTH: depth, "recipe": recipe}, config={"train.batch_size": batch})
        files.complete(trial, 1.0 + number)
    record = load([files.path])
    with pytest.raises(RecordError, match=r"2 trials of 80 epochs of the data in batches of 64; 1 trial .* of 128"):
        pivot(record, DEPTH, "recipe")


def test_equal_steps_an_epoch_make_batches_of_any_size_equal(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, (steps, epoch) in enumerate([(100, 10), (50, 20)]):
        files.begin(f"t{number:03d}-s0", number, {**point(number + 1), "train.steps": steps})
        files.add(f"t{number:03d}-s0", "summary", metrics={FD: 1.0})
        files.end(f"t{number:03d}-s0", epoch=epoch)
    assert len(pivot(load([files.path]), DEPTH, RANK).rows) == 2
