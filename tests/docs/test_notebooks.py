"""The notebooks run from top to bottom, and what is stored of them is small and knows no machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's connection, which nothing here chooses
@notebooks
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = read(path)
    before = [len(cell.get("outputs", [])) > 0 for cell in notebook.cells]
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [any(each.get("name") != "stderr" for each in cell.get("outputs", [])) for cell in notebook.cells]
    assert shown == before, "the stored outputs are of other cells: run the notebook again and store it"


@notebooks
def test_what_is_stored_is_small_and_knows_no_machine(path: Path) -> None:
    assert path.stat().st_size < 200_000
    stored = str(outputs(read(path)))
    assert re.findall(r"/(?:home|root|tmp|usr)/", stored) == []


def test_there_are_notebooks_and_they_show_what_they_give() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"first-sweep", "record", "algebra"}
    assert all(len(outputs(read(path))) >= 5 for path in NOTEBOOKS)
