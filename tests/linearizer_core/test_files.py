"""Files are written whole: whatever fails, the old file or the new one is there, and nothing beside it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from linearizer_core.experiment.checkpoint import CheckpointError, load, save
from linearizer_core.experiment.configuration import FlowConfig, ModelConfig, OperatorConfig, TrialConfig
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.state import load_state, save_state
from linearizer_core.files import remove_unfinished, whole, write_whole

CONFIG = TrialConfig(
    model=ModelConfig(
        flow=FlowConfig(frame="pixels", depth=1, width=8, mixing="lu"),
        operator=OperatorConfig(kind="time_lowrank", rank=3),
    )
)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int, code: int) -> list[int]:
    """The ``number``-th call of a function of ``os`` fails with a code; the calls so far."""
    real: Callable[..., Any] = getattr(os, name)
    calls: list[int] = []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls) + 1)
        if calls[-1] == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, call)
    return calls


def test_content_and_name_are_both_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, "fsync", 0, 0)
    write_whole(tmp_path / "a" / "note.json", "naïve\n")
    assert (tmp_path / "a" / "note.json").read_bytes() == "naïve\n".encode()
    assert len(calls) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_flush_leaves_the_old_file_alone_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "note.json"
    write_whole(path, "old")
    failing(monkeypatch, "fsync", 1, code)
    with pytest.raises(OSError, match=r"note\.json") as caught:
        write_whole(path, "new")
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.json"]


def test_a_file_system_that_flushes_no_folders_is_none_the_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "fsync", 2, errno.EINVAL)
    write_whole(tmp_path / "note.json", "new")
    assert (tmp_path / "note.json").read_text() == "new"


def test_two_that_write_one_file_do_not_share_a_half(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    with whole(path) as first, whole(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["note.json"]


def test_what_crashes_have_left_of_a_file_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.pt.0123.part", ".b.pt.0123.part", "a.pt"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "a.pt")
    assert sorted(names(tmp_path)) == [".b.pt.0123.part", "a.pt"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_state_survives_every_failed_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "a.pt"
    save_state(path, {"epoch": torch.tensor(1)})
    failing(monkeypatch, "fsync", number, errno.EIO)
    with pytest.raises(OSError, match=r"a\.pt"):
        save_state(path, {"epoch": torch.tensor(2)})
    loaded = load_state(path)
    assert loaded.damaged == []
    assert loaded.state is not None
    assert int(loaded.state["epoch"]) == number  # the second flush is the folder's: the new file stands by then
    assert not list(tmp_path.glob(".*"))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.linearizer_core.test_files import CONFIG, family_of, save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    save(Path(sys.argv[1]), family_of(CONFIG).build(CONFIG, (1, 4, 4)), CONFIG)
except OSError as error:
    print(error.filename)
"""


def test_a_checkpoint_that_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    """The system refuses to let the file grow."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/model.safetensors\n"), done.stderr
    assert names(tmp_path) == []


def test_changed_weights_are_not_loaded(tmp_path: Path) -> None:
    model = family_of(CONFIG).build(CONFIG, (1, 4, 4))
    save(tmp_path, model, CONFIG)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*its SHA-256 differs from the saved one"):
        load(tmp_path)


def test_a_checkpoint_of_before_there_were_digests_is_read(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "records/b428e36/runs/before/artifacts/t000-s0/checkpoint"
    assert "sha256" not in (folder / "config.json").read_text()
    load(folder)
