"""Tables and figures from the record of sweeps: reads files, needs no cluster.

The names are imported when they are first asked for: who reads a record needs no plotting library.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from analysis.configuration.configurations import best, by_configuration
    from analysis.configuration.ranking import Best
    from analysis.figures.maps import axes_versus_objective, heat_map
    from analysis.figures.parallel import parallel_coordinates
    from analysis.figures.pareto import pareto
    from analysis.figures.pictures import samples, spectrum
    from analysis.figures.rank_curves import rank_curves
    from analysis.figures.steps import steps_versus_quality
    from analysis.figures.style import save
    from analysis.record.runs import Counts, Record, RecordError, SweepInfo, load
    from analysis.render.cells import Cell, Column, Row
    from analysis.render.table import Table
    from analysis.tables.configurations import configurations
    from analysis.tables.marginal import marginal
    from analysis.tables.pairs import pivot

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration.configurations": ["Configurations", "best", "by_configuration"],
        "configuration.ranking": ["Best"],
        "figures.maps": ["axes_versus_objective", "heat_map"],
        "figures.parallel": ["parallel_coordinates"],
        "figures.pareto": ["pareto"],
        "figures.pictures": ["samples", "spectrum"],
        "figures.rank_curves": ["rank_curves"],
        "figures.steps": ["steps_versus_quality"],
        "figures.style": ["save"],
        "record.runs": ["Counts", "Record", "RecordError", "SweepInfo", "load"],
        "render.cells": ["Cell", "Column", "Row"],
        "render.table": ["Table"],
        "tables.configurations": ["configurations"],
        "tables.marginal": ["marginal"],
        "tables.pairs": ["pivot"],
    },
)

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
