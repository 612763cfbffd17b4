"""The report: one page that works by itself, an appendix that compiles, the same bytes each time.

Takes half a minute: a report draws eight figures in three formats.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis import Record, load
from analysis.figures.style import figure
from analysis.report.interactive import series_of, svg
from analysis.report.summary import question, summary
from analysis.report.write import export, write_report
from analysis.tables.cost import cost, failures, provenance
from sweeps import cli
from tests.analysis.figures.test_pictures import artifacts
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, assert_same

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NASTY = "ValueError: <script>alert(1)</script> \x1b[31m loss_a & 50 % of µ is \U0001f600"


def sweep(storage: Path, name: str = "demo") -> SweepFiles:
    """Depths 1 and 2 at ranks 4 and 8, two seeds, with everything that a record can have."""
    space = {DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8]}}
    files = SweepFiles(storage, name, seeds=(0, 1), space=space)
    for number, (depth, rank) in enumerate([(1, 4), (1, 8), (2, 4), (2, 8)]):
        for seed in (0, 1):
            value = 40.0 / (depth * rank) + seed
            curve = {1: 4 * value, 10: 2 * value, 100: value}
            more = {"cost/params": 100.0 * depth + rank, "test/classifier_fd_collapsed": value + 1}
            trial = files.finished(number, {DEPTH: depth, RANK: rank}, value, seed=seed, curve=curve, **more)
            artifacts(files, trial, rank, 50 * number)
    files.failed(4, {DEPTH: 2, RANK: 16}, NASTY)
    files.control(0, "g = <identity>", {DEPTH: 1, RANK: 64}, 99.0, curve={1: 300.0, 10: 200.0, 100: 99.0})
    files.reference(0, "real against real", 1.25)
    for seed in (7, 8):
        files.begin(f"k000-s{seed}", 3, {DEPTH: 2, RANK: 8}, kind="confirm", seed=seed)
        files.complete(f"k000-s{seed}", 3.0 + seed - 7, curve={1: 12.0, 10: 6.0, 100: 3.0 + seed - 7})
    return files


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep with its report."""
    folder = sweep(tmp_path_factory.mktemp("runs")).path
    write_report([folder])
    return folder


@pytest.fixture(scope="module")
def record(recorded: Path) -> Record:
    return load([recorded])


