"""The command: ``linsweep`` or ``python -m linsweep``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from linsweep.siblings import ROOT


def main() -> None:
    """Run the command line, without letting modules in the current folder replace the ones that it imports."""
    _tolerate_warnings()
    try:
        here = Path.cwd()
    except OSError as error:
        sys.exit(f"linsweep: the current folder is gone: {error.strerror}; change to one that exists")
    # Like `python -P`: a yaml.py or random.py there is the user's. A checkout as current folder must stay on the path.
    if here != ROOT:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    from sweeps.cli.command import main as run

    run()


def _tolerate_warnings() -> None:
    """Stop warnings from becoming errors (PYTHONWARNINGS=error), here and in child processes: libraries do warn."""
    warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    kept = [each for each in os.environ.get("PYTHONWARNINGS", "").split(",") if not each.strip().startswith("error")]
    if "PYTHONWARNINGS" in os.environ:
        os.environ["PYTHONWARNINGS"] = ",".join(kept)


if __name__ == "__main__":
    main()
