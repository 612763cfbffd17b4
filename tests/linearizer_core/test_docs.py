"""The documentation: its examples give what they say, what it names exists, and its links lead somewhere."""

from __future__ import annotations

import doctest
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import linearizer_core

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MATHEMATICS = ROOT / "docs" / "linearizer.md"

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def run_examples(text: str, name: str) -> tuple[int, str]:
    """How many examples a page has, and doctest's report of those that fail, empty if none does."""
    fences_blanked = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)  # they would count as expected output
    test = doctest.DocTestParser().get_doctest(fences_blanked, {}, name, name, 0)
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    with torch.random.fork_rng(devices=[]):
        runner.run(test, out=report.append)
    return len(test.examples), "".join(report)


def code_spans(text: str) -> list[str]:
    """The names at the start of inline code, up to a bracket or a space."""
    return re.findall(r"`([A-Za-z_][\w.]*)", re.sub(FENCED, "", text))


def missing_names(text: str) -> list[str]:
    """The names ``linearizer_core.…`` that do not exist."""
    names = [name for name in code_spans(text) if name.startswith("linearizer_core")]
    return [name for name in names if not _resolves(name)]


def missing_classes(text: str) -> list[str]:
    """The names ``Class`` and ``Class.member`` that are in no module of the core."""
    names = [name for name in code_spans(text) if name[0].isupper()]
    modules = [module.name for module in pkgutil.walk_packages(linearizer_core.__path__, "linearizer_core.")]
    return [name for name in names if not any(_resolves(f"{module}.{name}") for module in modules)]


def _resolves(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def dead_links(text: str, folder: Path) -> list[str]:
    """The targets of relative links and images that are not there."""
    prose = re.sub(r"`[^`\n]*`", "", re.sub(FENCED, "", text))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    relative = [target for target in targets if not re.match(r"[a-z]+:|#", target)]
    return [target for target in relative if not (folder / target.split("#")[0]).exists()]


@pages
def test_every_example_of_the_documentation_gives_what_it_says(page: Path) -> None:
    count, report = run_examples(page.read_text(), page.name)
    assert not report, report
    assert count >= 80 or page != MATHEMATICS, f"{page.name} has only {count} examples"


@pages
def test_every_name_in_the_documentation_exists(page: Path) -> None:
    assert missing_names(page.read_text()) == []


def test_every_class_in_the_mathematics_exists() -> None:
    text = MATHEMATICS.read_text()
    assert missing_classes(text) == []
    assert {"linearizer_core.space.InducedSpace", "LinearDiffusion.collapse"} <= set(code_spans(text))


@pages
def test_every_relative_link_of_the_documentation_leads_to_a_file(page: Path) -> None:
    assert dead_links(page.read_text(), page.parent) == []


def test_a_page_with_a_wrong_example_is_reported() -> None:
    count, report = run_examples("```python\n>>> 1 + 1\n2\n>>> 1 + 2\n4\n```\n", "page")
    assert count == 2
    assert "1 + 2" in report
    assert "Got:\n    3" in report
    assert run_examples("```python\n>>> 1 / 0\n```\n", "page")[1].count("ZeroDivisionError")
    assert run_examples("```python\n>>> 1 + 1\n2\n```\nprose\n", "page") == (1, "")


def test_names_that_do_not_exist_are_reported() -> None:
    assert missing_names("`linearizer_core.space.InducedSpace.add(u, v)` `linearizer_core.solvers` `other.thing`") == []
    assert missing_classes("`Linearizer.pinv` `MLP` `k` `lerp`") == []
    names = ["linearizer_core.nothing", "linearizer_core.space.InducedSpace.plus"]
    assert missing_names(" ".join(f"`{name}`" for name in names)) == names
    classes = ["Linearizer.inverse", "Lineariser"]
    assert missing_classes(" ".join(f"`{name}`" for name in classes)) == classes


def test_links_that_lead_nowhere_are_reported(tmp_path: Path) -> None:
    (tmp_path / "there.md").touch()
    text = "[a](there.md) [b](there.md#part) ![c](gone.png) [d](https://x.org) [e](#part) `f[0](x)` [g](../gone/h.md)"
    assert dead_links(text, tmp_path) == ["gone.png", "../gone/h.md"]
