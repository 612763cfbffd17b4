"""Tables and figures from the record of sweeps: reads files, needs no cluster.

The names are imported when they are first asked for: who reads a record needs no plotting library.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from analysis.configuration.ranking import Best, best, by_configuration
    from analysis.figures.pictures import samples, spectrum
    from analysis.figures.style import save
    from analysis.figures.sweep_figures import (
        axes_versus_objective,
        heat_map,
        parallel_coordinates,
        pareto,
        rank_curves,
        steps_versus_quality,
    )
    from analysis.record.runs import Counts, Record, RecordError, SweepInfo, load
    from analysis.render.table import Cell, Column, Row, Table
    from analysis.tables.configurations import configurations, marginal, pivot

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration.ranking": ["Best", "best", "by_configuration"],
        "figures.pictures": ["samples", "spectrum"],
        "figures.style": ["save"],
        "figures.sweep_figures": [
            "axes_versus_objective",
            "heat_map",
            "parallel_coordinates",
            "pareto",
            "rank_curves",
            "steps_versus_quality",
        ],
        "record.runs": ["Counts", "Record", "RecordError", "SweepInfo", "load"],
        "render.table": ["Cell", "Column", "Row", "Table"],
        "tables.configurations": ["configurations", "marginal", "pivot"],
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
