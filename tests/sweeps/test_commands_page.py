"""docs/commands.md: every command that it shows prints what it says."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., int]
ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "records" / "b428e36" / "runs"
PAGE = ROOT / "docs" / "commands.md"

SHOWN = [
    (command, output)
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for command, output in re.findall(r"^\$ linsweep (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the sweeps of the page: ``before``, which finished, and ``cut``, which was interrupted."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def without_padding(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip("\n").splitlines())


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_command_prints_what_the_page_says(
    run_cli: Cli, capsys: pytest.CaptureFixture[str], command: str, output: str
) -> None:
    run_cli(*shlex.split(command))
    printed = without_padding(capsys.readouterr().out)
    assert doctest.OutputChecker().check_output(output, printed, doctest.ELLIPSIS), printed


def test_the_page_is_read() -> None:
    assert {"list", "status cut", "logs cut/t001-s1", "--version"} <= {command for command, _ in SHOWN}
