"""First specs: what ``init`` writes is a spec that ``plan`` takes, and asks what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import linsweep as ls
from sweeps.spec.first import FAMILIES, QUESTIONS
from sweeps.spec.load import load
from sweeps.spec.notes import notes
from sweeps.spec.validation import InputError

Cli = Callable[..., int]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINEARIZER_DATA", str(tmp_path / "nothing"))


def archive(path: Path, side: int = 8, count: int = 400, labelled: bool = True) -> Path:
    draw = np.random.default_rng(0)
    arrays = {"images": draw.integers(0, 256, (count, side, side), dtype=np.uint8)}
    if labelled:
        arrays["labels"] = draw.integers(0, 3, count)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_question_on_digits(family: str, question: str) -> None:
    sweep = load(str(ls.init("mine.yaml", family=family, question=question)))
    assert (sweep.name, sweep.base["family"]) == ("mine", family)
    axes = {"depth-rank": ["model.flow.depth", "model.operator.rank"], "rank": ["model.operator.rank"],
            "best": ["model.flow.depth", "model.operator.rank", "train.lr"]}[question]  # fmt: skip
    assert list(sweep.search.space) == axes
    # Said of the control, which has no value of one application of an operator, and of no other part.
    assert notes(sweep) == []


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("side", [4, 20])
def test_images_of_ones_own(tmp_path: Path, side: int, labelled: bool) -> None:
    data = archive(tmp_path / "mine.npz", side, labelled=labelled)
    sweep = load(str(ls.init("own.yaml", data=data, question="rank")))
    assert sweep.base_leaves["data.root"] == str(data)
    assert sweep.base_leaves["model.operators.by"] == ("label" if labelled else "cluster")
    assert max(sweep.search.space["model.operator.rank"].edges()) <= side * side
    assert sweep.base_leaves["train.batch_size"] <= 320 // 4


def test_what_is_not_there_yet_is_fetched_when_it_is_planned() -> None:
    values = yaml.safe_load(ls.init("m.yaml", data="mnist").read_text())
    assert values["data"] == {"name": "mnist", "download": True}
    assert values["model"]["flow"]["frame"] == "principal"


def test_every_part_has_a_comment() -> None:
    lines = ls.init("first.yaml").read_text().splitlines()
    assert lines[0].startswith("# How do the depth of g and the rank of A affect quality?")
    for number, line in enumerate(lines):
        if line and line[0] not in "# ":
            assert (
                "#" in line
                or lines[number - 1].startswith("#")
                or lines[number + 1].lstrip().startswith("#")
                or ("#" in lines[number + 1])
            ), line


def test_nothing_is_overwritten(run_cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("spec.yaml").write_text("mine")
    assert run_cli("init") == 2
    assert capsys.readouterr().err == "spec.yaml: exists already and was left unchanged; choose another file\n"
    assert Path("spec.yaml").read_text() == "mine"


def test_without_a_terminal_it_takes_the_defaults_and_says_what_is_next(
    run_cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("init", "my sweep.yaml", "--question", "best") == 0
    assert capsys.readouterr().out == "written: my sweep.yaml. Next: linsweep plan 'my sweep.yaml'\n"
    assert load("my sweep.yaml").name == "my-sweep"


def test_on_a_terminal_it_asks(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["digits", "idempotents", "idempotent", "rank"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt="": next(answers))
    monkeypatch.setattr("typer._click.termui.visible_prompt_func", lambda prompt="": next(answers))
    assert run_cli("init", "asked.yaml") == 0
    sweep = load("asked.yaml")
    assert (sweep.base["family"], list(sweep.search.space)) == ("idempotent", ["model.operator.rank"])
    assert "idempotents is not one of diffusion, idempotent, style" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"family": "diffusio"}, "--family: diffusio is not known; did you mean diffusion?"),
        ({"question": "all"}, "--question: all is not known; "),
        ({"data": "no/folder"}, "--data: no/folder is not a data set (digits, mnist, "),
        ({"data": "empty"}, "--data: "),
        ({"path": "no/folder/spec.yaml"}, "no/folder/spec.yaml: cannot be written: No such file or directory"),
        ({"name": "a/b"}, "spec.yaml: name: "),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(given: dict[str, str], said: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(InputError) as caught:
        ls.init(**given)
    assert str(caught.value).startswith(said)
    assert [path.name for path in Path().iterdir()] == ["empty"]
