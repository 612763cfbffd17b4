"""What a user sees of a sweep in MLflow, in a browser."""

from __future__ import annotations

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

STEPS = [1, 4, 16, 64]
DEPTH, RANK = "model.flow.depth", "model.operator.rank"
OBJECTIVE = "quality/classifier_fd_collapsed"


@pytest.fixture(scope="module")
def server(linsweep: Linsweep) -> Iterator[Served]:
    """A sweep of real trials behind ``linsweep ui``."""
    from tests.end_to_end.pages import served

    more = ["--set", "search.trials=8", "--set", f"evaluate.steps={STEPS}", "--set", "search.stop_early=null"]
    linsweep.run("launch", "tiny.yaml", "--set", "name=pages", "--fresh", *more)
    with served(linsweep) as server:
        yield server


@pytest.fixture
def page() -> Iterator[Page]:
    from tests.end_to_end.pages import browser

    with browser() as page:
        yield page


def test_the_run_table_shows_the_trials_best_first(server: Served, page: Page, linsweep: Linsweep) -> None:
    from tests.end_to_end.pages import column, columns, open_comparison

    open_comparison(page, server.links["pages"], charts=False)
    names = [name.split()[1] for name in column(page, "attributes.`Run Name`")]
    assert sorted(names) == linsweep.trials("pages")
    wanted = {f"params.`{DEPTH}`", f"params.`{RANK}`", f"metrics.`{OBJECTIVE}`", "metrics.`cost/params`"}
    assert wanted <= set(columns(page))
    shown = [float(cell) for cell in column(page, f"metrics.`{OBJECTIVE}`") if cell not in ("", "-")]
    assert len(shown) >= 8
    assert shown == sorted(shown)


def test_the_charts_draw_quality_against_solver_steps(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import drawn, open_comparison

    open_comparison(page, server.links["pages"])
    charts = [chart for chart in drawn(page) if chart["card"].startswith("nfe/")]
    assert charts
    for chart in charts:
        lines = {trace["name"] for trace in chart["traces"] if trace["x"] == STEPS}
        assert chart["xtype"] == "log"
        assert len(lines) >= 8


def test_the_compare_page_shows_what_differs(server: Served, page: Page) -> None:
    from tests.end_to_end.pages import open_differences

    experiment = server.client.get_experiment_by_name("pages")
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
