"""Several processes that train one trial: they come to what one comes to, and none waits for one that is gone."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import linearizer_core
from linearizer_core.experiment import trial
from linearizer_core.experiment.data import load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.journal import read as events
from linearizer_core.experiment.training import Trainer
from linearizer_core.experiment.workers import ALONE, WorkerError, Workers, joined, present

ROOT = Path(linearizer_core.__file__).parents[1]
SCRIPT = Path(__file__).with_name("worker_process.py")
PROCESS: dict[str, Any] = runpy.run_path(str(SCRIPT))
CASES: dict[str, Callable[[Workers, Path], Any]] = PROCESS["CASES"]
NAMES = list(PROCESS["TRAINED"])
FAMILIES = list(PROCESS["TRIALS"])

Found = dict[str, list[Any]]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def together(count: int, folder: Path, *names: str) -> Found:
    """What each of ``count`` processes found in each case; all must have ended well."""
    command = [sys.executable, str(SCRIPT)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(count), str(folder), *names],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [process.communicate(timeout=500)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.returncode for process in started]
    assert codes == [0] + [3 if "dies" in names else 0] * (count - 1), said
    return {
        name: [torch.load(path, weights_only=False) for path in sorted(folder.glob(f"{name}-?.pt"))] for name in names
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Path]:
    """What two workers found, one case after the other, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    return together(2, folder, *CASES), folder


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What four workers found."""
    return together(4, tmp_path_factory.mktemp("four"), "curves")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What this process finds alone, and its folder."""
    folder = tmp_path_factory.mktemp("one")
    return {name: CASES[name](ALONE, folder) for name in ("curves", "trials")}, folder


Several = tuple[Found, Path]
One = tuple[dict[str, Any], Path]


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_train_what_one_does(name: str, one: One, two: Several) -> None:
    """In double precision: every term of every epoch, and the weights that come of them."""
    check_training(one[0]["curves"][name], [each[name] for each in two[0]["curves"]])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_four_workers_train_what_one_does(name: str, one: One, four: Found) -> None:
    check_training(one[0]["curves"][name], [each[name] for each in four["curves"]])


