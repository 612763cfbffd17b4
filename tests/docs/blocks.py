"""The code blocks of the documentation, each with where it stands and whether it is marked as not run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^`\n]*$")
HEADING = re.compile(r"^#+ (.*)$")
MARK = re.compile(r"^ *<!-- not run: (?P<why>.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``title`` is the file that it shows, and ``not_run`` why no test runs it."""

    page: str
    line: int
    headings: tuple[str, ...]
    language: str
    title: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order.

    >>> [(block.language, block.title) for block in blocks(ROOT / "docs" / "tutorial.md")][:2]
    [('yaml', 'first.yaml'), ('bash', '')]
    """
    return list(_blocks(page.relative_to(ROOT).as_posix(), page.read_text().splitlines()))


def _blocks(page: str, lines: Sequence[str]) -> Iterator[Block]:
    headings: list[str] = []
    why, number = "", 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if heading := HEADING.match(line):
            level = len(line) - len(line.lstrip("#"))
            headings = [*headings[: level - 1], heading[1]]
        elif mark := MARK.match(line):
            why = mark["why"]
            continue
        elif fence := FENCE.match(line):
            start, indent = number, len(fence["indent"])
            while lines[number].strip() != "```":
                number += 1
            text = "".join(f"{each[indent:]}\n" for each in lines[start:number])
            number += 1
            yield Block(page, start, tuple(headings), fence["language"], fence["title"] or "", text, why)
        why = ""


def shell_lines(text: str) -> list[str]:
    """The commands of a shell block, with continued lines put together and comments left out.

    >>> shell_lines("linsweep launch a \\\\\\n  --debug   # here\\n\\n# nothing\\nls\\n")
    ['linsweep launch a    --debug', 'ls']
    """
    joined = re.sub(r"\\\n", " ", text)
    lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]
