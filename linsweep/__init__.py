"""Sweeps over Linearizers: the Python API, whose functions are named after the commands.

>>> import linsweep as ls
>>> record = ls.load("runs")
>>> record.names
'before, cut'

Names are imported lazily: ``import linsweep`` alone imports neither torch nor Ray nor pandas.
"""

from typing import TYPE_CHECKING

import lazy_loader

from linsweep.siblings import SiblingFinder

SiblingFinder.install()

if TYPE_CHECKING:
    from sweeps.api.classes import Comparison, LaunchResult, LinsweepError, Listing, Logs, Plan, Record, Status, Sweep
    from sweeps.api.looking import list, logs
    from sweeps.api.making import delete, init
    from sweeps.api.records import check, compare, export, load, report, table
    from sweeps.api.running import launch, plan, resume, retry, schema, status, stop
    from sweeps.api.tracking import promote, sync
    from sweeps.api.trials import reproduce, sample
    from sweeps.api.version import __version__

__getattr__, __dir__, _ = lazy_loader.attach(
    "sweeps.api",
    submod_attrs={
        "classes": [
            "Comparison",
            "LaunchResult",
            "LinsweepError",
            "Listing",
            "Logs",
            "Plan",
            "Record",
            "Status",
            "Sweep",
        ],
        "looking": ["list", "logs"],
        "making": ["delete", "init"],
        "records": ["check", "compare", "export", "load", "report", "table"],
        "running": ["launch", "plan", "resume", "retry", "schema", "status", "stop"],
        "tracking": ["promote", "sync"],
        "trials": ["reproduce", "sample"],
        "version": ["__version__"],
    },
)

__all__ = [
    "Comparison",
    "LaunchResult",
    "LinsweepError",
    "Listing",
    "Logs",
    "Plan",
    "Record",
    "Status",
    "Sweep",
    "__version__",
    "check",
    "compare",
    "delete",
    "export",
    "init",
    "launch",
    "list",
    "load",
    "logs",
    "plan",
    "promote",
    "report",
    "reproduce",
    "resume",
    "retry",
    "sample",
    "schema",
    "status",
    "stop",
    "sync",
    "table",
]
