"""Tables and figures from the record of sweeps: reads files, needs no cluster."""

from analysis.ablation import configurations, marginal, pivot
from analysis.figures import (
    axes_versus_objective,
    heat_map,
    parallel_coordinates,
    pareto,
    rank_curves,
    steps_versus_quality,
)
from analysis.pictures import samples, spectrum
from analysis.ranking import Best, best, by_configuration
from analysis.runs import Counts, Record, RecordError, SweepInfo, load
from analysis.style import save
from analysis.tables import Cell, Column, Row, Table

__all__ = [
    "Best",
    "Cell",
    "Column",
    "Counts",
    "Record",
    "RecordError",
    "Row",
    "SweepInfo",
    "Table",
    "axes_versus_objective",
    "best",
    "by_configuration",
    "configurations",
    "heat_map",
    "load",
    "marginal",
    "parallel_coordinates",
    "pareto",
    "pivot",
    "rank_curves",
    "samples",
    "save",
    "spectrum",
    "steps_versus_quality",
]