@pytest.fixture(scope="module")
def page(recorded: Path) -> str:
    return (recorded / "report" / "report.html").read_text(encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_question_names_what_was_searched(record: Record) -> None:
    assert question(record) == (
        "How do depth (1, 2) and rank (4, 8) affect collapsed classifier FD (lower is better) of diffusion models?"
    )


def test_the_answer_has_the_numbers(record: Record) -> None:
    # Of two seeds that differ by 1: t = 12.7062, half width 12.7062 * sqrt(0.5) / sqrt(2) = 6.353.
    assert summary(record).endswith(
        " Of 4 finished configurations t003 is best, with depth = 2, rank = 8, and reaches collapsed classifier FD = "
        "3.0 ± 6.4 (mean of 2 seeds, 95 % confidence interval); on the test split, which took no part in the choice, "
        "it has 4.0 ± 6.4; at 2 fresh seeds it has 3.5 ± 6.4; the next best, t001, has 5.5 ± 6.4; "
        "g = <identity> has 99.00 (1 of 2 finished); real against real has 1.25."
    )


def test_nothing_finished_is_no_answer(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.stopped(0, {DEPTH: 1, RANK: 4}, 5.0)
    found = summary(load([files.path]))
    assert found == ("There is no answer yet: no configuration of the search has finished (1 trial: 1 stopped early).")
    written = write_report([files.path])
    assert written.files[0].read_text().count("There is no answer yet") == 1
    assert any("no trial has a curve yet" in reason for reason in written.refused)


def test_the_cost_adds_up(record: Record) -> None:
    rows = {str(row.cells[0].value): [cell.value for cell in row.cells[1:]] for row in cost(record).rows}
    assert list(rows) == [
        "search, finished", "search, failed", "confirmed at fresh seeds, finished", "controls, finished",
        "references, finished", "all",
    ]  # fmt: skip
    assert rows["search, finished"][:2] == [8, 640]
    counts, hours = [row[0] for row in rows.values()], [float(str(row[2])) for row in rows.values()]
    assert sum(map(int, map(str, counts[:-1]))) == counts[-1] == 13
    assert hours[-1] == pytest.approx(sum(hours[:-1]))
    assert hours[0] == pytest.approx(8 * 60 / 3600)


def test_failures_are_told_with_their_reasons(record: Record) -> None:
    (row,) = failures(record).rows
    assert [cell.value for cell in row.cells[:3]] == ["demo/t004-s0", "failed", 1]
    assert "loss_a & 50 %" in str(row.cells[3].value)


def test_provenance_is_a_column_a_sweep(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sweep(tmp_path, name)
    table = provenance(load([tmp_path / "one", tmp_path / "two"]))
    assert [column.header for column in table.columns] == ["what", "one", "two"]
    rows = {str(row.cells[0].value): row.cells[1].value for row in table.rows}
    assert (rows["code"], rows["seeds"], rows["started"]) == ("0" * 40, "0, 1", "2023-11-14 22:13 UTC")


class Reader(HTMLParser):
    """Whether tags nest, and what they refer to."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._read(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _read(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("src", "href", "xlink:href"):
                self.links.append(str(value))


def test_the_page_is_whole_and_fetches_nothing(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {link for link in reader.links if not link.startswith(("#", "data:"))} == set()
    targets = {link[1:] for link in reader.links if link.startswith("#")}
    assert targets <= set(reader.ids)
    assert not re.search(r"url\((?!#)", page)
    assert reader.tags.count("script") == 1


def test_the_page_has_every_part(page: str, record: Record) -> None:
    for section in ("top", "health"):
        assert page.count(f'<section id="section-{section}">') == 1
    for section in ("figures", "tables", "statistics", "samples", "cost", "failed", "provenance"):
        assert page.count(f'<details id="section-{section}">') == 1
    # On top one figure and one table, and all the rest folded.
    top = page[page.index('id="section-top"') : page.index('id="section-health"')]
    assert re.findall(r'<figure id="figure-([^"]*)"', top) == ["heat-map"]
    assert re.findall(r'<table id="([^"]*)"', top) == ["configurations"]
    figures = re.findall(r'<figure id="figure-([^"]*)"', page)
    assert figures == ["heat-map", "steps", "rank-curve", "configurations", "pareto", "parallel", "spectrum", "samples"]
    for table in ("configurations", "marginal-depth", "pivot-rank-depth", "steps", "cost", "failures", "provenance"):
        assert f'<table id="{table}">' in page
    assert page.count('<img alt="t003, collapsed" src="data:image/png;base64,') == 1
    assert "g = &lt;identity&gt; has 99.00" in page


def test_what_a_record_says_is_never_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_files_have_the_same_bytes_each_time_and_everywhere(recorded: Path, tmp_path: Path) -> None:
    before = contents(recorded / "report")
    assert {"report.html", "appendix/appendix.tex", "appendix/main.tex", "appendix/appendix.md"} <= set(before)
    copy = tmp_path / "elsewhere" / "demo"
    shutil.copytree(recorded, copy, ignore=shutil.ignore_patterns("report", "cache.parquet"))
    write_report([copy])
    assert contents(copy / "report") == before
    assert not any(str(recorded.parent).encode() in content for content in before.values())


def test_several_sweeps_have_one_report_beside_them(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        files = SweepFiles(tmp_path, name)
        files.finished(0, {DEPTH: 1, RANK: 4}, 5.0 if name == "one" else 6.0)
        folders.append(files.path)
    written = write_report(folders)
    assert written.files[0] == tmp_path / "report" / "one+two" / "report.html"
    assert "Of 2 finished configurations one/t000 is best" in written.files[0].read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_appendix_compiles(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded / "report" / "appendix", tmp_path / "appendix")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path / "appendix", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
    assert "undefined" not in done.stdout
    for name in ("steps", "heat-map", "samples"):
        assert f"figures/{name}.pdf" in done.stdout


def test_the_appendix_in_markdown_has_its_figures(recorded: Path) -> None:
    folder = recorded / "report" / "appendix"
    text = (folder / "appendix.md").read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert len(linked) == 8
    assert all((folder / path).read_bytes().startswith(b"\x89PNG") for path in linked)
    assert "### demo: what it cost" in text


def test_marks_carry_what_they_tell() -> None:
    chart = figure()
    axes = chart.add_subplot()
    (line,) = axes.plot([1, 2, 3], [1.0, float("nan"), 2.0], marker="o")
    chart.mark(line, "a & b", "t000", ["first", 'last "one"'])
    (other,) = axes.plot([1, 3], [2.0, 1.0])
    chart.mark(other, "c", "", ["whole"])
    drawn = svg(chart, "chart", "A <title>")
    assert drawn.count('data-series="a &amp; b" data-item="t000"') == 1
    assert re.findall(r'<use [^>]*data-told="([^"]*)"', drawn) == ["first", "last &quot;one&quot;"]
    assert re.findall(r'<g [^>]*data-told="([^"]*)"', drawn) == ["whole"]
    assert 'aria-label="A &lt;title&gt;"' in drawn
    assert series_of(chart) == ["a & b", "c"]


def test_a_mark_that_tells_of_other_points_than_are_drawn_is_an_error() -> None:
    chart = figure()
    (line,) = chart.add_subplot().plot([1, 2], [1.0, 2.0], marker="o")
    chart.mark(line, "a", "", ["1", "2", "3"])
    with pytest.raises(ValueError, match="a: 2 points are drawn, but there are 3 texts"):
        svg(chart, "chart", "")


def linsweep(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["linsweep", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, {DEPTH: 1, RANK: 4}, 5.0)
    assert linsweep(monkeypatch, "export", "demo", "--storage", str(tmp_path)) == 0
    assert_same(load(tmp_path / "demo.parquet"), load(files.path))
    assert linsweep(monkeypatch, "export", "demo", "--storage", str(tmp_path), "--to", str(tmp_path / "x.parquet")) == 0
    assert_same(load(tmp_path / "x.parquet"), load(files.path))
    assert linsweep(monkeypatch, "report", "demo", "--storage", str(tmp_path)) == 0
    told = capsys.readouterr()
    assert f"open in a browser: {files.path / 'report' / 'report.html'}" in told.out
    assert "left out: " in told.err
    assert linsweep(monkeypatch, "report", "demo", "--storage", str(tmp_path), "--metric", "quality/classifier") == 2
    assert "did you mean quality/classifier_fd_collapsed" in capsys.readouterr().err
    assert linsweep(monkeypatch, "report", "nobody", "--storage", str(tmp_path)) == 2


def test_exports_of_several_sweeps_are_one_file(tmp_path: Path) -> None:
    folders = [sweep(tmp_path, name).path for name in ("one", "two")]
    assert export(folders) == tmp_path / "one+two.parquet"
    assert_same(load(tmp_path / "one+two.parquet"), load(folders))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, recorded: Path) -> Iterator[Any]:
    """The page from disk; its console has to stay empty, and nothing may be asked of a network."""
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    path = recorded / "report" / "report.html"
    tab.goto(path.as_uri())
    assert not tab.locator("#section-figures").evaluate("section => section.open")
    tab.evaluate("location.hash = '#section-figures'")
    tab.wait_for_function("document.querySelector('#section-figures').open")
    tab.evaluate("scrollTo(0, 0); for (const each of document.querySelectorAll('details')) each.open = true")
    yield tab
    tab.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", path.as_uri()))] == []


def test_a_mark_tells_its_value_and_lights_its_configuration(opened: Any) -> None:
    box = opened.locator("#told")
    assert not box.is_visible()
    opened.locator('#figure-pareto [data-item="t003"][data-told]').first.hover(force=True)
    assert box.inner_text() == "t003 (depth 2, rank 8): collapsed classifier FD 3 ± 6.4, parameters 208"
    lit = opened.locator(".lit").evaluate_all("all => [...new Set(all.map(each => each.dataset.item))]")
    assert lit == ["t003"]
    assert opened.locator("#figure-steps svg.some").count() == 1
    assert opened.locator("#configurations tr.lit").count() == 1
    opened.mouse.move(2, 2)
    assert not box.is_visible()
    assert opened.locator(".lit").count() == 0


def test_a_line_tells_of_each_of_its_points(opened: Any) -> None:
    points = opened.locator('#figure-steps [data-item="t000"] [data-told]')
    texts = points.evaluate_all("all => all.map(each => each.dataset.told)")
    assert [text.rpartition(" at ")[2] for text in texts] == ["k = 1", "k = 10", "k = 100"]
    points.nth(1).hover(force=True)
    assert opened.locator("#told").inner_text().startswith("t000 (depth 1, rank 4): classifier FD 21 ±")


def test_switches_turn_series_off_and_on(opened: Any) -> None:
    marks = opened.locator('#figure-steps [data-series="depth 1"]')
    assert marks.count() == 2
    button = opened.locator("#figure-steps .switches button", has_text="depth 1")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert [marks.nth(place).is_visible() for place in range(2)] == [False, False]
    assert opened.locator('#figure-steps [data-series="depth 2"]').first.is_visible()
    assert opened.locator('#figure-rank-curve [data-series="depth 1"]').first.is_visible()
    button.click()
    assert marks.first.is_visible()


COLOURS = """() => {
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "none";
  };
  const told = [...document.querySelectorAll("body *:not(script)")].filter(each => !each.closest("svg")
    && [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
  return told.map(each => [each.tagName, getComputedStyle(each).color, behind(each)]);
}"""
"""Each element with text of its own: its name, the colour of its letters, and of what is behind them."""


def luminance(colour: str) -> float:
    """The relative luminance of ``rgb(…)`` (WCAG 2.2)."""
    shares = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_in_dark(opened: Any, scheme: str) -> None:
    opened.emulate_media(color_scheme=scheme)
    body = luminance(opened.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (body < 0.05) == (scheme == "dark")
    found = {tuple(each) for each in opened.evaluate(COLOURS)}
    assert {"P", "TD", "TH", "LI", "A", "BUTTON", "FIGCAPTION", "PRE"} <= {name for name, _, _ in found}
    for name, letters, behind in sorted(found):
        low, high = sorted([luminance(letters), luminance(behind)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (name, letters, behind)  # level AA
    # Figures are drawn in dark ink: they have light paper behind them, here as in print.
    seen = "each => getComputedStyle(each).backgroundColor"
    papers = {opened.locator("figure svg").first.evaluate(seen)}
    assert papers == {"rgb(255, 255, 255)" if scheme == "dark" else "rgba(0, 0, 0, 0)"}
    opened.emulate_media(color_scheme=scheme, media="print")
    assert luminance(opened.evaluate("getComputedStyle(document.body).backgroundColor")) == pytest.approx(1)


def test_headers_sort_by_number(opened: Any) -> None:
    first = "rows => rows.map(row => row.cells[0].textContent)"
    rows = opened.locator("#configurations tbody").first.locator("tr")
    assert rows.evaluate_all(first) == ["t003", "t001", "t002", "t000"]
    header = opened.locator("#configurations thead th", has_text="parameters").first
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert rows.evaluate_all(first) == ["t000", "t001", "t002", "t003"]
    header.locator("button").click()
    assert rows.evaluate_all(first) == ["t003", "t002", "t001", "t000"]
