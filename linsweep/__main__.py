"""The command: ``linsweep``, or ``python -m linsweep``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from linsweep.siblings import ROOT


def main() -> None:
    """Run the command line, with no module of the current folder in the way of those that it imports."""
    _tolerate_warnings()
    try:
        here = Path.cwd()
    except OSError as error:
        sys.exit(f"linsweep: the current folder is not there: {error.strerror}; go to one that is")
    # As `python -P`: a yaml.py or random.py there is the user's. A checkout that is the current folder has to stay.
    if here != ROOT:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    from sweeps.cli.command import main as run

    run()


def _tolerate_warnings() -> None:
    """Let a warning be no error (PYTHONWARNINGS=error), here and in every process that is started: libraries warn."""
    warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    kept = [each for each in os.environ.get("PYTHONWARNINGS", "").split(",") if not each.strip().startswith("error")]
    if "PYTHONWARNINGS" in os.environ:
        os.environ["PYTHONWARNINGS"] = ",".join(kept)


if __name__ == "__main__":
    main()
