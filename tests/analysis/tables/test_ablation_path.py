"""From a base configuration to the best, one change at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis import RecordError, load
from analysis.tables.ablation_path import NOT_MEASURED, ablation_path
from tests.analysis.record_factory import FD, SweepFiles, nested, point

Place = tuple[int, int, float]
BASE: Place = (1, 4, 0.001)


def searched(folder: Path, values: Mapping[Place, float], base: Place = BASE, seeds: int = 3) -> SweepFiles:
    """Configurations with those values; seeds shift all alike, and each a little by itself."""
    files = SweepFiles(folder, seeds=range(seeds))
    files.sweep["spec"] |= nested(point(*base))
    files.write_sweep()
    for number, (place, value) in enumerate(values.items()):
        for seed in range(seeds):
            own = 0.1 * ((seed + number) % 3 - 1)
            files.finished(number, point(*place), value + 5 * seed + own, seed=seed)
    return files


def steps(files: SweepFiles, **options: str) -> list[str]:
    return [str(row.cells[0].value) for row in ablation_path(load([files.path]), **options).rows]  # type: ignore[arg-type]


WHOLE = {
    BASE: 20.0, (4, 4, 0.001): 18.0, (1, 16, 0.001): 12.0, (1, 4, 0.003): 19.0, (4, 16, 0.001): 9.0,
    (4, 4, 0.003): 17.0, (1, 16, 0.003): 11.0, (4, 16, 0.003): 8.0,
}  # fmt: skip


def test_where_all_is_measured_the_path_is_that_of_the_best_values(tmp_path: Path) -> None:
    """By rank, then depth: 20 + 12 + 9 + 8, less than by any other order."""
    files = searched(tmp_path, WHOLE)
    assert steps(files) == ["base: depth 1, rank 4, lr 0.001", "rank: 4 → 16", "depth: 1 → 4", "lr: 0.001 → 0.003"]
    table = ablation_path(load([files.path]))
    gaps = [row.cells[3] for row in table.rows[1:]]
    assert [gap.value for gap in gaps] == pytest.approx([-8, -3, -1])
    assert all(gap.count == 3 and gap.half_width is not None and gap.half_width < 1 for gap in gaps)
    assert table.rows[3].cells[1].value == "t007"


def test_the_path_goes_by_what_was_measured_and_says_what_was_not(tmp_path: Path) -> None:
    left = {place: value for place, value in WHOLE.items() if place in (BASE, (1, 4, 0.003), (4, 16, 0.003))}
    files = searched(tmp_path, left)
    table = ablation_path(load([files.path]))
    assert [row.cells[0].value for row in table.rows][1] == "lr: 0.001 → 0.003"
    assert [row.cells[2].reason for row in table.rows] == ["", "", NOT_MEASURED, ""]
    assert table.rows[3].cells[3].value == pytest.approx(-11)  # from the one measured before
    assert table.notes[0].startswith("3 of 4 configurations on the way were measured")


def test_the_base_may_be_a_configuration_and_need_not_be_measured(tmp_path: Path) -> None:
    files = searched(tmp_path, {place: value for place, value in WHOLE.items() if place != BASE})
    table = ablation_path(load([files.path]))
    assert table.rows[0].cells[2].reason == NOT_MEASURED
    assert table.rows[1].cells[3].value == ""
    assert steps(files, base="t003") == ["base: depth 4, rank 16, lr 0.001", "lr: 0.001 → 0.003"]


def test_what_has_no_way_is_refused(tmp_path: Path) -> None:
    ends = {place: WHOLE[place] for place in (BASE, (4, 16, 0.003))}
    with pytest.raises(RecordError, match="no configuration between the base and t001 was trained"):
        ablation_path(load([searched(tmp_path / "ends", ends).path]))
    record = load([searched(tmp_path / "whole", WHOLE).path])
    with pytest.raises(RecordError, match="t007 is the base and the best"):
        ablation_path(record, base="t007")
    with pytest.raises(RecordError, match="no finished configuration 't07'; did you mean t007"):
        ablation_path(record, base="t07")
    empty = SweepFiles(tmp_path, "empty")
    empty.stopped(0, point(), 3.0)
    with pytest.raises(RecordError, match=f"no configuration has finished with a value of {FD}"):
        ablation_path(load([empty.path]))
