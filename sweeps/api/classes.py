"""The classes that the functions return or raise."""

from analysis.record.runs import Record
from linearizer_core.errors import LinsweepError
from sweeps.compare import Comparison
from sweeps.execution.plan import Plan
from sweeps.listing import Listing
from sweeps.logs import Logs
from sweeps.result import LaunchResult
from sweeps.spec.model import Sweep
from sweeps.status import Status

__all__ = ["Comparison", "LaunchResult", "LinsweepError", "Listing", "Logs", "Plan", "Record", "Status", "Sweep"]
