"""Shell completion of sweeps, trials, specs, profiles and keys.

These run at every press of the tab key: they import nothing large, and offer nothing when unsure.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import typer


def sweeps(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sweeps of the storage folder."""
    return [name for name in _names(ctx) if name.startswith(incomplete)]


def trials(ctx: typer.Context, incomplete: str) -> list[str]:
    """The trials of the sweep that is given, or of the only one that matches; before that, the sweeps."""
    name, slash, _ = incomplete.rpartition("/")
    found = [name] if slash else sweeps(ctx, incomplete)
    if len(found) != 1:
        return [f"{each}/" for each in found]
    journals = sorted((_storage(ctx) / found[0] / "journal").glob("*.jsonl"))
    return [text for path in journals if (text := f"{found[0]}/{path.stem}").startswith(incomplete)]


def sides(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sweeps and, once one is given, its configurations and trials."""
    if "/" not in incomplete:
        return sweeps(ctx, incomplete)
    from sweeps.record.lookup import SEED

    found = trials(ctx, incomplete)
    return sorted({*found, *(SEED.sub("", trial) for trial in found)})


def specs(incomplete: str) -> list[str]:
    """The shipped specs, and YAML files and folders on disk."""
    return sorted([*(name for name in _shipped() if name.startswith(incomplete)), *_files(incomplete)])


def profiles(incomplete: str) -> list[str]:
    """The profiles of the spec on the command line."""
    for word in _words():
        found = _profiles_of(_shipped().get(word, Path(word)))
        if found:
            return [name for name in found if name.startswith(incomplete)]
    return []


def keys(incomplete: str) -> list[str]:
    """The keys of a spec."""
    from sweeps.spec.keys import all_keys

    return [key.name for key in all_keys() if key.name.startswith(incomplete)]


def leaves(incomplete: str) -> list[str]:
    """The leaves of a spec, each followed by ``=``."""
    from sweeps.spec.keys import LEAF, all_keys

    named = [key.name for key in all_keys() if not key.section and LEAF not in key.name and "[]" not in key.name]
    return [f"{name}=" for name in named if f"{name}=".startswith(incomplete)]


def _words() -> list[str]:
    """The words of the line after the command; the parser would stop at an option without its value."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""  # of bash; of other shells
    try:
        return shlex.split(line)[2:]
    except ValueError:  # a quote that is still open
        return line.split()[2:]


def _profiles_of(path: Path) -> list[str]:
    """The names of a spec's profiles; empty if it is not a spec or has none."""
    import yaml

    try:
        return list(map(str, yaml.safe_load(path.read_text(encoding="utf-8"))["profiles"]))
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return []


def _storage(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("storage") or "runs").expanduser()


def _names(ctx: typer.Context) -> list[str]:
    try:
        return sorted(path.parent.name for path in _storage(ctx).glob("*/sweep.json"))
    except OSError:
        return []


def _shipped() -> dict[str, Path]:
    """Like ``sweeps.spec.load.shipped``, but without its imports."""
    return {path.stem: path for path in (Path(__file__).parents[1] / "specs").glob("*.yaml")}


def _files(incomplete: str) -> Iterator[str]:
    """The YAML files, and folders that may hold some, whose names start with the text."""
    folder, slash, begun = incomplete.rpartition("/")
    try:
        entries = sorted(Path(folder + slash if slash else ".").expanduser().iterdir())
    except OSError:
        return
    for path in entries:
        text = f"{folder}{slash}{path.name}"
        if path.name.startswith(begun or "") and (begun.startswith(".") or not path.name.startswith(".")):
            if path.is_dir():
                yield f"{text}/"
            elif path.suffix in (".yaml", ".yml"):
                yield text
