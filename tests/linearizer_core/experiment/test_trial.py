"""A trial and its command: the record that they write, what goes wrong, and going on after a kill."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import linearizer_core
from linearizer_core.experiment import checkpoint, trial
from linearizer_core.experiment.__main__ import main, read
from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import load
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.journal import Journal, TrialIdentity, state_of
from linearizer_core.experiment.journal import read as events
from linearizer_core.experiment.recipes import RECIPES
from linearizer_core.experiment.state import load_state, save_state
from linearizer_core.experiment.training import Trainer, TrainingDiverged
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.solvers import EULER

ROOT = Path(linearizer_core.__file__).parents[1]
ABSENT = ("ray", "mlflow", "optuna", "pandas", "pydantic", "typer", "rich", "matplotlib", "sweeps", "analysis")
SWD, SAMPLED = "quality/swd_collapsed", "quality/swd_sampled"

VALUES: dict[str, Any] = {
    "recipe": "learned",
    "data": {"images": 256},
    "model": {
        "flow": {"frame": "principal", "depth": 1, "width": 8},
        "noise_flow": "identity",
        "operator": {"rank": 8},
    },
    "train": {"epochs": 5, "batch_size": 64, "lr": "1e-3", "dequantise": 0.05},
    "evaluate": {"steps": [1, 4], "samples": 32, "held_out": 32, "quality": ["swd"], "every": 2, "temperature": 1.0},
    "seed": 3,
}

# Saves its state after every epoch but the third, and dies in the fourth: the journal is then ahead of the state.
KILLED = """
import os, signal, sys
from linearizer_core.experiment import __main__ as cli
from linearizer_core.experiment import trial
from linearizer_core.experiment.training import Trainer
trained, epochs = Trainer.train_epoch, []
trial._Saver.due = property(lambda saver: epochs[-1] != 3)
def train_epoch(trainer):
    result = trained(trainer)
    epochs.append(result.epoch)
    if result.epoch == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
Trainer.train_epoch = train_epoch
sys.exit(cli.main(sys.argv[1:]))
"""


def write(folder: Path, values: object, name: str = "small") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run_process(arguments: list[str], blocked: Path) -> subprocess.CompletedProcess[str]:
    """A Python without any of the libraries that only the sweeps need."""
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n")
    environment = {**os.environ, "PYTHONPATH": f"{blocked}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=blocked, capture_output=True, text=True, check=False
    )


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """A file system with no room for a state."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def journal_of(out: Path) -> Path:
    (path,) = (out / "journal").glob("*.jsonl")
    return path


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The record of a run that was killed and started again, and what the second start said."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = [str(write(folder, VALUES)), "--out", str(folder / "runs"), "--device", "cpu"]
    killed = run_process(["-c", KILLED, *arguments], folder / "blocked")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = state_of(journal_of(folder / "runs"))
    assert (found.state, found.epoch) == (None, 3)
    saved = sorted(path.name.partition(".")[2] for path in (folder / "runs" / "training").iterdir())
    assert saved == ["before.pt", "pt"]
    return folder / "runs", run_process(["-m", "linearizer_core.experiment", *arguments], folder / "blocked")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of the same run without a break, in this process."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert main([str(write(folder, VALUES)), "--out", str(folder / "runs"), "--device", "cpu"]) == 0
    return folder / "runs"


Resumed = tuple[Path, subprocess.CompletedProcess[str]]


def test_the_command_needs_none_of_the_sweeps_libraries(resumed: Resumed) -> None:
    out, done = resumed
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert str(journal_of(out)) in lines[0]
    assert [line.split()[1] for line in lines[1:]] == ["4/5", "5/5"]
    assert all("swd_collapsed" in line for line in lines[1:])


def documented() -> dict[str, set[str]]:
    """The fields of each event by docs/record.md."""
    text = (ROOT / "docs" / "record.md").read_text().partition("## A journal")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    return {event: set(re.findall(r"`([a-z_]+)`", cell)) | {"event", "time"} for event, cell in rows}


def test_a_journal_has_the_documented_fields(resumed: Resumed) -> None:
    lines = [json.loads(line) for line in journal_of(resumed[0]).read_text().splitlines()]
    fields = documented()
    assert {line["event"] for line in lines} == set(fields) - {"warning"}
    assert fields["warning"] == {"event", "time", "message"}
    for line in lines:
        assert set(line) == fields[line["event"]], line["event"]


