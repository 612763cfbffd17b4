"""Reference pages that are made from the code whenever the site is built, so that they cannot be out of date."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import linsweep
from sweeps.cli.command import COMMANDS
from sweeps.spec.keys import Key, all_keys

HELP = Path(__file__).parents[2] / "tests" / "sweeps" / "help"
"""What ``--help`` prints of each command; a test compares it with what it prints today."""

API = {
    "linsweep": (
        "`import linsweep as ls`: the functions have the names of the commands. They print nothing unless asked to "
        "(`progress=True`), return objects that a notebook shows as tables, and raise `LinsweepError` for wrong input.",
        {
            "Functions": [f"linsweep.{name}" for name in linsweep.__all__ if name[0].islower()],
            "What they return and raise": [f"linsweep.{name}" for name in linsweep.__all__ if name[0].isupper()],
        },
    ),
    "analysis": (
        "From a record to frames, tables and figures. [Tables and statistics](../analysis.md) has "
        "the same with examples.",
        {
            "Records": ["analysis.record.runs", "analysis.configuration.configurations"],
            "Tables": [
                "analysis.tables.configurations", "analysis.tables.pairs", "analysis.tables.marginal",
                "analysis.tables.ranks", "analysis.tables.controls", "analysis.tables.steps", "analysis.tables.pareto",
                "analysis.tables.importance", "analysis.tables.interaction", "analysis.tables.one_factor",
                "analysis.tables.scaling", "analysis.tables.anytime", "analysis.tables.cost", "analysis.tables.health",
                "analysis.render.table",
            ],
            "Figures": [
                "analysis.figures.ranks", "analysis.figures.steps", "analysis.figures.maps",
                "analysis.figures.rank_curves", "analysis.figures.pareto", "analysis.figures.parallel",
                "analysis.figures.pictures", "analysis.figures.style",
            ],
            "Files": ["analysis.report.write"],
        },
    ),
    "linearizer_core": (
        "Models and their linear algebra; torch alone, neither Ray nor MLflow. "
        "[Mathematics](../linearizer.md) walks through them.",
        {
            "Linearizers": ["linearizer_core.linearizer", "linearizer_core.injective", "linearizer_core.space"],
            "Flows": ["linearizer_core.flows.base", "linearizer_core.flows.build"],
            "Operators": [
                "linearizer_core.operators.base", "linearizer_core.operators.affine", "linearizer_core.operators.build",
            ],
            "Models": [
                "linearizer_core.models.diffusion", "linearizer_core.models.affine_diffusion",
                "linearizer_core.models.idempotent", "linearizer_core.models.style", "linearizer_core.models.inverse",
                "linearizer_core.models.dynamics", "linearizer_core.models.motion",
                "linearizer_core.models.flow_matching", "linearizer_core.models.mean_flow",
            ],
            "Checkpoints": ["linearizer_core.checkpoint"],
        },
    ),
}  # fmt: skip
"""Package → what it is for, and its modules under a heading each."""

SECTIONS = {
    "": "The sweep",
    "data": "Data",
    "model": "Model",
    "train": "Training",
    "evaluate": "Evaluation",
    "search": "Search",
    "resources": "Resources",
    "budget": "Budget",
    "tracking": "Tracking",
}


def pages() -> dict[str, str]:
    """The Markdown of each page, by its path in the site."""
    made = {"reference/keys.md": keys_page(all_keys()), "reference/commands.md": commands_page()}
    made.update({f"reference/{name}.md": api_page(name, *parts) for name, parts in API.items()})
    return made


def keys_page(keys: Iterable[Key]) -> str:
    """Every key of a spec in tables, one for each part of a spec.

    >>> depth = Key("model.flow.depth", "how many blocks", type="whole number", bounds="≥ 1", default=4)
    >>> keys_page([depth]).splitlines()[-1]
    '| `model.flow.depth` | whole number, ≥ 1 | `4` | how many blocks |'
    """
    by_section: dict[str, list[Key]] = {}
    for key in keys:
        first = key.name.partition(".")[0].removesuffix("[]")
        by_section.setdefault(first if key.section or "." in key.name else "", []).append(key)
    lines = [
        "# Keys of a spec", "",
        "Each key with its type, bounds, default and meaning, as `linsweep schema KEY` prints them. "
        "[Write a spec](../spec.md) explains how they go together. Recipes with other defaults are named below it.",
    ]  # fmt: skip
    for section, rows in by_section.items():
        lines += ["", f"## {SECTIONS.get(section, section.capitalize())}", ""]
        meaning = next((key.meaning for key in rows if key.section and key.name == section), "")
        lines += [f"{meaning[0].upper()}{meaning[1:].rstrip('.')}.", ""] if meaning else []
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(key) for key in rows if not key.section]
    return "\n".join(lines) + "\n"


def _row(key: Key) -> str:
    kind = ", ".join(filter(None, (key.type, key.bounds)))
    default = "required" if key.required else f"`{_yaml(key.default)}`"
    others: dict[str, list[str]] = {}
    for recipe, value in key.recipes.items():
        others.setdefault(_yaml(value), []).append(recipe)
    default += "".join(f"<br>`{value}`: {'; '.join(names)}" for value, names in others.items())
    cells = (f"`{key.name}`", kind, default, key.meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def commands_page() -> str:
    """What ``--help`` prints, of the program and then of each command."""
    lines = [
        "# Options of every command", "",
        "What `--help` prints. [Commands and what they print](../commands.md) shows them at work.", "",
        "```text", (HELP / "linsweep.txt").read_text().rstrip(), "```",
    ]  # fmt: skip
    for group in COMMANDS.values():
        for command in group:
            text = (HELP / f"{command.__name__}.txt").read_text().rstrip()
            lines += ["", f"## {command.__name__}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def api_page(name: str, purpose: str, parts: dict[str, list[str]]) -> str:
    """A page that mkdocstrings fills from the docstrings of a package's modules."""
    lines = [f"# {name}", "", purpose]
    for heading, modules in parts.items():
        lines += ["", f"## {heading}"]
        for module in modules:
            lines += ["", f"::: {module}"]
    return "\n".join(lines) + "\n"
