"""A record that an earlier version wrote: every command prints and writes the same of it, and goes on with it.

``tests/records/b428e36`` holds what that version recorded, and under ``expected`` what its commands made of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from linearizer_core.experiment.journal import TrialState, state_of
from tests.sweeps.offline import offline

Cli = Callable[..., int]
Store = Any
ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "records" / "b428e36"
EXPECTED = RECORDED / "expected"
SWD = "quality/swd_collapsed"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the storage folder, in the folder that commands run in."""
    shutil.copytree(RECORDED / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "runs"


def without_padding(text: str) -> list[str]:
    """The lines as they are seen: a terminal fills them up."""
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "before"], "status_before.txt"),
        (["status", "cut"], "status_cut.txt"),
        (["compare", "before/t000-s0", "before/t001-s0"], "compare_trials.txt"),
        (["compare", "before", "cut"], "compare_before_cut.txt"),
    ],
)
def test_the_commands_print_the_same(
    run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert run_cli(*arguments) == 0
    printed = capsys.readouterr()
    assert without_padding(printed.out) == without_padding((EXPECTED / expected).read_text())
    assert printed.err == ""


def test_the_tables_are_the_same(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("table", "before") == 0
    assert without_padding(capsys.readouterr().out) == without_padding((EXPECTED / "table_before.txt").read_text())
    assert_same_files(EXPECTED / "tables", runs / "before" / "tables")


def test_the_appendix_is_the_same(run_cli: Cli, runs: Path) -> None:
    assert run_cli("report", "before") == 0
    assert_same_files(EXPECTED / "report", runs / "before" / "report")


def test_a_table_for_a_paper_is_the_only_file(run_cli: Cli, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["table", "before", "--latex", "best.tex"]
    chosen = ["--columns", "depth, test", "--only", "best:2", "--caption", r"Of $g$", "--label", "tab:g"]
    assert run_cli(*asked, *chosen) == 0
    text = Path("best.tex").read_text()
    assert "\\caption{Of $g$}\n\\label{tab:g}\n" in text
    assert text.count(r"\num") >= 4
    assert not (runs / "before" / "tables").exists()
    assert "best.tex" in capsys.readouterr().out
    for arguments, message in (
        ([*asked, "--columns", "dept,nothing_like_it"], "dept"),
        ([*asked, "--columns", "dept,nothing_like_it"], "nothing_like_it"),
        ([*asked, "--rows", "depth"], "rows cannot go with --latex; use --columns and --only"),
        (["table", "before", "--columns", "depth", "--only", "best:2"], "columns, only need --latex FILE"),
        (["table", "before", "--latex", "absent/best.tex"], "absent/best.tex cannot be written"),
    ):
        assert run_cli(*arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def assert_same_files(expected: Path, found: Path) -> None:
    """Each file of a folder is in the other one as well, and has the same bytes."""
    names = [path.relative_to(expected) for path in sorted(expected.rglob("*")) if path.is_file()]
    assert names
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_mlflow_is_sent_the_same(run_cli: Cli, runs: Path, store: Store) -> None:
    (runs / "before" / "shipped.json").unlink()
    assert run_cli("sync", "before", "--to", store.uri) == 0
    expected = json.loads((EXPECTED / "mlflow.json").read_text())
    found = dump(store.uri)
    assert list(found) == list(expected)
    for name, run in expected.items():
        assert found[name] == run, name


def dump(uri: str) -> dict[str, Any]:
    """What a store knows of its runs, by name: state, times, parameters, our tags, and the history of every metric."""
    client = MlflowClient(uri)
    told = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            tags = run.data.tags.items()
            told[run.info.run_name] = {
                "status": run.info.status,
                "start": run.info.start_time,
                "end": run.info.end_time,
                "params": run.data.params,
                "tags": {k: v for k, v in tags if k.startswith("sweep.") or k in ("mlflow.runName", "stop_reason")},
                "metrics": {
                    key: [[m.step, m.timestamp, m.value] for m in client.get_metric_history(run.info.run_id, key)]
                    for key in run.data.metrics
                },
            }
    return dict(sorted(told.items()))


def test_a_sweep_that_is_complete_stays_as_it_is(run_cli: Cli, runs: Path) -> None:
    before = journals(runs / "before")
    with offline():
        assert run_cli("resume", "before", "--debug") == 0
    assert journals(runs / "before") == before


def test_a_sweep_that_was_cut_short_is_gone_on_with(run_cli: Cli, runs: Path) -> None:
    cut = journals(runs / "cut")
    with offline():
        assert run_cli("resume", "cut", "--debug") == 0
    check_resumed(runs, cut)


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep_that_was_cut_short_is_gone_on_with_by_ray(runs: Path) -> None:
    cut = journals(runs / "cut")
    command = [sys.executable, "-m", "linsweep", "resume", "cut"]
    done = subprocess.run(
        command, cwd=runs.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    check_resumed(runs, cut)


def journals(folder: Path) -> dict[str, bytes]:
    """The journals of a sweep by trial."""
    return {path.stem: path.read_bytes() for path in sorted((folder / "journal").glob("*.jsonl"))}


def check_resumed(runs: Path, cut: dict[str, bytes]) -> None:
    """The sweep that was cut short, whose journals were these, has become the one that was not."""
    states, whole = states_of(runs / "cut"), states_of(runs / "before")
    # What had ended keeps its journal, byte for byte, and what was cut off goes on in it.
    ended = {trial: content for trial, content in cut.items() if b'"event": "end"' in content}
    assert set(cut) - set(ended) == {"t001-s1"}
    now = journals(runs / "cut")
    assert {trial: now[trial] for trial in ended} == ended
    assert now["t001-s1"].startswith(cut["t001-s1"])
    assert len(states["t001-s1"].attempts) == 2
    # The same trials in the same order of their configurations.
    assert list(states) == list(whole)
    for trial, expected in whole.items():
        found = states[trial]
        assert found.identity is not None
        assert expected.identity is not None
        assert (found.identity.overrides, found.identity.seed) == (expected.identity.overrides, expected.identity.seed)
        assert (found.state, found.epoch) == (expected.state, expected.epoch), trial
        assert found.metrics[SWD] == pytest.approx(expected.metrics[SWD], rel=1e-3), trial


def states_of(folder: Path) -> dict[str, TrialState]:
    """What the journals of a sweep come to, by trial."""
    return {path.stem: state_of(path) for path in sorted((folder / "journal").glob("*.jsonl"))}
