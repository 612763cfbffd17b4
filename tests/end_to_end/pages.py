"""MLflow's pages of a sweep in a browser: what is on them, and pictures of them.

    python -m tests.end_to_end.pages STORAGE SWEEP FOLDER

writes the pictures of a recorded sweep that the documentation shows.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.end_to_end.lab import Linsweep, free_port, wait_until

CHROMIUM = Path("/usr/bin/chromium")
SECONDS = 60
WIDE, HIGH = 1440, 900

CHARTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
  xtype: plot._fullLayout.xaxis ? plot._fullLayout.xaxis.type : null,
  card: (plot.closest('[data-testid="experiment-view-compare-runs-card"]') || document.body).innerText,
  traces: plot.data.map(trace => ({type: trace.type, name: trace.name || '', x: [...(trace.x || [])]})),
}))"""
"""What the charts on a page draw."""


@dataclass(frozen=True)
class Served:
    """A storage folder that ``linsweep ui`` serves, and what it printed."""

    uri: str
    links: dict[str, str]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)


@contextmanager
def served(linsweep: Linsweep) -> Iterator[Served]:
    """``linsweep ui`` for a folder's sweeps, until the end."""
    port = free_port()
    process = linsweep.start("ui", "--port", str(port))
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in first, first
        links = {}
        sweeps = len(list((linsweep.folder / "runs").glob("*/sweep.json")))
        for _ in range(sweeps):
            name, link = process.stdout.readline().split()
            links[name] = link
        # What the server says from here on is not read: it must not fill a pipe.
        subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        uri = f"http://127.0.0.1:{port}"
        wait_until("the server answers", lambda: _answers(uri), 120, lambda: process.poll() is None or "it ended")
        yield Served(uri, links)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _answers(uri: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a browser without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDE, "height": HIGH})
        page.set_default_timeout(SECONDS * 1000)
        yield page
        chromium.close()


def open_comparison(page: Page, link: str, charts: bool = True) -> None:
    """The page of a sweep's trials, with its charts or with its table alone."""
    page.goto(link if charts else link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    page.wait_for_selector(".ag-row")
    _close_assistant(page)
    if charts:
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")
    else:
        page.wait_for_selector('.ag-row .ag-cell[col-id^="metrics."]')


def _close_assistant(page: Page) -> None:
    """Away with what takes a quarter of the page."""
    page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]').click()


def columns(page: Page) -> list[str]:
    """The columns of the table, by MLflow's names for them."""
    return [str(header.get_attribute("col-id")) for header in page.locator(".ag-header-cell").all()]


def column(page: Page, name: str) -> list[str]:
    """What a column of the table shows, from top to bottom."""
    return page.evaluate(
        """name => [...document.querySelectorAll('.ag-row')].flatMap(row =>
        [...row.querySelectorAll('.ag-cell')].filter(cell => cell.getAttribute('col-id') === name)
        .map(cell => [row.rowIndex || Number(row.getAttribute('row-index')), cell.innerText]))
        .sort((a, b) => a[0] - b[0]).map(pair => pair[1])""",
        name,
    )


def drawn(page: Page) -> list[dict[str, Any]]:
    """The charts on a page: the type of the x axis, the words on the card, and every trace with its x values."""
    found: list[dict[str, Any]] = page.evaluate(CHARTS)
    return found


def open_differences(page: Page, server: Served, runs: list[str], experiment: str) -> None:
    """The page that compares runs column by column, where only what differs is shown of the parameters."""
    chosen = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([experiment]))}"
    page.goto(f"{server.uri}/#/compare-runs?{chosen}")
    page.wait_for_selector("text=Show diff only")
    _close_assistant(page)
    page.get_by_text("Show diff only").first.click()
    page.get_by_text("Parameters", exact=True).last.scroll_into_view_if_needed()


def main() -> None:
    """Write the pictures."""
    storage, sweep, target = (Path(word) for word in sys.argv[1:])
    with served(Linsweep(storage.parent)) as server:
        link = server.links[sweep.name]
        experiment = server.client.get_experiment_by_name(sweep.name)
        assert experiment is not None
        runs = server.client.search_runs([experiment.experiment_id], "tags.`sweep.kind` = 'search'", max_results=3)
        identities = [run.info.run_id for run in runs]
        pictures: dict[str, Callable[[Page], None]] = {
            "mlflow_runs": lambda page: open_comparison(page, link, charts=False),
            "mlflow_charts": lambda page: open_comparison(page, link),
            "mlflow_compare": lambda page: open_differences(page, server, identities, experiment.experiment_id),
        }
        for name, show in pictures.items():
            with browser() as page:
                show(page)
                page.wait_for_timeout(2000)  # what moves comes to rest
                picture = Image.open(io.BytesIO(page.screenshot()))
            picture.convert("RGB").quantize(128).save(target / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
