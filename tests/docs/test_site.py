"""The documentation as a site: it builds without a warning, its links lead somewhere, and it works from a folder."""

from __future__ import annotations

import doctest
import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from sweeps.cli.command import COMMANDS
from sweeps.spec.keys import all_keys

ROOT = Path(__file__).parents[2]
MAKERS = ROOT / "docs" / "_site"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FETCHED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
"""What a browser fetches by itself, by tag and attribute."""


@dataclass
class Html(HTMLParser):
    """The links of a page, what it has a browser fetch, and the names that links can lead to."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.names.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)
                if (tag, name) in FETCHED and dict(attrs).get("rel") != "canonical":
                    self.fetched.append(value)


def read(path: Path) -> Html:
    page = Html()
    page.feed(path.read_text())
    return page


def dead_links(folder: Path) -> list[str]:
    """The links of the pages of a folder that lead to no file of it, or to no name of a page."""
    pages = {path.resolve(): read(path) for path in folder.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            named = target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].names
            if not target.exists() or named:
                dead.append(f"{path.relative_to(folder.resolve())}: {link}")
    return dead


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    # The page for what is not found is served under any address, so that its links are from the site's root.
    (site / "404.html").unlink(missing_ok=True)
    assert dead_links(site) == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert [link for link in read(path).fetched if urlsplit(link).netloc] == [], path


def test_every_key_and_every_command_is_in_the_reference(site: Path) -> None:
    keys = (site / "reference" / "keys.html").read_text()
    assert [key.name for key in all_keys() if not key.section and f"<code>{escaped(key.name)}</code>" not in keys] == []
    names = {command.__name__ for commands in COMMANDS.values() for command in commands}
    assert names <= read(site / "reference" / "commands.html").names


def escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def test_docstrings_show_their_examples_as_code(site: Path) -> None:
    page = (site / "reference" / "linsweep.html").read_text()
    assert 'id="linsweep.launch"' in page
    assert "<blockquote>" not in page


def test_the_gallery_draws_what_its_lines_say(site: Path) -> None:
    page = read(site / "gallery.html")
    drawn = [link for link in page.links if link.startswith("images/gallery/")]
    assert len(drawn) >= 6
    assert all((site / link).stat().st_size > 10_000 for link in drawn)


def test_the_search_works_from_a_folder_and_asks_nothing_of_a_network(site: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.get_by_role("textbox", name="Search").press_sequentially("replicate")
        page.locator('.md-search-result__link[href*="concepts.html"]').first.wait_for(timeout=60_000)
        chromium.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []


@pytest.mark.parametrize("name", ["doctests", "gallery", "reference"])
def test_the_examples_of_what_makes_the_pages_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MAKERS))
    module: ModuleType = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#part"><a href="#top"><a href="#gone"><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<p id="part"><a href="https://example.org/x"><a href="a.html#none">')
    assert sorted(dead_links(tmp_path)) == ["a.html: #gone", "a.html: c.png", "b.html: a.html#none"]