def test_a_journal_says_what_was_done(resumed: Resumed) -> None:
    found = list(events(journal_of(resumed[0])))
    kinds = [event["event"] for event in found if event["event"] != "saved"]
    first = ["trial", *["epoch"] * 3]
    assert kinds[:4] == first
    assert kinds[4:8] == first
    assert kinds[8:] == [*["artifact"] * (kinds.count("artifact")), *["curve"] * 3, "summary", "end"]
    assert [event["epoch"] for event in found if event["event"] == "epoch"] == [1, 2, 3, 3, 4, 5]
    starts = [event for event in found if event["event"] == "trial"]
    assert [(start["attempt"], start["resumed_epoch"]) for start in starts] == [(1, 0), (2, 2)]
    for start in starts:
        assert start["config"]["train"]["lr"] == 1e-3
        assert start["config"]["model"]["flow"]["frame"] == "principal"
        assert (start["sweep"], start["seed"], start["kind"]) == ("small", 3, "search")
        assert start["provenance"]["data_checksum"] == load(DataConfig(images=256)).checksum
    assert (found[-1]["state"], found[-1]["reason"], found[-1]["epoch"]) == ("finished", None, 5)
    evaluated = {event["epoch"] for event in found if event["event"] == "epoch" and SWD in event["metrics"]}
    assert evaluated == {2, 4}


def trained(event: dict[str, Any]) -> dict[str, float]:
    """An epoch's metrics without what its process took of the machine."""
    return {key: value for key, value in event["metrics"].items() if not key.startswith("system/")}


def measured(out: Path) -> list[Any]:
    """What a journal has in the end, without times and costs: metrics of each epoch, curves and final metrics."""
    epochs: dict[int, dict[str, float]] = {}
    rest: list[Any] = []
    for event in events(journal_of(out)):
        if event["event"] == "epoch":
            epochs[event["epoch"]] = trained(event)
        elif event["event"] == "curve":
            rest.append((event["metric"], event["steps"], event["values"]))
        elif event["event"] == "summary":
            rest.append({key: value for key, value in event["metrics"].items() if not key.startswith("cost/")})
    return [epochs, *rest]


def test_a_killed_run_comes_to_what_an_unbroken_one_does(resumed: Resumed, unbroken: Path) -> None:
    assert journal_of(resumed[0]).name == journal_of(unbroken).name
    found = measured(resumed[0])
    assert found == measured(unbroken)
    assert found[0].keys() == {1, 2, 3, 4, 5}
    third = [trained(event) for event in events(journal_of(resumed[0])) if event.get("epoch") == 3]
    assert third[0] == third[1]


def test_the_summary_has_the_familys_keys_and_costs(unbroken: Path) -> None:
    (summary,) = (event["metrics"] for event in events(journal_of(unbroken)) if event["event"] == "summary")
    config = read(unbroken.parent / "small.yaml")
    expected = family_of(config).summary_keys(config)
    assert sorted(summary) == sorted([*expected, "cost/train_seconds", "cost/evaluate_seconds"])
    assert summary["cost/train_seconds"] > 0


def test_artifacts_are_there(unbroken: Path) -> None:
    (folder,) = (unbroken / "artifacts").iterdir()
    named = [event["path"] for event in events(journal_of(unbroken)) if event["event"] == "artifact"]
    assert {path.name for path in folder.iterdir()} == set(named)
    assert {"checkpoint", "curves.csv", "spectra.csv", "samples_collapsed.png", "samples_reconstruction.png"} <= set(
        named
    )
    model, config = checkpoint.load(folder / "checkpoint")
    assert isinstance(model, LinearDiffusion)
    assert config == read(unbroken.parent / "small.yaml")
    rows = csv.DictReader((folder / "spectra.csv").read_text().splitlines())
    collapsed = [float(row["singular_value"]) for row in rows if row["operator"] == "collapsed"]
    # Up to rounding: on some processors a product depends on where its operands lie in memory.
    assert collapsed == pytest.approx(model.collapse(4, EULER).singular_values().tolist(), rel=1e-5)
    assert list((unbroken / "training").glob("*")) == []


