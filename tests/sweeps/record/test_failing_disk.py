"""Whatever write of a small sweep fails, one line says so, and what is resumed comes to what an undisturbed sweep does.

Each operation on a file fails once, or arrives by half, or finds the disk full from there on.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend, JournalStorage

import analysis
from linearizer_core.experiment.families import Diffusion
from linearizer_core.metrics.features import checksum
from sweeps.record import ledger
from tests.failing_disk import SHORT, Disk, Operation
from tests.sweeps.offline import offline

Cli = Callable[..., int]
Capture = pytest.CaptureFixture[str]

SPEC = """
name: small
recipe: learned
data: {name: digits, images: 128}
model: {flow: {depth: 1, width: 4}, operator: {rank: 2}}
train: {epochs: 2, batch_size: 64}
evaluate: {steps: [1], quality: [swd], every: 1, samples: 32, held_out: 32}
search:
  sampler: random
  trials: 2
  space: {train.lr: {float: [1.0e-3, 1.0e-2], log: true}}
  objective: {quality/swd_collapsed: min}
resources: {checkpoint_seconds: 0}
storage: runs
"""

FOLDER = Path("runs/small")
TIMES = (
    "started",
    "ended",
    "seconds",
    "attempt",
    "warnings",
    "cost/train_seconds",
    "cost/evaluate_seconds",
    "cost/sample_ms",
)
"""Of the columns: what depends on the clock, and on how often a trial was tried."""

FULL = -2
"""A fault of an operation, and of every write after it."""

FAULTS = {"no space": errno.ENOSPC, "an error": errno.EIO, "by half": SHORT, "full": FULL}
ONCE = ("no space", "an error", "by half")
LASTING = ("write", "fsync", "replace")
"""Operations that bring something to the disk; others make room for them."""

WORDS = r"(?:No space left on device|Input/output error)"
LINE = re.compile(rf"(?:launch|small\.yaml): .*runs/small\S*.* ?{WORDS}\n")
SAID = re.compile(WORDS)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "small.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    with offline():
        yield


@pytest.fixture(autouse=True)
def _ledger_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a launch begins and ends, and not by the clock: operations are counted."""
    monkeypatch.setattr(ledger, "PERIOD", math.inf)


