"""What is best over several data sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis import Record, RecordError, critical_difference, load, performance_profiles
from analysis.configuration.blocks import FITTED, REAL, blocks_of
from analysis.configuration.configurations import Configurations
from analysis.report.list_of_figures import list_of_figures
from analysis.report.list_of_tables import ablation_tables, statistics_tables
from analysis.report.write import write_tables
from analysis.statistics.tests import holm
from analysis.tables.across import across_sets
from tests.analysis.record_factory import DEPTH, FD, RANK, SweepFiles, frame_of, point

SCALES = {"digits": 1.0, "mnist": 4.0, "fashion-mnist": 9.0, "cifar10": 30.0, "folder": 2.0, "npz": 15.0}


def one_set(
    folder: Path,
    name: str,
    values: Mapping[tuple[int, int], float],
    seeds: int = 3,
    lr: float = 2e-3,
    sweep: str | None = None,
    **config: object,
) -> SweepFiles:
    """A sweep on a data set: a value a depth and rank, to which seed s adds s tenths of the data set's scale."""
    files = SweepFiles(folder, sweep or name, seeds=range(seeds))
    for number, ((depth, rank), value) in enumerate(values.items()):
        for seed in range(seeds):
            trial = f"t{number:03d}-s{seed}"
            leaves = {"data.name": name, **config}
            digest = f"{files.name}{number}"  # the data set is part of what a configuration is
            files.begin(trial, number, point(depth, rank, lr), seed=seed, config=leaves, config_hash=digest)
            files.complete(trial, value + 0.1 * seed * SCALES[name])
    return files


def several(folder: Path) -> Record:
    """Six data sets of their own scale and learning rate; depth 4 is best on all but one, rank matters little."""
    rng, paths = np.random.default_rng(0), []
    for place, (name, scale) in enumerate(SCALES.items()):
        shift = {1: 3.0, 2: 2.0, 4: 1.0 if place else 2.5}
        values = {(d, r): scale * (10 + shift[d] + 0.05 * float(rng.normal())) for d in (1, 2, 4) for r in (4, 16)}
        paths.append(one_set(folder, name, values, lr=1e-3 * (place + 1)).path)
    return load(paths)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return several(tmp_path_factory.mktemp("several"))


def test_configurations_are_matched_by_what_differs_within_a_data_set(record: Record) -> None:
    """The learning rate, an axis, differs from set to set only: it goes with the data set and tells no two apart."""
    found = blocks_of(Configurations(record), "data.name", "model.flow.depth")
    assert found.methods == ("depth 1", "depth 2", "depth 4")
    assert found.unit == "configurations"
    whole = blocks_of(Configurations(record), "data.name")
    assert len(whole.methods) == 6
    assert whole.methods[0] == "depth 1, rank 4"
    assert whole.unit == "seeds"
    assert set(whole.sets) == set(SCALES)


def test_ranks_and_tests_are_those_of_scipy(record: Record) -> None:
    table = across_sets(record, axis=DEPTH)
    frame = frame_of(table).set_index("method")
    searched = record.runs[record.runs["kind"] == "search"]
    means = searched.groupby([DEPTH, "data.name"])[FD].mean().unstack()
    ranks = means.rank().mean(axis=1)
    assert frame["mean rank"].to_dict() == pytest.approx({f"depth {depth}": rank for depth, rank in ranks.items()})
    raw = [stats.wilcoxon(means.loc[4], means.loc[depth]).pvalue for depth in (2, 1)]
    assert frame.loc[["depth 2", "depth 1"], "p wilcoxon"].tolist() == pytest.approx(holm(raw, 3).tolist())
    chi2 = stats.friedmanchisquare(*means.to_numpy()).statistic
    assert f"χ² = {chi2:.3g}" in table.notes[0]
    assert frame.loc["depth 2", f"{FD} on digits"] == pytest.approx(means.loc[2, "digits"])
    marked = {row.cells[0].value: row.cells[1].marker for row in table.rows}
    assert marked == {"depth 4": "", "depth 2": "~", "depth 1": ""}


def test_scores_go_from_the_worst_to_the_best_mean_unless_both_references_were_measured(tmp_path: Path) -> None:
    values = {(1, 4): 12.0, (2, 4): 9.0, (4, 4): 6.0}
    paths = [one_set(tmp_path, name, values, seeds=1).path for name in ("digits", "mnist")]
    found = blocks_of(Configurations(load(paths)), "data.name")
    assert [found.scores(method)[1].item() for method in found.methods] == pytest.approx([0, 0.5, 1])
    for name in ("digits", "mnist"):
        files = one_set(tmp_path / "more", name, values, seeds=1)
        for number, (label, value) in enumerate(((REAL, 4.0), (FITTED, 24.0))):
            files.begin(f"r{number:03d}", number, {"data.name": name}, kind="reference", label=label, seed=None)
            files.complete(f"r{number:03d}", value)
    scaled = blocks_of(Configurations(load(tmp_path / "more")), "data.name")
    assert [scaled.scores(method)[0].item() for method in scaled.methods] == pytest.approx([0.6, 0.75, 0.9])
    assert "Gaussian" in scaled.scaled


