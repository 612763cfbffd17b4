"""What a user sees of a sweep in MLflow, in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.lab import Linsweep

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.pages import Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(find_spec("playwright") is None, reason="needs the package playwright"),
    pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="needs the browser /usr/bin/chromium"),
]

RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"
"""A sweep of 16 trials and references, with two seeds a configuration."""

STEPS, TRIALS = [1, 4], 16
DEPTH, RANK = "model.flow.depth", "model.operator.rank"
OBJECTIVE = "quality/swd_collapsed"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A recorded sweep behind ``linsweep ui``."""
    from tests.end_to_end.pages import served

    linsweep = Linsweep(tmp_path_factory.mktemp("pages"))
    shutil.copytree(RECORDED / "before", linsweep.folder / "runs" / "before")
    linsweep.run("sync", "before")
    with served(linsweep) as server:
        yield server


@pytest.fixture
def page() -> Iterator[Page]:
    from tests.end_to_end.pages import browser

    with browser() as page:
        yield page


def test_the_run_table_shows_configurations_best_first_and_references_folded(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import column, columns, open_comparison

    page.set_viewport_size({"width": 1440, "height": 2000})  # rows out of sight are not on the page
    open_comparison(page, server.links["before"], charts=False)
    wanted = {f"params.`{DEPTH}`", f"params.`{RANK}`", f"metrics.`{OBJECTIVE}`", "metrics.`cost/params`"}
    assert wanted <= set(columns(page))
    rows = list(zip(column(page, "attributes.`Run Name`"), column(page, f"metrics.`{OBJECTIVE}`"), strict=True))
    groups = [(name.split("Group:")[1].split()[0], value) for name, value in rows if "Group:" in name]
    assert {name for name, _ in groups} >= {"t000", "t001", "t002", "t003", "k000", "c000"}
    # References belong to no configuration: MLflow folds them into one row.
    text = "\n".join(name for name, _ in rows)
    assert "Additional runs" in text
    assert "real against real" not in text
    means = [float(value.split()[0]) for _, value in groups if value.strip() not in ("", "-")]
    assert means == sorted(means)


def test_the_pages_are_those_for_training_models(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import open_comparison

    open_comparison(page, server.links["before"])
    sidebar = page.inner_text("body")
    assert "Prompts" not in sidebar
    assert "before: trials side by side" in sidebar


def test_charts_take_half_of_what_the_table_leaves(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import open_comparison

    open_comparison(page, server.links["before"])
    box = page.locator(".js-plotly-plot").first.bounding_box()
    assert box is not None
    assert box["width"] > 380
    assert box["height"] > 280


def test_the_charts_draw_quality_against_solver_steps(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import drawn, open_comparison

    open_comparison(page, server.links["before"])
    charts = [chart for chart in drawn(page) if chart["card"].startswith("nfe/")]
    assert charts
    for chart in charts:
        # A line a configuration, of its seeds' mean, with the points that it goes through.
        lines = [trace for trace in chart["traces"] if trace["x"] == STEPS]
        assert chart["xtype"] == "log"
        assert 3 <= len(lines) < TRIALS
        assert "t000 depth=2 rank=8" in chart["card"]
        assert "t000-s0" not in chart["card"]


def test_the_compare_page_shows_what_differs(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import open_differences

    experiment = server.client.get_experiment_by_name("before")
    assert experiment is not None
    runs = {run.data.tags["sweep.trial_id"]: run for run in server.client.search_runs([experiment.experiment_id])}
    first, second = runs["t000-s0"], runs["t001-s0"]
    open_differences(page, server, [first.info.run_id, second.info.run_id], experiment.experiment_id)
    text = page.inner_text("body")
    names = set(first.data.params) | set(second.data.params)
    differing = {name for name in names if first.data.params.get(name) != second.data.params.get(name)}
    assert RANK in differing
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines()}
    for name in differing:
        assert rows[name] == [first.data.params[name], second.data.params[name]]
    assert [name for name in names - differing if name in rows] == []