@pytest.fixture(autouse=True)
def _measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights measure the same: that is looked up, as hundreds of trials are carried out here."""
    for name in ("interim", "evaluate", "references"):
        monkeypatch.setattr(Diffusion, name, _remembered(getattr(Diffusion, name)))


def _remembered(measure: Callable[..., Any]) -> Callable[..., Any]:
    def call(family: Diffusion, first: Any, *rest: Any) -> Any:
        key = measure.__name__, checksum(first) if isinstance(first, torch.nn.Module) else ""
        if key not in MEASURED:
            MEASURED[key] = measure(family, first, *rest)
        return MEASURED[key]

    return call


MEASURED: dict[tuple[str, str], Any] = {}


@dataclass
class Faulty:
    """Decides that operation ``number`` of the sweep, from 1, has a fault; ``done`` are all so far."""

    number: int = 0
    fault: int = 0
    counts: Callable[[Operation], bool] = lambda operation: not _of_the_study(operation)
    done: list[Operation] = field(default_factory=list)

    def __call__(self, operation: Operation) -> int | None:
        if not self.counts(operation):
            return None
        self.done.append(operation)
        if self.fault == FULL:
            hit = operation.what == "write" and len(self.done) >= self.number
            return errno.ENOSPC if hit else None
        return self.fault if len(self.done) == self.number else None


def _of_the_study(operation: Operation) -> bool:
    """Its copy is written by a thread of its own, whose turns are not the same each time."""
    return Path(operation.path).name.startswith("study.log")


@dataclass(frozen=True)
class Launched:
    """A launch on a disk that fails: its exit code and what it printed, and what the fault hit."""

    code: int
    out: str
    err: str
    hit: Operation | None


def launched(run: Cli, capsys: Capture, faulty: Faulty) -> Launched:
    capsys.readouterr()
    with Disk(Path("runs"), faulty).installed():
        code = run("launch", "small.yaml", "--debug")
    said = capsys.readouterr()
    hit = faulty.done[faulty.number - 1] if 0 < faulty.number <= len(faulty.done) else None
    return Launched(code, said.out, said.err, hit)


def resumed(run: Cli, capsys: Capture) -> None:
    """Go on without faults: by ``resume``, or where nothing was recorded yet by another launch."""
    words = ["resume", "small"] if (FOLDER / "sweep.json").exists() else ["launch", "small.yaml"]
    code = run(*words, "--debug")
    said = capsys.readouterr()
    assert (code, said.err) == (0, ""), said


def came_to(folder: Path) -> dict[str, Any]:
    """Everything that a sweep has come to, but for times: table, curves, and files by their bytes or their names."""
    record = analysis.load(folder)
    runs = record.runs[[name for name in record.runs if not name.startswith(TIMES)]]
    curves = record.curves[~record.curves["metric"].astype(str).str.startswith("system/")]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "cache.parquet")
    return {
        "sweep": (record.sweeps[0].state, record.sweeps[0].best),
        "table": runs.to_csv(),
        "curves": curves.to_csv(),
        "files": [str(path.relative_to(folder)) for path in files],
        "artifacts": {str(path): path.read_bytes() for path in files if "artifacts" in path.parts},
        "ends": {path.stem: path.read_text().count('"state": "finished"') for path in folder.glob("journal/*.jsonl")},
    }


@pytest.fixture
def undisturbed(run_cli: Cli, capsys: Capture) -> Faulty:
    """What the sweep does to files, and in ``MEASURED`` what its models measure; its folder is gone."""
    faulty = Faulty()
    assert launched(run_cli, capsys, faulty).code == 0
    assert set(came_to(FOLDER)["ends"].values()) == {1}
    Path("runs").rename("undisturbed")
    return faulty


def check(run: Cli, capsys: Capture, number: int, fault: str) -> None:
    """The sweep with a fault, and what ``resume`` makes of it."""
    launch = launched(run, capsys, Faulty(number, FAULTS[fault]))
    about = f"{fault} at {number}, {launch.hit}: {launch}"
    assert launch.hit is not None, about
    if launch.code:
        assert launch.code in (1, 2), about
        assert LINE.fullmatch(launch.err), about
    else:
        assert launch.err == "", about
    resumed(run, capsys)
    found, expected = came_to(FOLDER), came_to(Path("undisturbed/small"))
    found["artifacts"] = {name.replace("runs", "undisturbed"): value for name, value in found["artifacts"].items()}
    assert [key for key in expected if found[key] != expected[key]] == [], about
    # What did not end the launch is in its output, or in the table.
    told = launch.code or SAID.search(launch.out) or analysis.load(FOLDER).runs["warnings"].str.contains(WORDS).any()
    assert told or launch.hit.what not in LASTING, about
    shutil.rmtree("runs")


def spread(done: list[Operation]) -> list[int]:
    """The last operation of each kind on each kind of file, by its number."""
    kinds = {}
    for number, operation in enumerate(done, 1):
        name = re.sub(r"\.[0-9a-f]{12}\.part$", "", Path(operation.path).name).replace("t001", "t000")
        kind = Path(name).suffix if name.startswith((".samples", "samples")) else name
        if operation.what in LASTING and "r00" not in operation.path.replace("r000.jsonl", ""):
            kinds[operation.what, kind, Path(operation.path).parent.name.replace("t001", "t000")] = number
    return sorted(kinds.values())


def test_what_brings_something_to_the_disk_fails_once(run_cli: Cli, capsys: Capture, undisturbed: Faulty) -> None:
    numbers = spread(undisturbed.done)
    assert len(numbers) > 20
    for place, number in enumerate(numbers):
        check(run_cli, capsys, number, ONCE[place % len(ONCE)])


def test_the_disk_is_full_from_some_write_on(run_cli: Cli, capsys: Capture, undisturbed: Faulty) -> None:
    writes = [number for number, operation in enumerate(undisturbed.done, 1) if operation.what == "write"]
    for number in writes[:: len(writes) // 8]:
        check(run_cli, capsys, number, "full")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", ONCE)
def test_every_operation_fails_once(run_cli: Cli, capsys: Capture, undisturbed: Faulty, fault: str) -> None:
    for number in range(1, len(undisturbed.done) + 1):
        check(run_cli, capsys, number, fault)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_trial_does_not_fail_for_a_disk_that_takes_no_results(
    run_cli: Cli, capsys: Capture, undisturbed: Faulty, code: int
) -> None:
    """Journals can be written, and so could a failure: it would be none of the trial's."""

    def refuses(operation: Operation) -> int | None:
        return code if operation.what == "write" and "artifacts/t000" in operation.path else None

    with Disk(Path("runs"), refuses).installed():
        assert run_cli("launch", "small.yaml", "--debug") == 130
    said = capsys.readouterr()
    assert said.err == ""
    assert f"small interrupted ({os.strerror(code)}: '" in said.out
    assert "To continue: linsweep resume small --debug\n" in said.out
    resumed(run_cli, capsys)
    assert came_to(FOLDER)["table"] == came_to(Path("undisturbed/small"))["table"]


@pytest.mark.parametrize(("number", "fault"), [(1, "no space"), (2, "an error"), (3, "by half"), (6, "an error")])
def test_the_copy_of_the_study_fails_and_the_next_launch_makes_it_anew(
    run_cli: Cli, capsys: Capture, number: int, fault: str
) -> None:
    def written(operation: Operation) -> bool:
        return _of_the_study(operation) and operation.what in LASTING

    launch = launched(run_cli, capsys, Faulty(number, FAULTS[fault], written))
    assert launch.hit is not None
    told = "the copy of the study is not complete: " in launch.out or launch.err.startswith("small: search.storage: ")
    assert told, launch
    resumed(run_cli, capsys)
    storage = JournalStorage(JournalFileBackend(str(FOLDER / "study.log")))
    study = optuna.load_study(study_name="small", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_what_was_being_written_when_a_launch_was_killed_is_removed(run_cli: Cli, capsys: Capture) -> None:
    """By ``resume``, and nothing that is called otherwise."""
    assert run_cli("launch", "small.yaml", "--debug") == 0
    left = [f"{place}.0123456789ab.part" for place in (".sweep.json", "artifacts/t000-s0/.curves.csv")]
    left += [
        "journal/.t001-s0.jsonl.0123456789ab.part",
        "training/.t000-s0.pt.0123456789ab.part",
        "training/t001-s0.pt",
    ]
    left += ["study.log.lock", "study.log.lock0a1b.rename"]
    kept = [".mine.part", "notes.part", "artifacts/.ours.0123.part"]
    (FOLDER / "training").mkdir(exist_ok=True)
    for name in (*left, *kept):
        (FOLDER / name).write_text("half")
    assert run_cli("resume", "small", "--debug") == 0
    assert [name for name in left if (FOLDER / name).exists()] == []
    assert [name for name in kept if not (FOLDER / name).exists()] == []
