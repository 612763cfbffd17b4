"""Every block of code in the documentation is run by a test, or is marked with why it is not."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from sweeps.cli.command import app
from sweeps.spec.load import load
from tests.docs import blocks as module
from tests.docs.blocks import PAGES, ROOT, Block, blocks, shell_lines
from tests.newcomer.tasks import FOLLOWED, save_images

ALL = [block for page in PAGES for block in blocks(page)]

OUTPUT = {"", "text", "latex"}
"""Languages of what is printed or only looked at."""

RUN_ELSEWHERE = {
    ("docs/commands.md", "console"): "tests/sweeps/test_commands_page.py",
    ("docs/analysis.md", "python"): "tests/analysis/test_analysis_docs.py",
    ("docs/gallery.md", "python"): "the build of the site, which tests/docs/test_site.py looks at",
    (
        "docs/cluster.md",
        "bash",
    ): "tests/sweeps/test_deployment.py, and tests/end_to_end/test_deployed.py where they can",
    ("docs/security.md", "bash"): "tests/sweeps/test_deployment.py",
    ("docs/tracking.md", "bash"): "tests/end_to_end/test_mlflow.py",
    ("docs/tracking.md", "python"): "tests/end_to_end/test_mlflow.py",
    ("docs/plugins.md", "python"): "tests/sweeps/test_plugins.py",
    ("docs/plugins.md", "toml"): "tests/sweeps/test_plugins.py",
    ("docs/plugins.md", "yaml"): "tests/sweeps/test_plugins.py",
}
"""Blocks of a page and language that other tests run."""


def is_run(block: Block) -> bool:
    """Whether some test runs a block."""
    if block.language == "python" and block.text.startswith(">>>"):
        return True  # tests/linearizer_core/test_docs.py
    if block.language == "yaml":
        return True  # below
    if (block.page, block.language) in RUN_ELSEWHERE:
        return True
    return any(block.page == page and heading in block.headings for page, heading in FOLLOWED)


def test_every_block_is_run_or_says_why_not() -> None:
    missing = [str(block) for block in ALL if block.language not in OUTPUT and not block.not_run and not is_run(block)]
    assert missing == []


def test_what_is_run_is_not_marked_as_not_run() -> None:
    marked = [str(block) for block in ALL if block.not_run and block.language in OUTPUT]
    assert marked == [], "output needs no mark"


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}


BASE: dict[str, Any] = {
    "name": "documented",
    "data": {"name": "digits"},
    "search": {"trials": 2, "space": {"model.flow.depth": {"int": [1, 2]}}},
}
"""What makes a whole spec of the part that a page shows."""


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.language == "yaml" and not block.not_run and
              (block.page, "yaml") not in RUN_ELSEWHERE], ids=str
)  # fmt: skip
def test_yaml_is_a_spec_or_a_part_of_one(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load(block.text)
    if "seed" in values:
        pytest.skip("a configuration, which its page trains")
    whole = values if "name" in values and "search" in values else _merged(BASE, values)
    save_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    for secret in re.findall(r"_variable: (\w+)", block.text):
        monkeypatch.setenv(secret, "of the reader")
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
    assert load(str(path)).resolved["name"]


@pytest.mark.parametrize("block", [block for block in ALL if block.language in ("bash", "console")], ids=str)
def test_commands_and_their_options_exist(block: Block) -> None:
    program: Any = typer.main.get_command(app)
    text = "\n".join(
        line.removeprefix("$ ") for line in block.text.splitlines() if block.language == "bash" or line[:2] == "$ "
    )
    for line in shell_lines(text):
        if not (found := re.match(r"(?:-- )?linsweep ([^|]*)", line)):
            continue
        name, *rest = shlex.split(found[1])
        if name.startswith("--") or name == "COMMAND":
            continue
        assert name in program.commands, f"{block}: {line}"
        options = {option for each in program.commands[name].params for option in each.opts} | {"--help"}
        given = [re.sub("=.*", "", word) for word in rest if re.match(r"--?[a-z]", word)]
        assert set(given) <= options, f"{block}: {line}"


def test_the_examples_of_the_reader_of_blocks_hold() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_page_that_is_followed_has_the_heading() -> None:
    for page, heading in FOLLOWED:
        assert any(heading in block.headings for block in blocks(ROOT / page)), (page, heading)


def test_a_block_without_a_test_is_found() -> None:
    block = Block("docs/x.md", 1, ("X",), "bash", "", "rm -r /\n", "")
    assert not is_run(block)
