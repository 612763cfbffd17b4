"""The checks of a record: each passes and fails where it should, on records that are made for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import RecordError, health, load
from tests.analysis.record_factory import DEPTH, FD, RANK, SweepFiles, frame_of, point

ERROR = "quality/classifier_fd_error"


def found_in(files: SweepFiles) -> dict[str, list[tuple[str, str]]]:
    """By check its verdicts, with what was found."""
    frame = frame_of(health(load([files.path])))
    told: dict[str, list[tuple[str, str]]] = {}
    for name, verdict, found in zip(frame["check"], frame["verdict"], frame["found"], strict=True):
        told.setdefault(name, []).append((verdict, found))
    return told


def searched(path: Path, best: tuple[int, int], spread: float, noise: float, seeds: int = 2) -> SweepFiles:
    """Forty-two configurations, worse by ``spread`` a step from ``best``; seeds are off by up to ``noise``."""
    files = SweepFiles(path, space={DEPTH: {"int": [1, 6]}, RANK: {"int": [4, 10]}}, seeds=range(seeds))
    generator = np.random.default_rng(0)
    number = 0
    for depth in range(1, 7):
        for rank in range(4, 11):
            steps = abs(depth - best[0]) + abs(rank - best[1])
            for seed in range(seeds):
                value = 10 + spread * steps + noise * generator.standard_normal()
                files.finished(number, point(depth, rank), value, seed=seed, **{ERROR: 0.5})
            number += 1
    return files


def test_a_sweep_that_tells_something(tmp_path: Path) -> None:
    files = searched(tmp_path, (3, 7), spread=5.0, noise=0.1)
    files.reference(0, "real against real", 1.0)
    files.reference(1, "Gaussian fitted to the training pixels", 90.0)
    found = found_in(files)
    passed = {name for name, told in found.items() if [verdict for verdict, _ in told] == ["PASS"]}
    assert passed == {
        "edge of the space", "references", "objective", "axes", "seeds", "noise of the metric", "failures",
    }  # fmt: skip
    assert found["controls"] == [("WARN", "none was recorded")]
    assert "Gaussian fitted to the training pixels: 90" in found["references"][0][1]


def test_a_function_is_told_of_no_operator(tmp_path: Path) -> None:
    """What is swept need not be a Linearizer: g and A mean nothing then."""
    for name, spec, control in (
        ("model", {}, "g = identity"),
        ("own", {"function": "./objective.py:train"}, "without"),
    ):
        files = SweepFiles(tmp_path, name, space={DEPTH: {"grid": [1, 2]}})
        files.sweep["spec"] |= spec
        files.write_sweep()
        files.finished(0, point(1, 4), 10.0)
        frame = frame_of(health(load([files.path]))).set_index("check")
        assert control in frame.loc["controls", "remedy"]
        assert ("A = c·P" in frame.loc["controls", "remedy"]) == (name == "model")


def test_a_sweep_of_chance(tmp_path: Path) -> None:
    """Seeds that differ by far more than configurations: nothing is predicted, and the best is best by chance."""
    files = searched(tmp_path, (3, 7), spread=0.0, noise=0.4)
    files.reference(1, "noise", 5.0)
    found = found_in(files)
    assert [verdict for verdict, _ in found["objective"]] == ["WARN"]
    assert [verdict for verdict, _ in found["seeds"]] == ["WARN"]
    assert [verdict for verdict, _ in found["noise of the metric"]] == ["WARN"]
    assert "± 0.98" in found["noise of the metric"][0][1]  # 1.96 × 0.5
    assert found["references"][0][0] == "FAIL"


def test_the_edge_is_named_with_its_range(tmp_path: Path) -> None:
    found = found_in(searched(tmp_path, (6, 5), spread=5.0, noise=0.1))
    assert found["edge of the space"] == [("WARN", "the best lies at depth = 6 of 1 … 6")]


def test_the_edge_of_a_logarithmic_range_is_a_share_of_its_logarithm(tmp_path: Path) -> None:
    space = {"train.lr": {"float": [1e-4, 1e-2], "log": True}, DEPTH: {"int": [1, 4]}}
    for lr, verdict in ((1.2e-4, "WARN"), (1.5e-4, "PASS"), (5e-3, "PASS"), (9e-3, "WARN")):
        files = SweepFiles(tmp_path / f"{lr}", space=space)
        files.finished(0, {"train.lr": lr, DEPTH: 2}, 1.0)
        assert found_in(files)["edge of the space"][0][0] == verdict, lr


def test_one_seed_and_many_failures(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=[0])
    for number in range(4):
        files.finished(number, point(2, 4 + number), 1.0 + number)
    files.failed(4, point(3, 4), "out of memory")
    found = found_in(files)
    assert found["seeds"] == [("WARN", "one seed per configuration: no interval and no test")]
    assert found["failures"] == [("WARN", "1 of 5 trials failed")]


@pytest.mark.parametrize(("ends", "verdict"), [([5, 4, 3, 2, 1, 0], "WARN"), ([0, 1, 2, 3, 4, 5], "PASS")])
def test_early_stopping_that_ranks_otherwise(tmp_path: Path, ends: list[int], verdict: str) -> None:
    files = SweepFiles(tmp_path)
    files.sweep["spec"]["search"]["stop_early"] = {"scheduler": "asha", "grace_epochs": 2, "reduction": 2}
    files.write_sweep()
    for number, end in enumerate(ends):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, point(2, 4 + number))
        files.epoch(trial, 2, float(number))
        files.complete(trial, float(end))
    assert found_in(files)["early stopping"][0][0] == verdict


def test_a_record_without_a_value_says_so(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.failed(0, point(2, 4), "out of memory")
    with pytest.raises(RecordError, match=FD):
        health(load([files.path]))


def test_unequal_training_is_judged_on_request(tmp_path: Path) -> None:
    files = searched(tmp_path, (3, 7), spread=5.0, noise=0.1, seeds=1)
    files.stopped(99, point(1, 4), 30.0)
    refused, judged = (frame_of(health(load([files.path]), unequal=unequal)) for unequal in (False, True))
    assert "axes" not in list(refused["check"])
    assert "axes" in list(judged["check"])
    note = next(note for note in health(load([files.path])).notes if note.startswith("axes"))
    assert note.endswith("or pass --unequal.")
