"""Journals are read again when, and only when, they changed; and whatever is wrong with the cache, nothing else is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis import load
from analysis.record import journals
from analysis.record.cache import FILE, KEY
from linearizer_core.experiment.journal import JournalWarning
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles, assert_same

POINT = {DEPTH: 3, RANK: 16, LR: 2e-3}


@pytest.fixture
def files(tmp_path: Path) -> SweepFiles:
    """A sweep of three trials and a journal whose first line is cut off."""
    files = SweepFiles(tmp_path, tick=0.1)
    for number in range(3):
        files.finished(number, POINT, float(number), curve={1: 2.0 + number, 2: 1.0})
        files.epoch(f"t{number:03d}-s0", 1, 5.0)
    files.journal("t003-s0").write_text("")
    return files


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the journals that are opened, as they are."""
    names: list[str] = []
    original = journals.read_journal

    def spy(path: Path, numbers: dict[str, int]) -> Any:
        names.append(path.stem)
        return original(path, numbers)

    monkeypatch.setattr(journals, "read_journal", spy)
    return names


def test_only_what_changed_is_read_again(files: SweepFiles, read: list[str]) -> None:
    first = load(files.path)
    assert read == ["t000-s0", "t001-s0", "t002-s0", "t003-s0"]
    read.clear()
    assert_same(load(files.path), first)
    assert read == []
    files.add("t001-s0", "curve", metric="nfe/another", steps=[1], values=[7.0])
    files.finished(4, {**POINT, LR: 1}, 4.0)
    files.journal("t000-s0").unlink()
    grown = load(files.path)
    assert read == ["t001-s0", "t004-s0"]
    assert grown.runs["trial"].tolist() == ["t001-s0", "t002-s0", "t004-s0"]
    assert grown.curves.loc[grown.curves["metric"] == "nfe/another", "value"].tolist() == [7.0]
    (files.path / FILE).unlink()
    assert_same(load(files.path), grown)


def test_a_journal_of_the_same_size_written_later_is_read_again(files: SweepFiles, read: list[str]) -> None:
    load(files.path)
    read.clear()
    path = files.journal("t001-s0")
    modified = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace(f'"{FD}": 1.0', f'"{FD}": 9.0'))
    os.utime(path, ns=(modified + 1, modified + 1))
    assert load(files.path).runs[FD].tolist() == [0.0, 9.0, 2.0]
    assert read == ["t001-s0"]


def test_the_state_of_the_sweep_is_never_cached(files: SweepFiles) -> None:
    files.begin("t005-s0", 5, POINT)
    assert load(files.path).runs["state"].tolist()[-1] == "interrupted"
    files.sweep["state"] = "running"
    files.write_sweep()
    assert load(files.path).runs["state"].tolist()[-1] == "running"


@pytest.mark.parametrize("content", [b"", b"PAR1 but nothing else", None])
def test_a_broken_cache_is_rebuilt(files: SweepFiles, read: list[str], content: bytes | None) -> None:
    expected = load(files.path)
    cache = files.path / FILE
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2] if content is None else content)
    read.clear()
    assert_same(load(files.path), expected)
    assert len(read) == 4
    read.clear()
    load(files.path)
    assert read == []


def test_the_cache_of_another_version_is_rebuilt(files: SweepFiles, read: list[str]) -> None:
    load(files.path)
    table = pq.read_table(files.path / FILE)
    pq.write_table(table.replace_schema_metadata({KEY: b'{"version": 0}'}), files.path / FILE)
    read.clear()
    load(files.path)
    assert len(read) == 4


def test_a_cache_with_other_columns_is_rebuilt(files: SweepFiles, read: list[str]) -> None:
    load(files.path)
    pq.write_table(pq.read_table(files.path / FILE).drop_columns(["trial"]), files.path / FILE)
    read.clear()
    load(files.path)
    assert len(read) == 4


def test_a_folder_that_cannot_be_written_to_is_read_without(files: SweepFiles, read: list[str]) -> None:
    # Where the cache would be is a folder: nothing can take its place, even for root.
    (files.path / FILE).mkdir()
    first = load(files.path)
    assert_same(load(files.path), first)
    assert len(read) == 8
    assert [path.name for path in files.path.iterdir() if path.name.endswith(".part")] == []


def test_what_cannot_be_read_is_told_of_from_the_cache_as_well(files: SweepFiles, read: list[str]) -> None:
    with files.journal("t001-s0").open("a") as file:
        file.write("not json\n")
    for opened in (4, 0):
        with pytest.warns(JournalWarning, match=r"t001-s0\.jsonl:\d+: is not a JSON object") as told:
            load(files.path)
        assert len(told) == 1
        assert len(read) == opened
        read.clear()
