"""The examples of docs/analysis.md run, in their order, on the record that ships with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from analysis import load

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "analysis.md"
EXAMPLE = ROOT / "analysis" / "examples" / "digits.parquet"


def blocks() -> list[str]:
    """The Python blocks of the page."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_examples_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks(), start=1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), namespace)
        if "print(" in block:
            assert capsys.readouterr().out.strip()


def test_the_record_is_small_and_knows_no_machine() -> None:
    assert EXAMPLE.stat().st_size < 2**20
    record = load(EXAMPLE)
    texts = [str(sweep.document) for sweep in record.sweeps]
    runs = record.runs
    texts += [str(value) for name in runs.columns for value in runs[name].dropna() if isinstance(value, str)]
    absolute = re.compile(r"(?<![\w.:/])/(?:\w|\.)[^\s/]*/")
    assert [text for text in texts if absolute.search(text) or "://" in text] == []


def test_the_page_says_what_the_record_is() -> None:
    record = load(EXAMPLE)
    searched = record.runs[record.runs["kind"] == "search"]
    assert (searched["config_hash"].nunique(), searched["seed"].nunique()) == (12, 2)
    assert record.axes == ["model.flow.depth", "model.operator.rank"]
    assert (searched["state"] == "finished").all()


def test_a_wheel_has_the_record_and_what_the_report_needs() -> None:
    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    wanted = {"examples/digits.parquet", "report/assets/report.css", "report/assets/report.js", "py.typed"}
    assert {f"analysis/{name}" for name in wanted} | {"linsweep/py.typed"} <= packed
