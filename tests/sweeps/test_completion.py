"""What a shell offers: commands, options, sweeps, trials, specs, profiles and keys."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "records" / "b428e36" / "runs"
Cli = Callable[..., int]
Offer = Callable[[str], list[str]]


@pytest.fixture
def offered(run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offer:
    """``offered("linsweep logs bef")``: what bash is given for the last word, in a folder with two sweeps."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(RECORDED / "cut", tmp_path / "elsewhere" / "moved")
    (tmp_path / "mine.yaml").write_text("profiles: {large: {}, small: {}}\n")
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)

    def offer(line: str) -> list[str]:
        monkeypatch.setenv("_LINSWEEP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        assert run_cli() == 0
        return capsys.readouterr().out.split()

    return offer


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("linsweep re", ["resume", "retry", "report", "reproduce"]),
        ("linsweep status --wa", ["--watch"]),
        ("linsweep status ", ["before", "cut"]),
        ("linsweep table before c", ["cut"]),
        ("linsweep status --storage elsewhere ", ["moved"]),
        ("linsweep logs ", ["before/", "cut/"]),
        ("linsweep logs cut/t001", ["cut/t001-s0", "cut/t001-s1"]),
        ("linsweep sample bef", None),
        ("linsweep compare b", ["before"]),
        ("linsweep compare before/t003", ["before/t003", "before/t003-s0", "before/t003-s1"]),
        ("linsweep plan mi", ["mine.yaml", "mixing"]),
        ("linsweep plan z", []),
        ("linsweep plan el", ["elsewhere/"]),
        ("linsweep launch mine.yaml --profile l", ["large"]),
        ("linsweep launch idempotent-rank --profile mnist-", ["mnist-cpu"]),
        ("linsweep plan absent --profile x", []),
        ("linsweep schema train.l", ["train.lr", "train.loss"]),
        ("linsweep plan quickstart --set train.lr", ["train.lr="]),
    ],
)
def test_a_word_that_is_begun(offered: Offer, line: str, offers: list[str] | None) -> None:
    found = offered(line)
    if offers is None:  # there is only one sweep of that beginning: its trials
        assert len(found) == 16
        assert all(text.startswith("before/") for text in found)
    else:
        assert [text for text in found if not text.startswith("train.loss.")] == offers


def test_completion_loads_nothing_large(tmp_path: Path) -> None:
    code = """
import sys
sys.argv = ["linsweep"]
from linsweep.__main__ import main
try:
    main()
finally:
    print([name for name in ("torch", "ray", "pandas", "mlflow") if name in sys.modules], file=sys.stderr)
"""
    env = os.environ | {"_LINSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "linsweep schema t", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert "train.lr" in done.stdout.split()
    assert done.stderr == "[]\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_once_it_is_installed(tmp_path: Path) -> None:
    """``--install-completion`` in a new home, and then a shell that reads what it wrote."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    command = tmp_path / "bin" / "linsweep"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from linsweep.__main__ import main\nmain()\n"
    )
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def bash(script: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout

    bash("linsweep --install-completion; true")  # a further command: bash would become the last one
    assert (tmp_path / ".bashrc").exists()
    completed = bash(
        "source ~/.bash_completions/linsweep.sh; COMP_WORDS=(linsweep logs cut/t000); COMP_CWORD=2; "
        "COMP_LINE='linsweep logs cut/t000'; $(complete -p linsweep | sed 's/.*-F \\([^ ]*\\) .*/\\1/') linsweep; "
        'echo "${COMPREPLY[@]}"'
    )
    assert completed.split() == ["cut/t000-s0", "cut/t000-s1"]
