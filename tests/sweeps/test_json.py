"""``--json`` of the reading commands: one document, with the keys that docs/commands.md has and no others."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment.journal import Journal
from sweeps.record.paths import SweepPaths

Cli = Callable[..., int]
ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "records" / "b428e36" / "runs"
PAGE = (ROOT / "docs" / "commands.md").read_text().partition("## For programs")[2]

COMMANDS = {
    "list": ["list"],
    "status": ["status"],
    "logs": ["logs", "before/t000-s0"],
    "table": ["table", "before"],
    "compare": ["compare", "before", "cut"],
    "check": ["check", "before"],
    "export": ["export", "before", "--to", "before.parquet"],
    "sample": ["sample", "before/t000-s0", "-n", "2"],
    "plan": ["plan", "quickstart"],
    "schema": ["schema", "train"],
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sweeps ``before``, which finished, ``cut``, whose launch died, and one that cannot be read."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "sweep.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def document(run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``document("status", "cut")``: what the command prints with ``--json``, and nothing else, read by the book."""

    def read(*arguments: str, code: int = 0) -> Any:
        assert run_cli(*arguments, "--json") == code
        return json.loads(capsys.readouterr().out, parse_constant=refuse)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return read


def documented(command: str) -> set[str]:
    """The keys in the table of a command."""
    (section,) = re.findall(rf"^### {command}\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def paths(value: Any, name: str = "") -> Iterator[str]:
    """Every key of a document, with those above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            path = f"{name}.{key}".removeprefix(".")
            yield path
            yield from paths(inner, path)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield f"{name}[]"
                yield from paths(inner, f"{name}[]")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_keys_are_those_that_the_page_has(runs: Path, document: Callable[..., Any], command: str) -> None:
    known = documented(command)
    code = 2 if command in ("list", "status") else 0
    found = set(paths(document(*COMMANDS[command], code=code)))
    if command == "list":  # its sweeps are as those of status
        known |= {key for key in documented("status") if key.startswith("sweeps[]")}
    assert known <= found
    # What is not in the page lies above what is (sweeps of sweeps[].state), or below (a leaf of a configuration).
    assert [
        key for key in found - known if not within(key, known) and not any(within(each, {key}) for each in known)
    ] == []


def within(key: str, others: set[str]) -> bool:
    """Whether a key lies below one of others that has no further ones below it in ``documented``."""
    return any(key.startswith((f"{other}.", f"{other}[]")) for other in others)


def test_values_of_a_status(runs: Path, document: Callable[..., Any]) -> None:
    (cut,) = document("status", "cut")["sweeps"]
    assert (cut["sweep"], cut["state"], cut["reason"]) == ("cut", "interrupted", "its launch died")
    assert cut["trials"] == {
        "total": 13, "ended": 5, "finished": 5, "stopped": 0, "failed": 0,
        "running": 0, "waiting": 0, "interrupted": 1, "reused": 0, "set_aside": 0,
    }  # fmt: skip
    assert cut["best"]["configuration"] == "t000"
    assert cut["best"]["trials"] == ["t000-s0", "t000-s1"]


def test_one_that_cannot_be_read_is_told_and_hides_no_other(
    runs: Path, run_cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["list"], ["status"]):
        assert run_cli(*arguments, "--json") == 2
        said = capsys.readouterr()
        told = json.loads(said.out)
        assert {each["sweep"] for each in told["sweeps"]} == {"before", "cut"}
        assert [each["sweep"] for each in told["unreadable"]] == ["broken"]
        assert said.err.startswith("runs/broken/sweep.json: is not a sweep's record")


def test_values_that_are_not_finite_are_texts(runs: Path, document: Callable[..., Any]) -> None:
    Journal(SweepPaths(runs / "cut").journal("t001-s1")).epoch(3, {"quality/swd_collapsed": math.inf})
    told = document("logs", "cut/t001-s1")
    assert told["metrics"]["quality/swd_collapsed"] == "Infinity"
    assert (told["state"], told["events"][-1]["epoch"]) == ("interrupted", 3)


def test_rows_of_tables_have_whole_and_missing_numbers(runs: Path, document: Callable[..., Any]) -> None:
    table = document("table", "before")["tables"][0]
    rows = {row["configuration"]: row for row in table["rows"]}
    assert rows["t000"]["model.flow.depth"] == 2
    assert rows["t000"]["quality/swd_collapsed"] == pytest.approx(0.22689336)
    assert rows["t002"]["test/swd_collapsed"] is None
    assert list(rows["t000"]) == table["columns"]


def test_what_differs_between_sweeps(runs: Path, document: Callable[..., Any]) -> None:
    told = document("compare", "before/t000-s0", "before/t001-s0")
    assert told["differing"] == ["model.operator.rank"]
    assert [side["configuration"]["model.operator.rank"] for side in told["sides"]] == [8, 6]


def test_wrong_input_prints_no_document(runs: Path, run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["status", "absent"], ["plan", "absent"], ["schema", "absent"], ["compare", "before", "absent"]):
        assert run_cli(*arguments, "--json") == 2
        out, err = capsys.readouterr()
        assert (out == "") == (arguments[0] != "status"), arguments
        assert err.startswith("absent")


def test_a_log_that_is_followed_is_no_document(runs: Path, run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("logs", "cut/t001-s1", "-f", "--json") == 2
    assert capsys.readouterr() == ("", "--json: prints one document, which --follow never ends; give only one\n")
