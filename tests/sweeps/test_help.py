"""The help of every command, as it is stored in ``help/``; ``python -m tests.sweeps.test_help`` writes it anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

import pytest

STORED = Path(__file__).parent / "help"
WIDTH = "100"


def names() -> list[str]:
    """The commands, in the order of the help."""
    from sweeps.cli.command import COMMANDS

    return [command.__name__ for commands in COMMANDS.values() for command in commands]


def help_of(*arguments: str) -> str:
    """What ``--help`` prints, without colours and padding."""
    from sweeps import cli

    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr("sys.argv", ["linsweep", *arguments, "--help"])
        patch.setitem(os.environ, "COLUMNS", WIDTH)
        with contextlib.suppress(SystemExit):
            cli.main()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())
    return "".join(f"{line.rstrip()}\n" for line in plain.strip("\n").splitlines())


@pytest.mark.parametrize("name", ["", *names()], ids=lambda name: name or "linsweep")
def test_help_is_what_is_stored(name: str) -> None:
    found = help_of(*filter(None, [name]))
    assert found == (STORED / f"{name or 'linsweep'}.txt").read_text(), (
        "python -m tests.sweeps.test_help writes it anew"
    )


def test_every_command_is_stored_and_nothing_else() -> None:
    assert {path.stem for path in STORED.iterdir()} == {"linsweep", *names()}


@pytest.mark.parametrize("name", names())
def test_types_are_named_as_people_do(name: str) -> None:
    # A range is left: <…> of a type, such as <list[str]> or <bool>, says nothing to who is no programmer.
    assert re.findall(r"<[a-z\[\]|]+>", help_of(name)) == []


def test_each_says_what_it_does_in_one_sentence_that_the_list_has_whole() -> None:
    whole = " ".join(help_of().replace("│", " ").split())
    for name in names():
        said = " ".join(help_of(name).split("\n\n")[1].split())
        assert said.endswith("."), name
        assert said in whole, name


def write() -> None:
    """Write the help of every command."""
    STORED.mkdir(exist_ok=True)
    for name in ["", *names()]:
        (STORED / f"{name or 'linsweep'}.txt").write_text(help_of(*filter(None, [name])))


if __name__ == "__main__":
    write()
    sys.stdout.write(f"written: {STORED}\n")
