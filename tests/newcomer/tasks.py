"""What somebody new does with the documentation: follows a part of a page, line by line, in a folder of their own."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sweeps import cli
from tests.docs.blocks import ROOT, blocks, shell_lines

FOLLOWED = (
    ("docs/install.md", "Install"),
    ("docs/tutorial.md", "From a first sweep to a table"),
    ("docs/data.md", "Your own images"),
    ("docs/reading.md", "Read results elsewhere"),
    ("docs/spec.md", "Get notified"),
    ("docs/reliability.md", "Go on elsewhere"),
    ("docs/tracking.md", "Send a sweep to the team's server"),
    ("docs/single.md", "Train one configuration alone"),
)
"""Pages and headings whose blocks the tests of this folder run."""

SMALL = ("--debug", "--set", "train.epochs=1", "--set", "evaluate.every=1", "--set", "evaluate.samples=64",
         "--set", "search.seeds=[0]")  # fmt: skip
"""What makes a launch a matter of seconds, as the tutorial says: one epoch, few samples, one seed, in this process."""


@dataclass
class Newcomer:
    """Somebody in a folder, with what they have typed into Python so far; ``small`` begins with ``--debug``."""

    folder: Path
    patch: pytest.MonkeyPatch
    small: Sequence[str] = SMALL
    names: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def follow(self, page: str, heading: str, **replaced: str) -> str:
        """Do what stands under a heading, and return what was printed; ``replaced`` are words of the reader's own."""
        self.patch.chdir(self.folder)
        start, found = len(self.said), [each for each in blocks(ROOT / page) if heading in each.headings]
        assert found, f"{page} has nothing under {heading!r}"
        for block in found:
            text = block.text
            for word, own in replaced.items():
                text = text.replace(word, own)
            if block.not_run or block.language in ("text", "latex"):
                continue
            if block.title:
                Path(block.title).write_text(text)
            elif block.language == "bash":
                for line in shell_lines(text):
                    self.type(line)
            elif block.language == "python":
                self.say(lambda text=text, block=block: exec(compile(text, str(block), "exec"), self.names))
        return "".join(self.said[start:])

    def type(self, line: str, code: int = 0) -> str:
        """Type a command; it must end with the exit code."""
        program, *words = shlex.split(line)
        if program == "linsweep":
            small = {"launch": self.small, "plan": self.small[1:], "resume": self.small[:1]}.get(words[0], ())
            words += () if words[-1] == "quickstart" else small
            return self.say(lambda: self._linsweep(words, code))
        assert program == "python", line
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == code, done.stderr
        self.said.append(done.stdout)
        return done.stdout

    def say(self, action: Any) -> str:
        """Carry something out, and return what it printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            action()
        self.said.append(printed.getvalue())
        return printed.getvalue()

    def _linsweep(self, words: Sequence[str], code: int) -> None:
        self.patch.setattr("sys.argv", ["linsweep", *words])
        try:
            cli.main()
            ended = 0
        except SystemExit as end:
            ended = int(end.code or 0)
        assert ended == code, f"linsweep {shlex.join(words)}"


def save_images(folder: Path, count: int = 120) -> None:
    """Write the digits 0 and 1 as files, a folder for each: the images of somebody's own."""
    digits = load_digits()
    for label in (0, 1):
        (folder / str(label)).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][: count // 2]):
            Image.fromarray((image * 15).astype(np.uint8)).resize((20, 20)).save(folder / str(label) / f"{number}.png")


def state(printed: str) -> str:
    """The state in what ``linsweep status`` prints."""
    found = re.search(r"^\S+ +(\w+)", printed, re.MULTILINE)
    assert found, printed
    return found[1]
