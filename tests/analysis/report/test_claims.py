"""What the report's first sentence claims of rank and depth, and what a control forbids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import Configurations, Record, load
from analysis.report.claims import claim
from analysis.report.list_of_figures import list_of_figures
from analysis.report.list_of_tables import ablation_tables
from analysis.report.summary import summary
from analysis.report.write import write_report
from tests.analysis.operators import control, measured, operators, write
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles


def first_of(record: Record) -> str:
    said = claim(Configurations.of(record)).removesuffix(".")
    assert f" {said}. Of " in summary(record)  # behind what is known
    return said


OF_RANK = (
    "The rank of A affects classifier FD on test (at temperature 1 rank 8 has 22 ± 2.7, rank 1 has 44 ± 2.7, rank 64 "
    "has 33 ± 2.7): its operators beat every control, the closest (a flat spectrum) by 1.80 ± 0.25 times"
)
OF_DEPTH = (
    "The depth of g affects collapsed classifier FD (depth 4 has 9 ± 0, depth 2 has 19 ± 0), while g beats its "
    "controls, the closest (g = identity) by 5.00 ± 0.00 times"
)


def test_rank_and_depth_are_claimed_where_their_controls_are_beaten(tmp_path: Path) -> None:
    assert first_of(load([operators(tmp_path).path])) == f"{OF_RANK}. {OF_DEPTH}"


@pytest.mark.parametrize(
    ("flat", "said"),
    [
        ((1.0, 1.02, 1.04), "a flat spectrum does as well (1.02 ± 0.05 times), so the spectrum of A does "
         "not matter here"),
        ((1.2, 1.3, 1.4), "a flat spectrum is less than 1.5 times worse (1.30 ± 0.25 times)"),
        ((0.79, 0.8, 0.81), "a flat spectrum does better (0.80 ± 0.02 times), so the spectrum of A does "
         "not matter here"),
        ((1.0, 1.8, 3.0), "a flat spectrum is not clearly worse (1.9 ± 2.5 times)"),
    ],
)  # fmt: skip
def test_a_control_that_is_not_beaten_forbids_the_claim_of_rank(
    tmp_path: Path, flat: tuple[float, ...], said: str
) -> None:
    first = first_of(load([operators(tmp_path, flat=flat).path]))
    assert first == f"Nothing is claimed about the rank of A: {said}. {OF_DEPTH}"


def test_all_that_is_not_beaten_is_named(tmp_path: Path) -> None:
    first = first_of(load([operators(tmp_path, flat=(1.0, 1.02, 1.04), others=1.25, identity=()).path]))
    assert first.startswith("Nothing is claimed about the rank of A: a flat spectrum does as well (1.02 ± 0.05 times)")
    assert ", random directions are less than 1.5 times worse (1.25 ± 0.00 times), others' operators are " in first
    assert ", and the means alone are less than 1.5 times worse (1.25 ± 0.00 times). Nothing is claimed about" in first


def test_one_seed_forbids_every_claim(tmp_path: Path) -> None:
    assert first_of(load([operators(tmp_path, seeds=(1,), flat=(1.8,)).path])) == (
        "Nothing is claimed about the rank of A: one seed is not enough to compare its controls (the closest, a flat "
        "spectrum, is 1.8 times worse). Nothing is claimed about the depth of g: one seed is not enough to compare its "
        "controls (the closest, g = identity, is 5 times worse)"
    )


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        ((), "Nothing is claimed about the depth of g: no control of g was recorded"),
        ((11.0, 9.0, 10.0), "Nothing is claimed about the depth of g: g = identity does as well (1.00 ± 0.25 times)"),
    ],
)
def test_depth_is_claimed_by_controls_of_g_alone(tmp_path: Path, identity: Any, said: str) -> None:
    assert first_of(load([operators(tmp_path, identity=identity).path])) == f"{OF_RANK}. {said}"


def test_a_control_of_the_operators_in_the_spec_counts_and_another_model_does_not(tmp_path: Path) -> None:
    files = operators(tmp_path)
    for seed in (0, 1, 2):
        control(files, "flow matching", {"family": "flow_matching"}, seed, 5.0, 1)
    assert first_of(load([files.path])) == f"{OF_RANK}. {OF_DEPTH}"
    for seed in (0, 1, 2):
        control(files, "trained with means alone", {"model.operator.rank": 0}, seed, 10.0 + (seed - 1), 2)
    assert first_of(load([files.path])) == (
        "Nothing is claimed about the rank of A: trained with means alone does as well (1.00 ± 0.25 times). " + OF_DEPTH
    )


def test_a_rank_that_is_no_better_than_all_is_not_said_to_decide(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={RANK: {"grid": [8]}}, seeds=(0, 1))
    for seed in (0, 1):
        files.begin(f"t000-s{seed}", 0, {RANK: 8}, seed=seed)
        curve = {8: 20.0, 64: 19.0 + 4 * seed}  # 22, and 20.9 and 25.3, on test
        write(files, f"t000-s{seed}", *measured(10.0, {"flat": 2.0}, curve=curve))
    assert first_of(load([files.path])) == (
        "No rank of A is shown to be better by classifier FD on test (at temperature 1 rank 8 has 22 ± 0, rank 64 "
        "has 23.1 ± 28), while its operators beat every control, the closest (a flat spectrum) by 2.00 ± 0.00 times"
    )


def test_the_loss_of_recall_stands_beside_the_distance(tmp_path: Path) -> None:
    text = summary(load([operators(tmp_path).path]))
    assert (
        "collapsed classifier FD = 9 ± 0 (precision 0.950 ± 0; recall 0.700 ± 0, 0.2 below real images'; "
        "mean of 3 seeds" in text
    )
    assert "it has 10 ± 0 (precision 0.950 ± 0; recall 0.700 ± 0, 0.22 below real images')" in text
    assert "real against real has 1." in text


def test_a_rank_that_was_searched_without_a_control_says_so(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={RANK: {"grid": [4, 8]}})
    files.finished(0, {RANK: 4}, 2.0)
    files.finished(1, {RANK: 8}, 1.0)
    assert summary(load([files.path])).endswith("(one seed); the next best, t000, has 2; no control was recorded.")
    files.control(0, "g = identity", {DEPTH: 1}, 9.0)
    assert summary(load([files.path])).endswith("g = identity has 9.")


def test_tables_figures_and_the_page_have_them(tmp_path: Path) -> None:
    files = operators(tmp_path)
    record = load([files.path])
    tables = {table.name: table for table in ablation_tables(record).made}
    assert list(tables) == ["configurations", "marginal-depth", "ranks", "controls"]
    note = "worse t000 gets by collapsed classifier FD on test with a control: a flat spectrum 1.80 ± 0.25, random"
    assert note in tables["configurations"].to_markdown()
    assert note not in tables["marginal-depth"].to_markdown()  # one table says it
    assert [column.key for column in tables["configurations"].columns][-2:] == [
        "test/precision_collapsed", "test/recall_collapsed",
    ]  # fmt: skip
    assert "ranks" in [figure.name for figure in list_of_figures(record).made]
    page = write_report([files.path]).files[0].read_text()
    assert f" {OF_RANK}" in page
    assert "of the controls, on the test split" in page
    assert 'id="figure-ranks"' in page
