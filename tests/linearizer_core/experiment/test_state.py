"""Saved states: whole or not there, the newest that can be read, and what a failure leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import linearizer_core
from linearizer_core.experiment.state import load_state, remove_state, save_state

ROOT = Path(linearizer_core.__file__).parents[1]


def state(number: int) -> dict[str, Any]:
    weights = torch.full((1000,), float(number))
    return {"trainer": {"epoch": number, "weights": weights}, "seconds": number / 2}


def number_of(loaded: dict[str, Any] | None) -> int | None:
    if loaded is None:
        return None
    assert bool((loaded["trainer"]["weights"] == loaded["trainer"]["epoch"]).all())
    return int(loaded["trainer"]["epoch"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "training" / "t000-s0.pt"


def test_the_newest_is_loaded_and_the_one_before_kept(path: Path) -> None:
    assert load_state(path).state is None
    for number in (1, 2, 3):
        save_state(path, state(number))
        assert number_of(load_state(path).state) == number
    assert sorted(file.name for file in path.parent.iterdir()) == ["t000-s0.before.pt", "t000-s0.pt"]
    path.unlink()  # as a crash between two renames leaves it
    found = load_state(path)
    assert (number_of(found.state), found.damaged) == (2, [])
    remove_state(path)
    assert list(path.parent.iterdir()) == []
    remove_state(path)


@pytest.mark.parametrize("place", ["first", "digest", "middle", "last", "cut", "empty", "longer", "another program's"])
def test_whatever_is_changed_in_a_file_is_noticed(place: str, path: Path) -> None:
    for number in (1, 2):
        save_state(path, state(number))
    content = bytearray(path.read_bytes())
    at = {"first": 0, "digest": 30, "middle": len(content) // 2, "last": -1}
    if place in at:
        content[at[place]] ^= 1
    changed = {"cut": content[:-100], "empty": b"", "longer": content + b"0", "another program's": b"PK\3\4" * 100}
    path.write_bytes(changed.get(place, content))
    found = load_state(path)
    assert number_of(found.state) == 1
    (said,) = found.damaged
    assert said.startswith("t000-s0.pt: ")
    # What is saved next does not rest on the damaged one.
    save_state(path, state(3))
    assert number_of(load_state(path).state) == 3


def test_a_file_with_a_right_digest_of_something_else_is_refused(path: Path) -> None:
    """Only tensors and plain values are read: a file from elsewhere cannot run code."""
    save_state(path, {"trainer": Path("/")})
    found = load_state(path)
    assert found.state is None
    assert len(found.damaged) == 1


LIMITED = """
import resource, signal, sys, torch
from pathlib import Path
from linearizer_core.experiment.state import save_state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
save_state(path, {"weights": torch.ones(10)})
before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_state(path, {"weights": torch.ones(100_000)})
except OSError as error:
    print(error.strerror)
assert before == {file.name: file.read_bytes() for file in path.parent.iterdir()}
"""


def test_a_state_that_cannot_be_written_leaves_the_older_ones_alone(path: Path) -> None:
    """The system refuses to let the file grow."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "File too large\n"), done.stderr
    assert load_state(path).damaged == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "training").write_text("a file")
    with pytest.raises(OSError, match="training"):
        save_state(tmp_path / "training" / "a.pt", state(1))
