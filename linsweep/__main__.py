"""The command: ``linsweep``, or ``python -m linsweep``."""

from __future__ import annotations

import sys
from pathlib import Path

from linsweep.siblings import ROOT


def main() -> None:
    """Run the command line, with no module of the current folder in the way of those that it imports."""
    here = Path.cwd()
    # As `python -P`: a yaml.py or random.py there is the user's. A checkout that is the current folder has to stay.
    if here != ROOT:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    from sweeps.cli.command import main as run

    run()


if __name__ == "__main__":
    main()
