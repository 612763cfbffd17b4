"""The report's first sentences: what is known, what is undecided, and what is beaten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import Configurations, Record, load
from analysis.report.known import known
from tests.analysis.operators import operators
from tests.analysis.record_factory import DEPTH, FD, SweepFiles

FITTED = "Gaussian fitted to the training pixels"


def searched(
    tmp_path: Path, means: list[float], noise: float, seeds: int = 5, labels: dict[str, str] | None = None
) -> Record:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 9]}}, seeds=range(seeds))
    files.sweep["spec"]["labels"] = labels or {}
    files.write_sweep()
    random = np.random.default_rng(0)
    for number, mean in enumerate(means):
        for seed in range(seeds):
            files.finished(number, {DEPTH: 1 + number}, mean + noise * float(random.normal()), seed=seed)
    for number, (name, value) in enumerate({"real against real": 1.0, FITTED: 40.0, "noise": 90.0}.items()):
        files.reference(number, name, value)
    return load([files.path])


def said(record: Record) -> str:
    return known(Configurations(record))


def test_what_is_known_says_by_how_much_with_its_interval(tmp_path: Path) -> None:
    text = said(searched(tmp_path, [10.0, 20.0, 30.0], 0.1))
    assert text.startswith(
        "The best configuration, t000, is better than all 2 others, than the closest of them, t001, by 10."
    )
    assert "± 0." in text
    assert "of collapsed classifier FD (95 % interval for all pairs at once)" in text
    assert text.endswith(f". t000 beats the {FITTED} and noise.")


def test_what_is_undecided_says_how_many_seeds_would_decide(tmp_path: Path) -> None:
    text = said(searched(tmp_path, [10.0, 10.5, 60.0], 1.0))
    assert "is better than t00" in text
    assert ". The comparison with t00" in text
    assert " is undecided, and " in text
    assert " seeds would decide it if the differences are as estimated" in text


def test_nothing_is_known_of_one_seed(tmp_path: Path) -> None:
    text = said(searched(tmp_path, [10.0, 20.0, 30.0], 0.1, seeds=1))
    assert text.startswith(
        "t000 has the best value, but without two or more seeds per configuration we cannot say that it is better than "
        "the 2 others"
    )


def test_a_reference_is_beaten_beyond_the_interval_alone(tmp_path: Path) -> None:
    assert said(searched(tmp_path / "near", [39.5, 80.0], 2.0)).endswith(
        f"t000 beats noise and is not shown to differ from the {FITTED}."
    )
    assert said(searched(tmp_path / "worse", [60.0, 80.0], 0.5)).endswith(
        f"t000 beats noise and does not beat the {FITTED}."
    )


@pytest.mark.parametrize(
    ("flat", "end"),
    [
        ((1.8, 1.9, 2.0), "t000 beats every control."),
        ((1.0, 1.02, 1.04), "t000 does not beat 1 of 7 controls (a flat spectrum)."),
    ],
)
def test_controls_that_are_not_beaten_are_named(tmp_path: Path, flat: tuple[float, ...], end: str) -> None:
    assert said(load([operators(tmp_path, flat=flat).path])).endswith(end)


def test_labels_of_a_spec_are_in_the_sentence(tmp_path: Path) -> None:
    record = searched(tmp_path, [10.0, 20.0, 30.0], 0.1, labels={FD: "our distance"})
    assert " of our distance (95 % interval" in said(record)
