"""The commands that messages tell the user to run next, ready to be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from sweeps.record.lookup import named, storage_option
from sweeps.record.paths import SweepPaths


def launch_words(
    spec: str, profile: str | None, overrides: Sequence[str], address: str | None, cluster: Path | None
) -> list[str]:
    """The arguments that repeat a launch."""
    words = ["--profile", profile] if profile else []
    words += [word for text in overrides for word in ("--set", text)]
    words += ["--address", address] if address else []
    words += ["--cluster", str(cluster)] if cluster else []
    # A file whose name begins with a dash would be parsed as an option.
    return [*words, "--", spec] if spec.startswith("-") else [spec, *words]


def resume_command(folder: Path, address: str | None = None, cluster: Path | None = None, debug: bool = False) -> str:
    """The command that continues the sweep in a folder."""
    words = f"linsweep resume {named(folder)}"
    words += f" --address {shlex.quote(address)}" if address else ""
    words += f" --cluster {shlex.quote(str(cluster))}" if cluster else ""
    return words + (" --debug" if debug else "")


def comparison(folder: Path) -> str:
    """Where to compare a sweep's trials: its page on the team's server, or the command that serves one."""
    from sweeps.tracking.views import comparison_link

    return comparison_link(SweepPaths(folder)) or f"linsweep ui{storage_option(folder.parent)}"
