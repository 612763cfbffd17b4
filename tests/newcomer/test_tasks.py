"""What somebody new comes to do, by the lines that the documentation has for it and no others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import analysis
from tests.end_to_end import lab
from tests.newcomer.tasks import SMALL, Newcomer, save_images, state

pytestmark = pytest.mark.slow

TUTORIAL = "docs/tutorial.md"
TRIALS = ["c000-s0", "r000", "r001", "r002", "r003", "t000-s0", "t001-s0", "t002-s0", "t003-s0"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who followed the tutorial until the first sweep was over."""
    folder = tmp_path_factory.mktemp("newcomer")
    with pytest.MonkeyPatch.context() as patch:
        reader = Newcomer(folder, patch)
        for heading in ("Write the spec", "See what it would do", "Run it"):
            reader.follow(TUTORIAL, heading)
    return folder


@pytest.fixture
def reader(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    """Somebody with that sweep in a folder of their own."""
    shutil.copytree(swept, tmp_path / "work")
    return Newcomer(tmp_path / "work", monkeypatch)


def trials(folder: Path, sweep: str = "first") -> list[str]:
    return sorted(path.stem for path in (folder / "runs" / sweep / "journal").glob("*.jsonl"))


def test_a_spec_of_their_own(swept: Path) -> None:
    assert trials(swept) == TRIALS
    assert set(analysis.load(swept / "runs" / "first").runs["state"]) == {"finished"}


def test_the_install_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Newcomer(tmp_path, monkeypatch).follow("docs/install.md", "Install")
    assert "linsweep 0" in printed
    assert "Nothing was started" in printed


def test_images_of_their_own(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_images(tmp_path / "images")
    printed = Newcomer(tmp_path, monkeypatch).follow("docs/data.md", "Your own images")
    assert "images of 1×16×16" in printed
    assert trials(tmp_path, "mine")[-2:] == ["t000-s0", "t001-s0"]


def test_the_table_says_what_can_be_relied_on(reader: Newcomer) -> None:
    table = reader.follow(TUTORIAL, "Read the table")
    assert all(name in table for name in ("t000", "t003", "g = identity", "real against real"))
    assert (reader.folder / "runs/first/tables/ranks_versus_quality.png").stat().st_size > 10_000
    assert "seeds" in reader.follow(TUTORIAL, "Ask whether you can rely on it")


def test_a_second_seed_later(reader: Newcomer) -> None:
    before = {
        name: (reader.folder / "runs/first/journal" / f"{name}.jsonl").read_bytes() for name in trials(reader.folder)
    }
    reader.small = SMALL[:-2]  # the seeds are what the reader asks for
    reader.follow(TUTORIAL, "Add seeds", **{"[0,1,2,3,4]": "[0,1]"})
    assert set(trials(reader.folder)) == {*TRIALS, "c000-s1", *(f"t00{number}-s1" for number in range(4))}
    for name, text in before.items():
        assert (reader.folder / "runs/first/journal" / f"{name}.jsonl").read_bytes() == text, name


def test_two_configurations_compared(reader: Newcomer) -> None:
    printed = reader.follow(TUTORIAL, "Compare two configurations")
    assert ["configuration", "first/t003", "first/t000"] in [line.split() for line in printed.splitlines()]
    assert "model.operator.rank" in printed
    assert "quality/classifier_fd_collapsed" in printed


def test_a_metric_of_their_own(reader: Newcomer) -> None:
    assert "own: mean image of every configuration" in reader.follow(TUTORIAL, "Measure something of your own")
    runs = analysis.load(reader.folder / "runs" / "own").runs
    assert runs.loc[runs["kind"] == "search", "quality/mean_image_collapsed"].between(0, 2).all()


def test_samples(reader: Newcomer) -> None:
    reader.follow(TUTORIAL, "Look at the samples")
    assert len(list((reader.folder / "images").glob("*.png"))) == 1


def test_a_papers_table(reader: Newcomer) -> None:
    reader.follow(TUTORIAL, "Read the table")
    printed = reader.follow(TUTORIAL, "Put it into the paper")
    assert "\\begin{tabular}" in printed
    appendix = reader.folder / "runs/first/report/appendix"
    assert (appendix / "figures" / "ranks.pdf").exists()
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX on this machine")
    lines = (r"\documentclass{article}", r"\usepackage{booktabs, siunitx, graphicx, lscape}", r"\begin{document}",
             r"\input{runs/first/tables/configurations.tex}",
             r"\includegraphics{runs/first/report/appendix/figures/ranks.pdf}", r"\end{document}")  # fmt: skip
    (reader.folder / "paper.tex").write_text("\n".join(lines))
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=reader.folder,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_gone_on_with_elsewhere(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "runs").mkdir(parents=True)
    shutil.copytree(swept / "runs" / "cache", here / "runs" / "cache")
    shutil.copy(swept / "first.yaml", here)
    interrupted(here, ["launch", "first.yaml", *SMALL])
    done = trials(here)
    shutil.copytree(here / "runs" / "first", there / "runs" / "first")
    reader = Newcomer(there, monkeypatch)
    reader.follow("docs/reliability.md", "Go on elsewhere")
    assert trials(there) == TRIALS
    runs = analysis.load(there / "runs" / "first").runs.set_index("trial")
    assert set(runs["state"]) == {"finished"}
    for name in done:
        first = (here / "runs" / "first" / "journal" / f"{name}.jsonl").read_text()
        assert (
            (there / "runs" / "first" / "journal" / f"{name}.jsonl").read_text().startswith(first[: first.find("\n")])
        )


def interrupted(folder: Path, words: list[str]) -> None:
    """Launch a sweep, and press Ctrl-C when its first trial has begun."""
    process = subprocess.Popen([sys.executable, "-m", "linsweep", *words], cwd=folder, env=dict(os.environ))
    deadline = time.monotonic() + 300
    while not any(name.startswith("t") for name in trials(folder)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert json.loads((folder / "runs/first/sweep.json").read_text())["state"] == "interrupted"


def test_a_trial_reproduced(reader: Newcomer) -> None:
    printed = reader.follow(TUTORIAL, "Train one again")
    assert "first/t003-s0 agrees with its record" in printed


def test_results_read_elsewhere(reader: Newcomer) -> None:
    printed = reader.follow("docs/reading.md", "Read results elsewhere")
    assert state(reader.type("linsweep status first")) == "finished"
    assert '"sweeps"' in printed
    exported = pd.read_parquet(reader.folder / "runs" / "first.parquet")
    assert sorted(exported["trial"]) == TRIALS


def test_a_notification(reader: Newcomer) -> None:
    reader.follow("docs/spec.md", "Get notified")
    notice = json.loads((reader.folder / "notice.json").read_text())
    assert (notice["event"], notice["sweep"], notice["state"]) == ("end", "notified", "finished")
    assert "notified" in notice["text"]


def test_results_shared_on_a_teams_server(reader: Newcomer, mlflow_server: str) -> None:
    reader.follow(
        "docs/tracking.md", "Send a sweep to the team's server", **{"https://mlflow.example.org": mlflow_server}
    )
    found = analysis.load(mlflow_server, ["first"])
    assert sorted(found.runs["trial"]) == TRIALS


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The team's server."""
    with lab.mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


def test_one_configuration_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Newcomer(tmp_path, monkeypatch)
    reader.follow("docs/single.md", "Train one configuration alone", **{"train.epochs=10": "train.epochs=1"})
    assert list((tmp_path / "runs").rglob("*.jsonl"))