def test_what_is_not_on_every_data_set_is_left_out_and_counted(tmp_path: Path) -> None:
    first = one_set(tmp_path, "digits", {(1, 4): 5.0, (2, 4): 4.0, (4, 4): 3.0}, seeds=1)
    second = one_set(tmp_path, "mnist", {(1, 4): 50.0, (2, 4): 40.0}, seeds=1)
    table = across_sets(load([first.path, second.path]))
    assert [row.cells[0].value for row in table.rows] == ["depth 2", "depth 1"]
    assert "Left out: 1 that does not have a value for every data.name." in table.notes
    assert any("No difference can be significant" in note for note in table.notes)


def test_a_leaf_that_differs_on_one_data_set_tells_configurations_apart(tmp_path: Path) -> None:
    """Two families on two data sets, a sweep each: depth 1 of one family is not depth 1 of the other."""
    paths = []
    for family, better in (("diffusion", 0.0), ("flow_matching", 3.0)):
        for name in ("digits", "mnist"):
            values = {(1, 4): 9.0 - better, (2, 4): 8.0 - better}
            both = one_set(tmp_path, name, values, seeds=1, sweep=f"{name}-{family}", family=family)
            paths.append(both.path)
    record = load(paths)
    table = across_sets(record)
    assert table.rows[0].cells[0].value == "depth 2, family flow_matching"
    assert len(table.rows) == 4
    assert across_sets(record, axis="family").rows[0].cells[0].value == "family flow_matching"


def test_each_sweep_may_be_a_data_set(record: Record) -> None:
    assert frame_of(across_sets(record, "sweep", DEPTH)).equals(frame_of(across_sets(record, "data.name", DEPTH)))


def test_what_cannot_be_compared_is_refused_with_what_would_be_right(record: Record, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no key of a configuration 'data.nam'; did you mean data.name"):
        across_sets(record, "data.nam")
    with pytest.raises(RecordError, match=r"no axis 'model.flow.dept'"):
        across_sets(record, axis="model.flow.dept")
    with pytest.raises(RecordError, match="cannot be compared across itself"):
        across_sets(record, DEPTH, DEPTH)
    with pytest.raises(RecordError, match=r"no configuration has values on all of .*; --rows AXIS compares"):
        across_sets(
            load(
                [
                    one_set(tmp_path / "a", name, {(place, 4): 5.0, (place + 2, 4): 6.0}).path
                    for place, name in enumerate(("digits", "mnist"), 1)
                ]
            )
        )
    one = load([one_set(tmp_path, "digits", {(1, 4): 5.0, (2, 8): 4.0}).path])
    with pytest.raises(RecordError, match=r"two data sets or more, but data.name is always digits"):
        across_sets(one)
    with pytest.raises(RecordError, match=r"one value of model.operator.rank has"):
        across_sets(
            load([one_set(tmp_path / "b", name, {(1, 4): 5.0}).path for name in ("digits", "mnist")]), axis=RANK
        )
    with pytest.raises(RecordError, match="--across replaces --cols"):
        ablation_tables(record, cols=RANK, across="data.name")


def test_unequal_training_on_one_data_set_is_refused_and_between_data_sets_is_not(tmp_path: Path) -> None:
    values = {(1, 4): 5.0, (2, 4): 4.0}
    first = one_set(tmp_path, "digits", values, seeds=1)
    second = one_set(tmp_path, "mnist", values, seeds=1, **{"train.steps": 7})
    assert len(across_sets(load([first.path, second.path])).rows) == 2
    other = SweepFiles(tmp_path, "longer", seeds=(0,))
    other.begin("t000-s0", 0, point(4, 4), config={"data.name": "digits"})
    other.add("t000-s0", "summary", metrics={FD: 3.0})
    other.end("t000-s0", epoch=200)
    with pytest.raises(RecordError, match="on digits would compare unequal training"):
        across_sets(load([first.path, second.path, other.path]))


def test_the_diagram_joins_what_is_not_told_apart_and_names_all(record: Record) -> None:
    figure = critical_difference(record, axis=DEPTH)
    assert [mark.item for mark in figure.marks if mark.series == "mean ranks"] == ["depth 4", "depth 2", "depth 1"]
    joined = [mark.told[0] for mark in figure.marks if mark.series == "no significant difference"]
    assert joined == [f"no significant difference: {pair}" for pair in ("depth 4, depth 2", "depth 2, depth 1")]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"depth 1", "depth 2", "depth 4", "critical difference 1.35"} <= set(texts)


def test_names_of_a_diagram_stay_in_the_frame_and_off_each_other(record: Record) -> None:
    figure = critical_difference(record)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for place, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_profiles_fall_from_all_runs_to_none(record: Record) -> None:
    figure = performance_profiles(record, axis=DEPTH)
    for line in figure.axes[0].get_lines():
        shares = np.asarray(line.get_ydata(), dtype="float64")
        assert shares[0] == 1
        assert shares[-1] == 0
        assert (np.diff(shares) <= 0).all()


def test_the_table_and_its_figures_are_written_and_the_report_has_them(record: Record) -> None:
    folders = [Path(sweep.source).parent for sweep in record.sweeps]
    written = write_tables(folders, rows=DEPTH, across="data.name")
    assert {"across.csv", "critical_difference.png", "performance_profiles.svg"} <= {p.name for p in written.files}
    assert "across" in [table.name for table in statistics_tables(record).made]
    names = [figure.name for figure in list_of_figures(record).made]
    assert {"critical-difference", "performance-profiles"} <= set(names)
