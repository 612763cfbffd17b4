"""Tables and figures from the record of sweeps: reads files, needs no cluster."""

from analysis.ablation import configurations, marginal, pivot
from analysis.figures import axes_versus_objective, save, steps_versus_quality
from analysis.ranking import Best, best, by_configuration
from analysis.runs import Record, RecordError, SweepInfo, load
from analysis.tables import Cell, Column, Row, Table

__all__ = [
    "Best",
    "Cell",
    "Column",
    "Record",
    "RecordError",
    "Row",
    "SweepInfo",
    "Table",
    "axes_versus_objective",
    "best",
    "by_configuration",
    "configurations",
    "load",
    "marginal",
    "pivot",
    "save",
    "steps_versus_quality",
]
