"""How a command ends: no traceback for what a user can cause, and a log for what nobody foresaw."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from linearizer_core.errors import LinsweepError
from linsweep.siblings import ROOT
from sweeps.children import environment
from sweeps.cli.errors import ended_in_order, logged_in

UMLAUT = """
name: umlaut
recipe: learned
family: diffusion
data: {name: digits, images: 256}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 1, batch_size: 64}
evaluate: {steps: [1, 2], quality: [swd], every: 1, samples: 64, held_out: 64}
controls: [{name: "ohne Skalierung (größer) 😀", set: {model.flow.kind: identity}}]
search:
  sampler: grid
  space: {model.flow.depth: {grid: [1]}}
  objective: {quality/swd_collapsed: min}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["linsweep", "plan", "spec.yaml", "--set", "tracking.uri=http://ann:s3cret@host"])
    monkeypatch.delenv("LINSWEEP_DEBUG", raising=False)


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SystemExit(0), 0, ""),
        (SystemExit(3), 3, ""),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
        (LinsweepError("x.npz: holds no images"), 2, "plan: x.npz: holds no images\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "plan: the output: No space left on device\n"),
        (MemoryError(), 1, "plan: out of memory\n"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a.csv"), 1, "plan: a.csv: Is a directory\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"), 1, "plan: a.csv: Permission denied\n"),
    ],
)
def test_what_can_be_foreseen_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ended_in_order(raising(error)) == code
    assert capsys.readouterr() == ("", said)
    assert list(tmp_path.iterdir()) == []


def test_a_backend_of_matplotlib_that_there_is_not_is_not_asked_for() -> None:
    code = (
        "from sweeps.cli.errors import ended_in_order as run; raise SystemExit(run(lambda: __import__('matplotlib')))"
    )
    asked = environment() | {"MPLBACKEND": "nonsense"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert environment()["MPLBACKEND"] == "agg"


@pytest.mark.parametrize("error", [KeyError("width"), FileNotFoundError(errno.ENOENT, "No such file", "x")])
def test_what_nobody_foresaw_is_one_line_and_a_log(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ended_in_order(raising(error)) == 1
    (log,) = tmp_path.iterdir()
    out, err = capsys.readouterr()
    what = f"{type(error).__name__}: {error}"
    assert out == ""
    assert err == f"plan: failed with an unexpected error ({what}); please report it with the log {log}\n"
    text = log.read_text()
    assert "command: linsweep plan spec.yaml --set tracking.uri=http://host\n" in text
    assert "\ntorch: " in text
    assert "Traceback (most recent call last)" in text
    assert "s3cret" not in text


def test_the_log_of_a_sweep_is_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)

    def run() -> None:
        with logged_in(folder):
            raise KeyError("width")

    assert ended_in_order(run) == 1
    (log,) = folder.iterdir()
    assert f"(KeyError: 'width'); please report it with the log {log}" in capsys.readouterr().err


def test_a_traceback_is_printed_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LINSWEEP_DEBUG", "1")
    assert ended_in_order(raising(LinsweepError("wrong"))) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.endswith("plan: wrong\n")


def linsweep(shell: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line of bash with the command in it; its exit code is the command's."""
    line = shell.replace("linsweep", f"{sys.executable} -m linsweep", 1)
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | env,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("words", ["schema", "--help"])
def test_a_full_disk(words: str) -> None:
    full = linsweep(f"linsweep {words} > /dev/full")
    assert (full.returncode, full.stderr.partition(": ")[2]) == (1, "the output: No space left on device\n")


@pytest.mark.parametrize("output", [pytest.param("> /dev/full", marks=pytest.mark.long), "| true"])
def test_a_launch_goes_on_when_nothing_can_be_printed(tmp_path: Path, output: str) -> None:
    (tmp_path / "umlaut.yaml").write_text(UMLAUT, encoding="utf-8")
    done = linsweep(f"linsweep launch umlaut.yaml --debug --set data.images=128 {output}")
    why = "No space left on device" if "full" in output else "Broken pipe"
    assert (done.returncode, done.stderr) == (
        0,
        f"launch: the output: {why}; the command continues without further output\n",
    )
    assert '"state": "finished"' in (tmp_path / "runs" / "umlaut" / "sweep.json").read_text()


def test_output_that_nobody_takes() -> None:
    closed = linsweep("linsweep --help >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    left = linsweep("linsweep --help | true")
    assert left.stderr == ""
    silent = linsweep("linsweep ui 2>&-")
    assert (silent.returncode, silent.stdout) == (2, "")


def test_letters_that_the_terminal_lacks(tmp_path: Path) -> None:
    (tmp_path / "umlaut.yaml").write_text(UMLAUT, encoding="utf-8")
    plan = linsweep("linsweep plan umlaut.yaml", PYTHONIOENCODING="ascii")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "ohne Skalierung (gr??er) ?" in plan.stdout
    wrong = linsweep("linsweep plan umlaut.yaml --set größe=1", PYTHONIOENCODING="ascii")
    assert wrong.returncode == 2
    assert "unknown key" in wrong.stderr
