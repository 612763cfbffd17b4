"""The command line: every command of `linsweep`, on top of the functions of ``sweeps.api``."""

from sweeps.cli.command import main

__all__ = ["main"]
