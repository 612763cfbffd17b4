"""The Python API: its names, what it loads, its objects, and every example of its docstrings."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import linsweep as ls
from linsweep.siblings import ROOT
from sweeps.api.running import recorded_sweep

NAMES = [
    "Comparison", "LaunchResult", "LinsweepError", "Listing", "Logs", "Plan", "Record", "Status", "Sweep",
    "__version__",
    "check", "compare", "delete", "export", "init", "launch", "list", "load", "logs", "plan", "promote", "report",
    "reproduce", "resume", "retry", "sample", "schema", "status", "stop", "sync", "table",
]  # fmt: skip

FUNCTIONS = [name for name in NAMES if name[0].islower()]

TINY = """
name: tiny
family: diffusion
recipe: learned
data: {name: digits, images: 256}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 1, batch_size: 64}
evaluate: {steps: [1, 2], quality: [swd], every: 1, samples: 64, held_out: 64}
search:
  sampler: grid
  space: {model.flow.depth: {grid: [1]}}
  objective: {quality/swd_collapsed: min}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sweeps ``before``, which finished, and ``cut``, which was interrupted, and ``tiny.yaml``."""
    shutil.copytree(ROOT / "tests" / "records" / "b428e36" / "runs", tmp_path / "runs")
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_public_names_and_nothing_else() -> None:
    assert sorted(dir(ls)) == sorted(ls.__all__) == NAMES
    assert all(getattr(ls, name).__doc__ for name in NAMES)
    with pytest.raises(AttributeError, match="lunch"):
        _ = ls.lunch  # type: ignore[attr-defined]


def test_every_command_has_its_function() -> None:
    from sweeps.cli.command import app

    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    # The two that only start other programs, and what reads records into memory.
    assert commands - {"supervise", "ui"} == set(FUNCTIONS) - {"load"}


def test_importing_loads_nothing_large() -> None:
    code = "import sys, linsweep; print([name for name in ('torch', 'ray', 'pandas', 'mlflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_reading_records_loads_nothing_large(folder: Path) -> None:
    runs = folder / "runs"
    code = f"""
