"""The public names of the package: what there is, that each is explained by an example that runs, and how it shows."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from tests.analysis.operators import operators
from tests.analysis.record_factory import DEPTH, LR, RANK, SweepFiles


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    importlib.import_module("analysis.report.write")  # what was imported must not come in beside them
    assert dir(analysis) == sorted(analysis.__all__)
    for name in dir(analysis):
        assert getattr(analysis, name).__module__.startswith("analysis.")


def test_reading_a_record_loads_no_plotting_library() -> None:
    code = "import analysis, sys; analysis.example(); print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that has two storages with a small sweep each, as examples suppose."""
    files = SweepFiles(tmp_path / "runs")
    for number, rank in enumerate((4, 16)):
        files.finished(number, {DEPTH: 1, RANK: rank, LR: 1e-3}, 8.0 / rank)
    operators(tmp_path / "affine")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("workplace")
def test_every_public_name_has_an_example_that_runs() -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for name in dir(analysis):
        text = inspect.getdoc(getattr(analysis, name)) or ""
        examples = parser.get_doctest(text, {}, name, None, None)
        assert examples.examples, f"{name} has no example"
        told: list[str] = []
        assert runner.run(examples, out=told.append).failed == 0, "".join(told)


@pytest.mark.usefixtures("workplace")
def test_the_other_examples_run() -> None:
    rooms = ("configuration", "record", "render", "statistics")
    for file in sorted(Path(analysis.__file__).parent.rglob("*.py")):
        if file.parent.name in rooms:
            module = importlib.import_module(f"analysis.{file.parent.name}.{file.stem}".removesuffix(".__init__"))
            assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0, module.__name__


def test_every_public_member_of_the_classes_is_explained() -> None:
    for name in dir(analysis):
        kind = getattr(analysis, name)
        members = vars(kind).items() if inspect.isclass(kind) else ()
        for member, value in members:
            plain = getattr(value, "func", getattr(value, "fget", getattr(value, "__func__", value)))
            if not member.startswith("_") and inspect.isfunction(plain):
                assert inspect.getdoc(plain), f"{name}.{member} has no docstring"


def test_records_and_tables_show_in_a_line_and_in_a_notebook_as_html() -> None:
    record = analysis.example()
    table = analysis.marginal(record, DEPTH)
    assert repr(record) == "<Record of digits; 29 trials: 29 finished>"
    assert repr(table) == "<Table marginal-depth, 3 × 6>"
    assert repr(record.sweeps[0]) == f"<SweepInfo digits: diffusion, finished, over {DEPTH}, {RANK}>"
    assert repr(analysis.Configurations(record)) == "<Configurations of digits; 29 trials: 29 finished>"
    assert table._repr_html_() == table.to_html()
    shown = record._repr_html_()
    assert "<caption>29 trials: 29 finished</caption>" in shown
    cells = re.findall(r"<td>(.*?)</td>", shown)
    assert cells == ["digits", "diffusion", "finished", f"{DEPTH}, {RANK}", "quality/classifier_fd_collapsed", "32"]


def test_what_a_record_has_in_its_names_is_no_markup(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.sweep["family"] = "<b>"
    files.write_sweep()
    assert "<td>&lt;b&gt;</td>" in analysis.load([files.path])._repr_html_()