def check_training(alone: dict[str, Any], shared: list[dict[str, Any]]) -> None:
    for each in shared:
        assert each["digest"] == shared[0]["digest"]
        assert each["metrics"] == shared[0]["metrics"]
    for found, expected in zip(shared[0]["metrics"], alone["metrics"], strict=True):
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert shared[0]["weights"].keys() == alone["weights"].keys()
    for name, value in alone["weights"].items():
        # Adam divides by the size of a gradient, and so keeps the rounding of one that is almost 0.
        torch.testing.assert_close(shared[0]["weights"][name], value, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trial_of_two_workers_has_the_journal_of_one(family: str, one: One, two: Several) -> None:
    alone, shared = (list(events(folder / "journal" / f"{family}.jsonl")) for folder in (one[1], two[1]))
    assert [event["event"] for event in shared] == [event["event"] for event in alone]
    for found, expected in zip(shared, alone, strict=True):
        assert found.keys() == expected.keys()
        check_event(found, expected)
    artifacts = [sorted(path.name for path in (folder / "artifacts" / family).iterdir()) for folder in (one[1], two[1])]
    assert artifacts[0] == artifacts[1]


def check_event(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for field in found.keys() - {"time", "metrics", "values"}:
        assert found[field] == expected[field]
    if "values" in found:
        assert found["values"] == pytest.approx(expected["values"], rel=1e-2)
    if "metrics" in found:
        assert found["metrics"].keys() == expected["metrics"].keys()
        for key, value in expected["metrics"].items():
            # Residuals are rounding errors themselves, Lipschitz constants are of single points, and the gradient's
            # norm is what is left of larger numbers: float32 rounds them; check_training has float64.
            rel = 0.02 if key.startswith(("linearity/", "train/gradient_norm")) else 1e-3
            if not key.startswith(("cost/", "system/")):
                assert float(found["metrics"][key]) == pytest.approx(float(value), rel=rel, abs=1e-4, nan_ok=True), key


@pytest.mark.parametrize("family", FAMILIES)
def test_all_workers_yield_the_same(family: str, two: Several) -> None:
    first, second = (each[family] for each in two[0]["trials"])
    assert len(first) == len(second) == 3
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert b[key] == value or math.isnan(value), key
    assert first[-1]["state"] == "finished"


def test_a_stopped_trial_goes_on_with_two_workers(two: Several) -> None:
    found, folder = two
    first, second = found["resume"]
    assert [(each["epoch"], each.get("state")) for each in first] == [
        (1, None),
        (1, "interrupted"),
        (2, None),
        (3, "interrupted"),
        (3, "finished"),
    ]
    assert [{**each} for each in first[:-1]] == second[:-1]
    unbroken = found["trials"][0]["diffusion"][-1]
    assert {k: v for k, v in first[-1].items() if not k.startswith("cost/")} == {
        k: v for k, v in unbroken.items() if not k.startswith("cost/")
    }
    starts = [e["resumed_epoch"] for e in events(folder / "journal" / "resumed.jsonl") if e["event"] == "trial"]
    assert starts == [0, 1, 3]
    assert list((folder / "training").iterdir()) == []


def test_numbers_lost_on_one_worker_end_the_trial_on_all(two: Several) -> None:
    found, folder = two
    first, second = found["diverged"]
    assert first == second
    assert first["losses"][-1] == {
        "epoch": 1,
        "state": "failed",
        "reason": "in epoch 2: an inverse of worker 1 is lost",
    }
    assert re.match(r"in epoch \d+: recomputation needs inverses accurate", first["recomputed"][0])
    (end,) = (event for event in events(folder / "journal" / "lost.jsonl") if event["event"] == "end")
    assert (end["state"], end["reason"]) == ("failed", "diverged: in epoch 2: an inverse of worker 1 is lost")


def test_another_error_of_one_worker_is_told_to_all(two: Several) -> None:
    found, folder = two
    assert found["raises"] == ["RuntimeError", "MemoryError"]
    (end,) = (event for event in events(folder / "journal" / "raises.jsonl") if event["event"] == "end")
    assert end["state"] == "interrupted"


def test_workers_leave_one_that_does_not_come_and_one_that_died(two: Several) -> None:
    found, _ = two
    assert found["late"] == ["RuntimeError", "did not come"]
    assert found["dies"] == ["RuntimeError"]


def test_many_rows_are_divided_among_workers(two: Several) -> None:
    found, _ = two
    batch = PROCESS["BATCH"]
    rows = torch.arange(3 * batch + 5.0)
    seen = []
    for each in found["shares"]:
        assert torch.equal(each["whole"], 2 * rows)
        assert torch.equal(each["few"], torch.zeros(1))
        assert each["timed"]
        assert each["present"]
        seen.append(each["seen"])
    shares = [(len(rows) * (rank + 1)) // 2 - len(rows) * rank // 2 for rank in range(2)]
    expected = [[batch, share - batch] for share in shares]
    assert seen == [[*each, 1, *each] for each in expected]  # the single row is everyone's
    first, second = found["shares"]
    assert first["lost"] == second["lost"] == "ArithmeticError: the last row"
    assert (first["failed"], second["failed"]) == ("WorkerError: worker 1: MemoryError: the last row",
                                                   "MemoryError: the last row")  # fmt: skip


def test_one_worker_meets_nobody() -> None:
    with joined(ALONE, None, "cpu", 1.0) as workers:
        assert workers == present() == ALONE
        assert workers.leads
        assert workers.led(lambda: 3) == workers.together(lambda: 3) == workers.agreed(3) == 3
        rows = torch.arange(4.0)
        assert all(torch.equal(each(rows), rows) for each in (workers.rows, workers.whole, workers.total))
    with pytest.raises(ValueError, match="rank 2 is not one of 2 workers"):
        Workers(2, 2)


def test_a_trial_is_run_by_the_workers_that_are_joined(tmp_path: Path) -> None:
    case = PROCESS["TRIALS"]["style"]
    files = PROCESS["files"](tmp_path, "a")
    with pytest.raises(ValueError, match="this process is joined as"):
        next(iter(trial.run(case, PROCESS["WHO"], files, {}, "cpu", workers=Workers(0, 2))))
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    case = PROCESS["TRAINED"]["style"]
    with pytest.raises(ValueError, match=r"train\.batch_size: 16 images cannot be divided equally among 3 workers"):
        Trainer(case, load(case.data), "cpu", Workers(0, 3))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_workers_draw_together_what_one_draws(count: int) -> None:
    def draws(rank: int, of: int) -> Draws:
        return Draws(torch.Generator().manual_seed(5), Workers(rank, of))

    whole = draws(0, 1)
    like = torch.arange(24, dtype=torch.float64).view(8, 3)
    expected = [whole.normal(like), whole.uniform(like), whole.permutation(like)]
    for rank in range(count):
        mine, part = draws(rank, count), like[: 8 // count]
        assert torch.equal(mine.normal(part), expected[0][rank::count])
        assert torch.equal(mine.uniform(part), expected[1][rank::count])
        assert torch.equal(mine.permutation(part), expected[2])
        index = torch.tensor([6, 1, 4, 3])
        assert torch.equal(Workers(rank, count).rows(like)[Workers(rank, count).own(index)],
                           like[[i for i in index.tolist() if i % count == rank]])  # fmt: skip


def test_errors_say_what_they_are() -> None:
    assert issubclass(WorkerError, RuntimeError)  # which is another attempt's business, unlike lost numbers
    assert not issubclass(WorkerError, ArithmeticError)


@pytest.mark.slow
@pytest.mark.long
def test_torchrun_trains_one_configuration_by_two_processes(tmp_path: Path) -> None:
    values = {
        "data": {"images": 256},
        "model": {"flow": {"depth": 1, "width": 8}, "operator": {"rank": 8}},
        "train": {"epochs": 2, "batch_size": 64},
        "evaluate": {"steps": [1, 4], "samples": 32, "held_out": 32, "quality": ["swd"], "every": 1},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    arguments = ["-m", "linearizer_core.experiment", str(path), "--device", "cpu", "--out"]
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    commands = {"two": [*starter, *arguments, "two"], "one": [*arguments, "one"]}
    said, metrics = {}, {}
    for name, command in commands.items():
        done = subprocess.run(
            [sys.executable, *command], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout.splitlines()
        (journal,) = (tmp_path / name / "journal").iterdir()
        metrics[name] = [
            {key: value for key, value in event["metrics"].items() if key.startswith("train/")}
            for event in events(journal)
            if event["event"] == "epoch"
        ]
    assert len(said["two"]) == len(said["one"]) == 3
    assert ", 2 workers, " in said["two"][0]
    for two_workers, alone in zip(metrics["two"], metrics["one"], strict=True):
        assert two_workers == pytest.approx(alone, rel=1e-4)
    wrong = dataclasses.asdict(PROCESS["FEW"])
    path.write_text(yaml.safe_dump({"data": wrong, "train": {"batch_size": 63}}))
    done = subprocess.run(
        [sys.executable, *starter, *arguments, "two"], env=environment(), cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("train.batch_size: 63 images cannot be divided equally among 2 workers") == 1