import sys
import linsweep as ls
assert ls.load({str(runs)!r}).names == "before, cut"
assert len(ls.compare("before", "cut", storage={str(runs)!r}).sides) == 2
assert ls.compare("before/t000-s0", "cut/t000-s0", storage={str(runs)!r})
print([name for name in ("torch", "optuna", "ray", "mlflow", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function = getattr(ls, name)
    if name == "load":  # its example is the package's
        function = ls
    (found,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert found.examples, name
    results = doctest.DocTestRunner(verbose=False).run(found)
    assert results.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_says_what_it_raises(name: str) -> None:
    text = inspect.getdoc(getattr(ls, name)) or ""
    assert "Raises ``" in text or name == "schema"


def test_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ls.plan("tiny.yaml")
    ls.status("before")
    ls.compare("before", "cut")
    ls.table("before")
    assert capfd.readouterr() == ("", "")


def test_short_words_and_html(folder: Path) -> None:
    plan, status, both = ls.plan("tiny.yaml"), ls.status("cut"), ls.compare("before", "cut")
    assert repr(plan).startswith("Plan(tiny: 1 trial, ")
    assert repr(plan.sweep) == "Sweep(tiny: grid over model.flow.depth; 1 trials)"
    assert repr(status).startswith("Status(cut: interrupted, ")
    assert repr(both) == "Comparison(before, cut)"
    for shown, word in ((plan, "recorded per trial"), (status, "interrupted"), (both, "metric")):
        html = shown._repr_html_()
        assert html.startswith("<pre")
        assert word in html


def test_the_result_of_a_launch_shows_as_html(folder: Path) -> None:
    sweep = ls.plan("tiny.yaml").sweep
    result = ls.LaunchResult(sweep, "interrupted", "budget.hours reached", [], None, {"finished": 2}, 1)
    how = "tiny: interrupted (budget.hours reached): 2 finished (1 reused from identical trials)"
    assert repr(result) == f"LaunchResult({how})"
    assert "interrupted (budget.hours reached): 2 finished" in result._repr_html_()


def test_leaves_are_set_by_their_values(folder: Path) -> None:
    by_value = ls.plan("tiny.yaml", set={"train.lr": 1e-3, "search.space.model.flow.depth": {"grid": [1, 2]}}).sweep
    by_text = ls.plan("tiny.yaml", set=["train.lr=1e-3", "search.space.model.flow.depth={grid: [1, 2]}"]).sweep
    assert by_value.resolved == by_text.resolved
    assert by_value.base_leaves["train.lr"] == 1e-3


def test_one_text_is_one_override(folder: Path) -> None:
    assert ls.plan("tiny.yaml", set="train.lr=1e-3").sweep.base_leaves["train.lr"] == 1e-3
    assert recorded_sweep("cut", "runs", "budget.hours=3").model.budget.hours == 3


def test_sweeps_are_named_by_paths_as_well(folder: Path) -> None:
    before, cut = Path("runs/before"), Path("runs/cut")
    assert ls.table(before).files[0].parent == before / "tables"
    assert ls.table([before, "cut"]).files
    assert ls.report(before).files[0].name == "report.html"
    assert ls.load(ls.export(before, to="before.parquet")).names == "before"
    assert [side.name for side in ls.compare(before, cut / "t000-s0").sides] == ["before", "runs/cut/t000-s0"]
    assert ls.status(cut).state == "interrupted"
    with pytest.raises(ls.LinsweepError, match="runs/before: is not running"):
        ls.stop(before)
    with pytest.raises(ls.LinsweepError, match="absent: no sweep of this name"):
        ls.resume(Path("absent"))
    with pytest.raises(ls.LinsweepError, match="absent: no sweep of this name"):
        ls.sync(Path("absent"))
    with pytest.raises(ls.LinsweepError, match="as SWEEP/TRIAL"):
        ls.promote(Path("before"))


def test_a_note_of_what_was_sent_that_is_damaged_is_as_good_as_none(folder: Path) -> None:
    note = folder / "runs" / "cut" / "shipped.json"
    note.unlink()
    all_of_it = ls.status("cut").unsent
    note.write_bytes(b"\0" * 64)
    with pytest.warns(UserWarning, match=r"runs/cut/shipped\.json: cannot be read \(JSONDecodeError: .*are sent again"):
        assert ls.status("cut").unsent == all_of_it > 0


def test_wrong_input_is_one_class_of_error(folder: Path) -> None:
    with pytest.raises(ls.LinsweepError, match=r"tiny\.yaml: train\.lrr: unknown key; did you mean train\.lr\?"):
        ls.plan("tiny.yaml", set={"train.lrr": 1})
    sweep = ls.plan("tiny.yaml").sweep
    with pytest.raises(ls.LinsweepError, match="not a Sweep"):
        ls.plan(sweep, set={"train.lr": 1})
    with pytest.raises(ls.LinsweepError, match="no sweep of this name"):
        ls.table("absent")
    with pytest.raises(ls.LinsweepError, match="nowhere"):
        ls.load("nowhere")
    with pytest.raises(ls.LinsweepError, match="needs at least two names to compare"):
        ls.compare("before")
    (folder / "runs" / "before" / "sweep.json").write_text(json.dumps({"name": "before"}))
    with pytest.raises(ls.LinsweepError, match=r"sweep\.json"):
        ls.status("before")


@pytest.mark.parametrize(
    "name",
    [
        "sweeps.notebook",
        "sweeps.words",
        "sweeps.listing",
        "sweeps.execution.bridge",
        "sweeps.record.lookup",
        "analysis.record.uri",
        "linearizer_core.files",
    ],
)
def test_the_examples_of_helpers(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
