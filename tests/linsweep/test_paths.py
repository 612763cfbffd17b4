"""Any name that a spec may have, and any path that the system allows, through the commands for records."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import analysis
from linsweep.siblings import ROOT
from sweeps import cli
from sweeps.api.running import recorded_sweep
from sweeps.spec.load import load

RUNS = ROOT / "tests" / "records" / "b428e36" / "runs"
ODD = "a b%20c#d?ü é'"
"""Letters that mean something to a shell, to a URI, or to nobody."""

SPEC = """
name: odd
recipe: learned
data: {name: digits, images: 128}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 1, batch_size: 64}
evaluate: {steps: [1, 2], quality: [swd], every: 1, samples: 64, held_out: 64}
search:
  sampler: grid
  space: {model.flow.depth: {grid: [1]}}
  objective: {quality/swd_collapsed: min}
storage: "./my runs%"
"""

Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("table before")``: the exit code of a command line as a shell takes it apart, and what it prints."""

    def carried_out(line: str) -> Said:
        monkeypatch.setattr("sys.argv", ["linsweep", *shlex.split(line.removeprefix("linsweep "))])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return carried_out


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, of a name that nobody would give it, with a storage folder of such a name."""
    folder = tmp_path / ODD
    shutil.copytree(RUNS, folder / "my runs%")
    for cursors in folder.glob("my runs%/*/shipped.json"):
        cursors.unlink()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "60")
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_long_names_of_several_sweeps(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{letter}{'x' * 62}" for letter in "ABCDE"]
    for name in names:
        shutil.copytree(RUNS / "cut", tmp_path / "runs" / name)
        file = tmp_path / "runs" / name / "sweep.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"name": name}))
    for command in ("table", "report", "export"):
        code, out, err = run(f"{command} {' '.join(names)}")
        assert code == 0, err
        assert out
    (tables,) = (tmp_path / "runs" / "tables").iterdir()
    (page,) = (tmp_path / "runs" / "report").iterdir()
    (file,) = (tmp_path / "runs").glob("*.parquet")
    assert tables.name == page.name == file.stem
    assert file.stem.startswith(f"{names[0]}+{names[1]}+and-3-more-")
    assert len(file.stem) <= 200
    assert analysis.load(file).names == ", ".join(names)
    # Others with the same beginning have a file of their own.
    assert run(f"export {' '.join(names[:4])}")[0] == 0
    assert len(list((tmp_path / "runs").glob("*.parquet"))) == 2


def test_a_file_that_cannot_be_written_is_named(run: Run, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(f"export before --storage 'my runs%' --to {'x' * 300}")
    assert (code, err) == (2, f"--to: {'x' * 300} cannot be written: File name too long\n")
    (odd / "my runs%" / "before.parquet").mkdir()
    code, _, err = run("export before --storage 'my runs%'")
    assert (code, err) == (2, "export: my runs%/before.parquet cannot be written: Is a directory\n")


def test_every_command_in_a_folder_with_odd_letters(run: Run, odd: Path) -> None:
    """From there, and by the commands that are printed, which are not broken into lines however narrow it is."""
    assert run("status --storage 'my runs%'")[0] == 0
    _, out, _ = run("table cut --storage 'my runs%'")
    ui = out.splitlines()[-1].removeprefix("compare in MLflow: ")
    assert shlex.split(ui) == ["linsweep", "ui", "--storage", "my runs%"]
    assert run("report cut --storage 'my runs%'")[0] == 0
    assert run("compare before cut --storage 'my runs%'")[0] == 0
    assert run("export before cut --storage 'my runs%' --to 'a #?.parquet'")[:2] == (0, "written: a #?.parquet\n")
    assert analysis.load("a #?.parquet").names == "before, cut"


def test_a_database_in_a_folder_with_odd_letters(run: Run, odd: Path) -> None:
    code, _, err = run("promote before/t000-s0 --storage 'my runs%'")
    assert (code, err) == (
        2, "before/t000-s0: is not in MLflow yet; send it first: linsweep sync before --storage 'my runs%'\n",
    )  # fmt: skip
    code, out, err = run(err.rpartition(": ")[2].strip())
    assert code == 0, err
    uri = out.split()[-1] if " " not in out.partition(" to ")[2] else out.partition(" to ")[2].strip()
    assert "\nMLflow  complete" in run("status before --storage 'my runs%'")[1]
    # The record that is read back is the same, and nothing has been made in any other folder.
    assert len(analysis.load(uri).runs) == len(analysis.load(odd / "my runs%" / "before").runs)
    code, out, err = run("promote before/t000-s0 --storage 'my runs%'")
    assert code == 0, err
    assert f'  mlflow.set_tracking_uri("{uri}")' in out.splitlines()
    assert run("sync before --storage 'my runs%' --to 'sqlite:///o%23%3F.db'")[0] == 0
    assert names_in(odd) == ["my runs%", "o#?.db"]
    assert names_in(odd / "my runs%") == ["before", "cut", "mlartifacts", "mlflow.db"]
    assert names_in(odd.parent) == [ODD]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"status {'z' * 300}", f"{'z' * 300}: no sweep of this name in runs; runs has no sweeps"),
        (f"status {'z/' * 3000}", "no sweep of this name in runs"),
        (f"status --storage {'z' * 300}", f"{'z' * 300}: File name too long"),
        ("status before --storage /dev/null", "no sweep of this name in /dev/null"),
        (f"plan {'z' * 300}", f"{'z' * 300}: cannot be read (File name too long)"),
        (f"plan quickstart --set storage={'z' * 300}", "cannot be a folder: File name too long"),
        ("plan quickstart --set storage=/dev/null/x", "storage: must be a folder, but /dev/null is a file"),
        (f"plan quickstart --cluster {'z' * 300}", "--cluster: "),
    ],
    ids=range(8),
)
def test_what_no_path_can_be_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(line)
    assert code in (1, 2)
    assert said in err
    assert (out, err.count("\n")) == ("", 1)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("where", "how"),
    [("before", "."), ("before/journal", ".."), (".", "before"), ("cut", "../before"), (".", "before/sweep.json")],
)
def test_a_sweep_by_its_folder_from_any_folder(
    run: Run, odd: Path, monkeypatch: pytest.MonkeyPatch, where: str, how: str
) -> None:
    monkeypatch.chdir(odd / "my runs%" / where)
    assert run(f"status {how}")[1].startswith("before  finished")
    code, out, _ = run(f"table {how}")
    assert code == 0
    words = shlex.split(out.splitlines()[-1].removeprefix("compare in MLflow: "))
    assert Path(words[words.index("--storage") + 1]).resolve() == odd / "my runs%"
    assert run(f"export {how}")[0] == 0
    assert (odd / "my runs%" / "before.parquet").is_file()


def test_a_record_that_was_moved_and_one_behind_a_link(run: Run, odd: Path) -> None:
    (odd / "my runs%" / "before").rename(odd / "my runs%" / "be fore")
    assert "before" in run("status 'be fore' --storage 'my runs%'")[1]
    (odd / "runs").mkdir()
    (odd / "runs" / "link").symlink_to(odd / "my runs%" / "cut")
    assert run("sync link")[0] == 0
    assert "MLflow complete" in " ".join(run("status link")[1].split())
    assert names_in(odd / "runs") == ["link", "mlartifacts", "mlflow.db"]


def test_a_launch_in_a_folder_with_odd_letters(run: Run, odd: Path) -> None:
    """What it prints last are commands that work."""
    (odd / "-my spec?.yaml").write_text(SPEC)
    code, out, err = run("plan --set data.images=100 -- '-my spec?.yaml'")
    assert code == 0, err
    launch = out.splitlines()[-1].rpartition("Next: ")[2]
    assert shlex.split(launch) == ["linsweep", "launch", "--set", "data.images=100", "--", "-my spec?.yaml"]
    code, out, err = run(f"{launch} --debug".replace("launch ", "launch --debug ", 1).removesuffix(" --debug"))
    assert code == 0, err
    table, ui = (line.partition(": ")[2] for line in out.splitlines()[-2:])
    assert ui == "linsweep ui --storage 'my runs%'"
    assert run(table)[0] == 0
    assert "MLflow  complete" in run("status odd --storage 'my runs%'")[1]
    assert names_in(odd.parent) == [ODD]


@pytest.mark.parametrize("line", ["status --storage=~/runs", "status '~/runs/before'", "status cut --storage '~/runs'"])
def test_a_home_folder_that_no_shell_has_spelt_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    shutil.copytree(RUNS, tmp_path / "home" / "runs")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, out, err = run(line)
    assert code == 0, err
    assert f"record {tmp_path}/home/runs/" in " ".join(out.split())
    assert names_in(tmp_path / "here") == []


def test_a_spec_with_a_home_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    sets = {"storage": "~/runs", "tracking.uri": "sqlite:///~/a.db", "search.storage": "sqlite:///~/b.db?timeout=5"}
    sweep = load("quickstart", sets)
    assert sweep.folder == tmp_path / "home" / "runs" / "quickstart"
    assert sweep.model.tracking.uri == f"sqlite:///{tmp_path}/home/a.db"
    assert sweep.search.storage == f"sqlite:///{tmp_path}/home/b.db?timeout=5"
    for key, value in (
        ("storage", "~nobody0/runs"),
        ("tracking.uri", "sqlite:///~nobody0/a.db"),
        ("data.root", "~nobody0"),
    ):
        code, _, err = run(f"plan quickstart --set data.name=mnist --set {key}={value}")
        told = [line for line in err.splitlines() if "no home folder is known for ~nobody0" in line]
        assert (code, len(told)) == (2, 1), err
        assert told[0].startswith(f"quickstart.yaml: {key.partition('.r')[0]}: ")


def test_a_folder_called_by_a_tilde(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that lies there is shown, and is gone on with where it is."""
    shutil.copytree(RUNS, tmp_path / "~nobody0")
    monkeypatch.chdir(tmp_path)
    sweep = recorded_sweep("~nobody0/before", "runs")
    assert sweep.folder.resolve() == tmp_path / "~nobody0" / "before"
    assert run("status ./~nobody0/before")[0] == 0
