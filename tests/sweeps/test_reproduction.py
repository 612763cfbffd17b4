"""A trial that is run again: what differs of its origin, and of each of its metrics."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import linsweep as ls
from linearizer_core.experiment.journal import state_of
from sweeps.record.paths import SweepPaths
from sweeps.reproduction import _verdict
from tests.sweeps.offline import offline

Cli = Callable[..., int]
RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"

TINY = """
name: tiny
data: {name: digits, images: 128}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 2, batch_size: 64}
evaluate: {steps: [1, 2], quality: [swd], every: 1, samples: 64, held_out: 64, ranks: [4]}
search:
  sampler: grid
  space: {model.flow.depth: {grid: [1]}}
  objective: {quality/swd_collapsed: min}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with the sweep ``tiny``, which this code has carried out."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "tiny.yaml").write_text(TINY)
    with offline(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ls.launch("tiny.yaml", debug=True)
    return folder / "runs"


@pytest.fixture
def runs(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of ``tiny`` and of the sweeps that an earlier version recorded."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    shutil.copytree(recorded / "tiny", tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def edit(runs: Path, change: Callable[[dict[str, Any]], None], sweep: str = "tiny") -> None:
    """Change every event of the journal of t000-s0."""
    path = SweepPaths(runs / sweep).journal("t000-s0")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        change(event)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_the_same_code_gives_the_same_digits(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {path: path.read_bytes() for path in sorted((runs / "tiny").rglob("*")) if path.is_file()}
    threads = torch.get_num_threads()
    assert run_cli("reproduce", "tiny/t000-s0") == 0
    out = capsys.readouterr().out
    assert "commit, packages, data, machine and processes have not changed" in out
    assert "tiny/t000-s0 agrees with its record; the new record is in reproduced/tiny" in out
    assert "different" not in out
    then, now = (state_of(SweepPaths(Path(folder) / "tiny").journal("t000-s0")) for folder in ("runs", "reproduced"))
    assert now.state == "finished"
    judged = [key for key in then.metrics if not key.startswith("cost/")]
    assert len(judged) > 10
    assert {key: now.metrics[key] for key in judged} == {key: then.metrics[key] for key in judged}
    # Nothing of the record has changed, nor of the process.
    assert {path: path.read_bytes() for path in sorted((runs / "tiny").rglob("*")) if path.is_file()} == record
    assert torch.get_num_threads() == threads


def test_numbers_that_differ_are_named(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["event"] == "summary":
            event["metrics"]["quality/swd_collapsed"] *= 1.01
            event["metrics"]["test/gone"] = 1.0

    edit(runs, change)
    assert run_cli("reproduce", "tiny/t000-s0") == 1
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert rows["quality/swd_collapsed"].split()[-2:] == ["-1.0%", "different"]
    assert rows["test/gone"].rstrip().endswith("not measured now")
    assert "tiny/t000-s0 differs from its record" in out


def test_the_origin_that_differs_is_named(runs: Path) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["event"] == "trial":
            event["provenance"] |= {"git": {"commit": "c" * 40, "dirty": True}, "data_checksum": "d" * 64}
            event["provenance"]["packages"] |= {"torch": "1.0.0", "lost": "2"}
            event["provenance"]["processes"] = {"workers": 4, "threads": 1, "gpu": True}

    edit(runs, change)
    made = ls.reproduce("tiny/t000-s0")
    found = {each.what: (each.then, each.now) for each in made.origin}
    assert found["commit"][0] == "c" * 12
    assert found["torch"] == ("1.0.0", torch.__version__.partition("+")[0])
    assert found["lost"] == ("2", "not installed")
    assert found["data checksum"][0] == "d" * 12
    assert found["workers"] == ("4", "1")
    assert made.agrees  # whatever it is, the numbers are the same


def test_a_trial_of_an_earlier_version_and_one_that_was_stopped(runs: Path) -> None:
    made = ls.reproduce("before/t001-s0")
    assert made.state == "finished"
    assert "commit" in [each.what for each in made.origin]
    swd = next(each for each in made.metrics if each.key == "quality/swd_collapsed")
    assert swd.verdict in ("same", "close")
    stopped = ls.reproduce("before/t002-s0")
    assert stopped.state == "stopped"
    assert [(each.key, each.verdict in ("same", "close")) for each in stopped.metrics if each.then is not None] == [
        ("quality/swd_collapsed", True)
    ]
    assert stopped.agrees
    # Up to the epoch at which it was stopped, and no further.
    assert state_of(SweepPaths(stopped.folder).journal("t002-s0")).epoch == 2


def test_one_that_diverges_now_says_so(
    run_cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["event"] == "trial":
            event["config"]["train"] |= {"lr": 1.0, "clip": 1e9, "warmup": 0.0, "epochs": 40}

    edit(runs, change)
    assert run_cli("reproduce", "tiny/t000-s0") == 1
    assert "this time it ended as failed: diverged: " in capsys.readouterr().out


def test_it_is_run_from_its_beginning_each_time(runs: Path) -> None:
    first = ls.reproduce("tiny/t000-s0")
    again = ls.reproduce("tiny/t000-s0")
    assert first.metrics[0].key == again.metrics[0].key
    assert len(state_of(SweepPaths(again.folder).journal("t000-s0")).attempts) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["before/r000"], "before/r000: is not a trial of a model, so there is nothing to train again"),
        (["cut/t001-s1"], "cut/t001-s1: has no result to compare with: it is not ended"),
        (["before/t000-s0", "--out", "runs"], "--out: runs/before is the record of a sweep; choose another folder"),
    ],
)
def test_what_cannot_be_reproduced(
    run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run_cli("reproduce", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{said}\n"
    assert not Path("reproduced").exists()


def test_data_that_are_elsewhere_are_said_to_be(runs: Path) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["event"] == "trial":
            event["config"]["data"] |= {"name": "mnist", "root": "/gone"}

    edit(runs, change)
    with pytest.raises(ls.LinsweepError, match=r"tiny/t000-s0: data: .*/gone.*; give their folder with --data-root"):
        ls.reproduce("tiny/t000-s0")
    with pytest.raises(ls.LinsweepError, match=r"elsewhere.*--data-root"):
        ls.reproduce("tiny/t000-s0", data_root="elsewhere")


@pytest.mark.parametrize(
    ("key", "then", "now", "verdict"),
    [
        ("quality/swd_collapsed", 0.25, 0.25, "same"),
        ("quality/swd_collapsed", 0.25, 0.2501, "close"),
        ("quality/swd_collapsed", 0.25, 0.26, "different"),
        ("quality/swd_collapsed", math.nan, math.nan, "same"),
        ("quality/swd_collapsed", 0.25, None, "missing"),
        ("quality/swd_sampled", None, 0.25, "new"),
        ("linearity/additivity", 6e-7, 9e-7, "close"),
        ("linearity/inversion_psnr", 102.0, 99.0, "close"),
        ("quality/reconstruction_psnr", 31.0, 30.0, "different"),
        ("cost/train_seconds", 1.0, 7.0, "time"),
        ("cost/params", 100.0, 200.0, "different"),
    ],
)
def test_when_two_values_are_called_different(key: str, then: float | None, now: float | None, verdict: str) -> None:
    assert _verdict(key, then, now) == verdict
