"""Tables and figures from recorded sweeps. It reads files and needs no cluster.

Names are imported on first use, so that reading a record needs no plotting library.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from analysis.configuration.configurations import Configurations, best, by_configuration
    from analysis.configuration.ranking import Best
    from analysis.figures.across import critical_difference, performance_profiles
    from analysis.figures.dependence import partial_dependence
    from analysis.figures.maps import axes_versus_objective, heat_map
    from analysis.figures.parallel import parallel_coordinates
    from analysis.figures.pareto import pareto
    from analysis.figures.pictures import samples, spectrum
    from analysis.figures.rank_curves import rank_curves
    from analysis.figures.ranks import ranks_versus_quality
    from analysis.figures.steps import steps_versus_quality
    from analysis.figures.style import save
    from analysis.record.example import example
    from analysis.record.runs import Counts, Record, RecordError, SweepInfo, load
    from analysis.render.cells import Cell, Column, Row
    from analysis.render.table import Table
    from analysis.report.write import export, write_paper_table, write_report, write_tables
    from analysis.tables.ablation_path import ablation_path
    from analysis.tables.across import across_sets
    from analysis.tables.anytime import anytime, best_so_far
    from analysis.tables.best_levels import best_levels
    from analysis.tables.configurations import configurations
    from analysis.tables.controls import controls
    from analysis.tables.cost import cost, failures, provenance
    from analysis.tables.early_stopping import early_stopping
    from analysis.tables.expected_best import expected_best
    from analysis.tables.health import health
    from analysis.tables.importance import importance
    from analysis.tables.importance_pairs import importance_pairs
    from analysis.tables.interaction import interaction
    from analysis.tables.marginal import marginal
    from analysis.tables.one_factor import one_factor
    from analysis.tables.pairs import comparisons, pivot
    from analysis.tables.paper import paper_table
    from analysis.tables.pareto import front
    from analysis.tables.partial_dependence import dependence_table
    from analysis.tables.ranks import quality_by_rank
    from analysis.tables.scaling import scaling
    from analysis.tables.steps import steps_to_quality
    from analysis.tables.variance import variance

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration.configurations": ["Configurations", "best", "by_configuration"],
        "configuration.ranking": ["Best"],
        "figures.across": ["critical_difference", "performance_profiles"],
        "figures.dependence": ["partial_dependence"],
        "figures.maps": ["axes_versus_objective", "heat_map"],
        "figures.parallel": ["parallel_coordinates"],
        "figures.pareto": ["pareto"],
        "figures.pictures": ["samples", "spectrum"],
        "figures.rank_curves": ["rank_curves"],
        "figures.ranks": ["ranks_versus_quality"],
        "figures.steps": ["steps_versus_quality"],
        "figures.style": ["save"],
        "record.example": ["example"],
        "record.runs": ["Counts", "Record", "RecordError", "SweepInfo", "load"],
        "render.cells": ["Cell", "Column", "Row"],
        "render.table": ["Table"],
        "report.write": ["export", "write_paper_table", "write_report", "write_tables"],
        "tables.ablation_path": ["ablation_path"],
        "tables.across": ["across_sets"],
        "tables.anytime": ["anytime", "best_so_far"],
        "tables.best_levels": ["best_levels"],
        "tables.configurations": ["configurations"],
        "tables.controls": ["controls"],
        "tables.cost": ["cost", "failures", "provenance"],
        "tables.early_stopping": ["early_stopping"],
        "tables.expected_best": ["expected_best"],
        "tables.health": ["health"],
        "tables.importance": ["importance"],
        "tables.importance_pairs": ["importance_pairs"],
        "tables.interaction": ["interaction"],
        "tables.marginal": ["marginal"],
        "tables.one_factor": ["one_factor"],
        "tables.pairs": ["comparisons", "pivot"],
        "tables.paper": ["paper_table"],
        "tables.pareto": ["front"],
        "tables.partial_dependence": ["dependence_table"],
        "tables.ranks": ["quality_by_rank"],
        "tables.scaling": ["scaling"],
        "tables.steps": ["steps_to_quality"],
        "tables.variance": ["variance"],
    },
)

__all__ = [
    "Best",
    "Cell",
    "Column",
    "Configurations",
    "Counts",
    "Record",
    "RecordError",
    "Row",
    "SweepInfo",
    "Table",
    "ablation_path",
    "across_sets",
    "anytime",
    "axes_versus_objective",
    "best",
    "best_levels",
    "best_so_far",
    "by_configuration",
    "comparisons",
    "configurations",
    "controls",
    "cost",
    "critical_difference",
    "dependence_table",
    "early_stopping",
    "example",
    "expected_best",
    "export",
    "failures",
    "front",
    "health",
    "heat_map",
    "importance",
    "importance_pairs",
    "interaction",
    "load",
    "marginal",
    "one_factor",
    "paper_table",
    "parallel_coordinates",
    "pareto",
    "partial_dependence",
    "performance_profiles",
    "pivot",
    "provenance",
    "quality_by_rank",
    "rank_curves",
    "ranks_versus_quality",
    "samples",
    "save",
    "scaling",
    "spectrum",
    "steps_to_quality",
    "steps_versus_quality",
    "variance",
    "write_paper_table",
    "write_report",
    "write_tables",
]