def test_a_run_on_other_images_is_not_taken_for_this_one(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same configuration, with other images behind it: as when the folder of the data has changed."""
    shutil.copytree(unbroken, tmp_path / "runs")
    path = journal_of(tmp_path / "runs")
    checksum = next(events(path))["provenance"]["data_checksum"]
    path.write_text(path.read_text().replace(checksum, "0" * 64))
    before = path.read_bytes()
    arguments = [str(unbroken.parent / "small.yaml"), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    assert main(arguments) == 2
    said = f"{path} belongs to a run on different images (their checksums differ); choose another --out\n"
    assert capsys.readouterr() == ("", said)
    assert path.read_bytes() == before


def test_a_finished_run_is_not_repeated(unbroken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = journal_of(unbroken).read_bytes()
    assert main([str(unbroken.parent / "small.yaml"), "--out", str(unbroken), "--device", "cpu"]) == 0
    assert "has finished already" in capsys.readouterr().out
    assert journal_of(unbroken).read_bytes() == before


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"sed": 1}, "TrialConfig has no field sed"),
        ({"train": {"lr": 2.0}}, "TrainConfig.lr cannot be 2.0"),
        ({"train": {"lr": "fast"}}, "TrainConfig.lr cannot be 'fast'"),
        ({"model": {"operator": {"rank": 65}}}, "model.operator.rank: rank 65 exceeds"),
        ({"family": "style", "recipe": "paper", "model": {"operator": {"kind": "diagonal"}}}, "recipe: style has no"),
        ({"data": {"name": "npz", "root": "/nowhere.npz"}}, "/nowhere.npz is not a file"),
        ({"data": {"images": 100000}}, "data.images = 100000 exceeds the 1079"),
        ([1, 2], "must be a mapping"),
        ("text", "must be a mapping"),
        (None, "must be a mapping"),
    ],
)
def test_wrong_input_is_refused_by_file_and_key(
    values: object, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, values)
    assert main([str(path), "--out", str(tmp_path / "runs"), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"{path}: ")
    assert key in line
    assert not (tmp_path / "runs").exists()


def test_all_that_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, {"train": {"batch_size": 5000, "epochs": 1}, "evaluate": {"every": 2}})
    assert main([str(path), "--device", "cpu"]) == 2
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "train.batch_size",
        "evaluate.every",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"a: [1", "not valid YAML"), (b"\xff\xfe\xff", "can't decode")],
)
def test_files_that_cannot_be_read(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "there.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert said in error


def test_a_device_that_is_not_there_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write(tmp_path, {})), "--device", "abacus"]) == 2
    assert "abacus" in capsys.readouterr().err


def test_overrides_go_before_the_file_and_its_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, VALUES)
    config = read(path, ["train.lr=1e-4", "evaluate.steps=[2]", "model.flow.coupling=spline", "train.loss.flow=2"])
    assert config.train.lr == 1e-4
    assert config.train.loss.flow == 2
    assert config.train.batch_size == 64
    assert config.evaluate.steps == (2,)
    assert (config.model.flow.coupling, config.model.flow.depth) == ("spline", 1)
    paper = read(path, ["recipe=paper", "model.flow.depth=2", "seed=4"])
    assert (paper.model.flow.conditioner, paper.model.flow.depth, paper.seed) == ("unet", 2, 4)
    assert paper.train.loss.endpoint == RECIPES["diffusion", "paper"]["train"]["loss"]["endpoint"]
    assert yaml.safe_load(path.read_text()) == VALUES


@pytest.mark.parametrize("override", ["train.lr", "=3", "", "nothing=1", "train.lr.deeper=1", "train.lr="])
def test_overrides_that_make_no_sense(override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write(tmp_path, VALUES)), "--set", override, "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'small.yaml'}: ")


SMALL = TrialConfig(
    data=DataConfig(images=128),
    model=ModelConfig(flow=FlowConfig(depth=1, width=8)),
    train=TrainConfig(epochs=3, batch_size=64),
    evaluate=EvaluateConfig(steps=(1, 2), samples=16, held_out=16, quality=("swd",)),
)
WHO = TrialIdentity("demo", "t000-s0", "search", None, 0, "0123456789ab", 0)


@pytest.fixture
def files(tmp_path: Path) -> trial.TrialFiles:
    return trial.TrialFiles(
        tmp_path / "journal" / "a.jsonl", tmp_path / "artifacts", tmp_path / "training" / "a.pt", tmp_path / "cache"
    )


def test_a_trial_yields_every_evaluated_epoch_and_its_end(files: trial.TrialFiles) -> None:
    results = list(trial.run(SMALL, WHO, files, {"git": None}, "cpu"))
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result.keys() for result in results[:2]] == [{"epoch", SWD, SAMPLED}] * 2
    assert results[2]["state"] == "finished"
    found = state_of(files.journal)
    assert found.metrics == {key: value for key, value in results[2].items() if key not in ("epoch", "state")}
    assert found.rungs == {result["epoch"]: {SWD: result[SWD], SAMPLED: result[SWD]} for result in results[:2]}


def test_interim_values_are_those_of_the_averaged_model(files: trial.TrialFiles) -> None:
    trainer = Trainer(SMALL, load(SMALL.data))
    quality = trial.Quality(("swd",), load(SMALL.data), None, "cpu")
    for result in list(trial.run(SMALL, WHO, files, {}, "cpu"))[:2]:
        trainer.train_epoch()
        assert result[SWD] == trainer.family.interim(trainer.averaged, SMALL, load(SMALL.data), quality)[SWD]


def diverge(epoch: int) -> Callable[[Trainer], Any]:
    """Training that breaks the weights at the end of an epoch, so that samples are not finite."""
    trained = Trainer.train_epoch

    def train_epoch(trainer: Trainer) -> Any:
        result = trained(trainer)
        if result.epoch == epoch:
            with torch.no_grad():
                next(trainer.averaged.parameters()).fill_(float("nan"))
        return result

    return train_epoch


@pytest.mark.parametrize("epoch", [2, 3])
def test_samples_that_are_not_finite_are_a_failure(
    epoch: int, files: trial.TrialFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During training and at its end."""
    monkeypatch.setattr(Trainer, "train_epoch", diverge(epoch))
    results = list(trial.run(SMALL, WHO, files, {}, "cpu", save_seconds=-1.0))
    assert (results[-1]["state"], results[-1]["epoch"]) == ("failed", epoch)
    found = state_of(files.journal)
    assert (found.state, found.epoch) == ("failed", epoch)
    assert found.reason is not None
    assert found.reason.startswith("diverged: ")
    assert list(files.state.parent.iterdir()) == []


def test_divergence_is_a_failure_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverges(trainer: Trainer) -> None:
        raise TrainingDiverged("not finite in epoch 1: train/loss")

    monkeypatch.setattr(Trainer, "train_epoch", diverges)
    assert main([str(write(tmp_path, VALUES)), "--out", str(tmp_path / "runs"), "--device", "cpu"]) == 1
    assert "not finite in epoch 1: train/loss" in capsys.readouterr().out
    found = state_of(journal_of(tmp_path / "runs"))
    assert (found.state, found.reason) == ("failed", "diverged: not finite in epoch 1: train/loss")


def test_another_error_ends_the_journal_and_is_raised(files: trial.TrialFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(trainer: Trainer) -> None:
        raise MemoryError("no more\n  memory")

    monkeypatch.setattr(Trainer, "train_epoch", breaks)
    with pytest.raises(MemoryError):
        list(trial.run(SMALL, WHO, files, {}, "cpu"))
    found = state_of(files.journal)
    assert (found.state, found.reason, found.epoch) == ("interrupted", "MemoryError: no more memory", 0)


def test_the_state_is_saved_as_often_as_it_says(files: trial.TrialFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the seconds have gone by at the end of an epoch, the last one's included: evaluation may be long."""
    saved: list[int] = []
    monkeypatch.setattr(trial, "save_state", lambda path, state: saved.append(state["trainer"]["epoch"]))
    list(trial.run(SMALL, WHO, files, {}, "cpu", save_seconds=3600.0))
    assert saved == []
    list(trial.run(SMALL, WHO, another(files, "b"), {}, "cpu", save_seconds=-1.0))
    assert saved == [1, 2, 3]


def another(files: trial.TrialFiles, name: str) -> trial.TrialFiles:
    """The files of a trial beside another one."""
    journal, saved = files.journal.with_name(f"{name}.jsonl"), files.state.with_name(f"{name}.pt")
    return dataclasses.replace(files, journal=journal, state=saved, artifacts=files.artifacts / name)


def summary_of(files: trial.TrialFiles) -> dict[str, float]:
    return {key: value for key, value in state_of(files.journal).metrics.items() if not key.startswith("cost/")}


def test_a_trial_stops_on_request_and_goes_on_where_it_stopped(files: trial.TrialFiles) -> None:
    answers = iter([False, True])
    first = list(trial.run(SMALL, WHO, files, {}, "cpu", stop=answers.__next__))
    assert first[-1] == {"epoch": 2, "state": "interrupted"}
    assert list(answers) == []
    found = state_of(files.journal)
    assert (found.state, found.reason, found.epoch) == ("interrupted", "stopped on request", 2)
    # At the last epoch it is asked before the evaluation, and again by whoever goes on from there.
    for _ in range(2):
        assert list(trial.run(SMALL, WHO, files, {}, "cpu", stop=lambda: True)) == [
            {"epoch": 3, "state": "interrupted"}
        ]
    (last,) = trial.run(SMALL, WHO, files, {}, "cpu")
    assert (last["epoch"], last["state"]) == (3, "finished")
    starts = [event["resumed_epoch"] for event in events(files.journal) if event["event"] == "trial"]
    assert starts == [0, 2, 3, 3]
    unbroken = another(files, "unbroken")
    list(trial.run(SMALL, WHO, unbroken, {}, "cpu"))
    assert summary_of(files) == summary_of(unbroken)
    assert list(files.state.parent.iterdir()) == []


def test_the_time_of_training_is_that_of_all_attempts(files: trial.TrialFiles) -> None:
    stopped = iter([True])
    list(trial.run(SMALL, WHO, files, {}, "cpu", stop=stopped.__next__))
    saved = load_state(files.state).state
    assert saved is not None
    save_state(files.state, saved | {"seconds": saved["seconds"] + 1000.0})
    (*_, last) = trial.run(SMALL, WHO, files, {}, "cpu")
    assert 1000 < last["cost/train_seconds"] < 2000
    assert last["cost/evaluate_seconds"] < 1000


def warnings_of(files: trial.TrialFiles) -> list[str]:
    return [event["message"] for event in events(files.journal) if event["event"] == "warning"]


@pytest.mark.parametrize(("damaged", "resumed"), [(1, 1), (2, 0)])
def test_a_damaged_state_gives_way_to_the_one_before_and_that_to_a_fresh_start(
    damaged: int, resumed: int, files: trial.TrialFiles
) -> None:
    answers = iter([False, True])
    list(trial.run(SMALL, WHO, files, {}, "cpu", stop=answers.__next__, save_seconds=-1.0))
    newest_first = sorted(files.state.parent.iterdir(), key=lambda path: len(path.name))
    assert [path.name for path in newest_first] == ["a.pt", "a.before.pt"]
    for path in newest_first[:damaged]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    list(trial.run(SMALL, WHO, files, {}, "cpu"))
    assert [event["resumed_epoch"] for event in events(files.journal) if event["event"] == "trial"] == [0, resumed]
    said = warnings_of(files)
    assert len(said) == damaged
    for message, path in zip(said, newest_first, strict=False):
        assert message.startswith(f"a saved state could not be read, and training goes on from epoch {resumed}: ")
        assert path.name in message
    unbroken = another(files, "unbroken")
    list(trial.run(SMALL, WHO, unbroken, {}, "cpu"))
    assert summary_of(files) == summary_of(unbroken)


def test_a_full_disk_is_no_end_of_a_trial(files: trial.TrialFiles, tmp_path: Path) -> None:
    with full_disk(tmp_path / "full") as folder:
        full = dataclasses.replace(files, state=folder / "a.pt")
        results = list(trial.run(SMALL, WHO, full, {}, "cpu", save_seconds=-1.0))
        assert results[-1]["state"] == "finished"
        assert list(folder.iterdir()) == []
    (said,) = warnings_of(files)  # once for all epochs
    assert said.startswith("the state of the training could not be saved: ")
    assert "No space left on device" in said


def test_a_journal_goes_on_behind_a_half_line(files: trial.TrialFiles) -> None:
    Journal(files.journal).trial(WHO, {}, {})
    with files.journal.open("a") as file:
        file.write('{"event": "epo')
    list(trial.run(SMALL, WHO, files, {}, "cpu"))
    assert [event["attempt"] for event in events(files.journal) if event["event"] == "trial"] == [1, 2]
    assert state_of(files.journal).state == "finished"
