"""The figures of a record, and their captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.configuration.blocks import has_several_sets
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.curves import curve_keys
from analysis.configuration.labels import label_of
from analysis.configuration.names import metric_of
from analysis.figures.across import critical_difference, performance_profiles
from analysis.figures.dependence import partial_dependence
from analysis.figures.maps import axes_versus_objective, depth_and_rank, heat_map
from analysis.figures.parallel import parallel_coordinates
from analysis.figures.pareto import pareto
from analysis.figures.pictures import samples, spectrum
from analysis.figures.rank_curves import rank_curves
from analysis.figures.ranks import ranks_versus_quality
from analysis.figures.steps import steps_versus_quality
from analysis.figures.style import Chart
from analysis.record.frames import RANKS
from analysis.record.runs import RecordError

BARS = (
    "Bars and bands are 95 % Student t intervals over three or more seeds, clipped at the frame; fewer seeds are "
    "shown as dots."
)


@dataclass(frozen=True)
class ListedFigure:
    """A figure with its file name, title and caption."""

    name: str
    title: str
    caption: str
    chart: Chart


@dataclass(frozen=True)
class ListOfFigures:
    """Figures, and one line per figure that could not be made, with the reason."""

    made: list[ListedFigure]
    refused: list[str]


def list_of_figures(
    record: Recorded, metric: str | None = None, *, unequal: bool = False, margin: float | None = None
) -> ListOfFigures:
    """Every figure that the record supports. ``metric`` is the first objective by default."""
    configurations = Configurations.of(record)
    record = configurations.record
    metric = metric_of(record, metric)
    called = str(label_of(record, metric))
    called = called[0].upper() + called[1:]
    wanted: list[tuple[str, str, str, Callable[[], Chart]]] = [
        (
            "steps",
            "Quality against solver steps",
            "One line per finished configuration of the search: the mean over its seeds, coloured by the first axis "
            "and dashed by the second. Dotted lines are "
            f"references; real images against real ones are the floor. {BARS}",
            lambda: steps_versus_quality(configurations),
        ),
        (
            "heat-map",
            f"{called} over two axes",
            "Mean of each pair. The best is framed; ≈: equal to it within the margin; ~: undecided; ?: not "
            "tested; ‡: only survivors of early stopping. Hatched: no value.",
            lambda: heat_map(configurations, metric=metric, unequal=unequal, margin=margin),
        ),
        (
            "rank-curve",
            f"{called} against rank",
            f"One line per depth; small dots are replicates. {BARS}",
            lambda: rank_curves(configurations, metric=metric, unequal=unequal),
        ),
        *_of_ranks(configurations),
        *_of_sets(configurations, metric, unequal),
        (
            "configurations",
            "Every configuration of the search",
            "Filled: finished. Hollow: stopped early, coloured by the last evaluation, not comparable with the rest.",
            lambda: axes_versus_objective(configurations, *depth_and_rank(record), metric),
        ),
        (
            "pareto",
            "Quality against cost",
            f"No other finished configuration is better in both metrics than those on the line. {BARS}",
            lambda: pareto(configurations, unequal=unequal),
        ),
        (
            "partial-dependence",
            f"{called} along each axis",
            "The mean prediction of a Gaussian process at each value, over all values of the other axes, with its 95 % "
            "interval. Dots: configurations.",
            lambda: partial_dependence(configurations, metric, unequal=unequal),
        ),
        (
            "parallel",
            "All axes at once",
            "One line per configuration of the search; the best is thick, unfinished ones are dashed and grey.",
            lambda: parallel_coordinates(configurations),
        ),
        (
            "spectrum",
            "Singular values",
            "For each operator (by label or cluster) of the best configuration's first seed. If one A(t) is learned: "
            "A at several t, B, to which all steps collapse, and B of the best configurations.",
            lambda: spectrum(configurations),
        ),
        (
            "samples",
            "Samples by configuration",
            "Sixteen images each; a model that samples applies its operator once, to the same noise for all.",
            lambda: samples(configurations),
        ),
    ]
    found = ListOfFigures([], [])
    for name, title, caption, draw in wanted:
        try:
            found.made.append(ListedFigure(name, title, caption, draw()))
        except RecordError as error:
            found.refused.append(f"{title}: {error}")
    return found


def _of_sets(
    configurations: Configurations, metric: str | None, unequal: bool
) -> list[tuple[str, str, str, Callable[[], Chart]]]:
    """The figures that compare methods over data sets, if there are several."""
    if not has_several_sets(configurations.record):
        return []
    return [
        (
            "critical-difference",
            "Mean ranks over data sets",
            "Configurations with a value on every data set; those joined by a bar are not shown to differ (Nemenyi).",
            lambda: critical_difference(configurations, metric=metric, unequal=unequal),
        ),
        (
            "performance-profiles",
            "Performance profiles over data sets",
            "The share of runs whose score is above a threshold, with equal weight for each data set; bands are 95 % "
            "intervals by a bootstrap within each data set.",
            lambda: performance_profiles(configurations, metric=metric, unequal=unequal),
        ),
    ]


def _of_ranks(configurations: Configurations) -> list[tuple[str, str, str, Callable[[], Chart]]]:
    """The figure of quality against the rank used for sampling, if there are such curves."""
    if not curve_keys(configurations.record, RANKS):
        return []
    return [
        (
            "ranks",
            "Quality against the rank used for sampling",
            "One line per trained model, at temperature 1, on the validation split, on which the rank is chosen; "
            f"dashed: the best model on the test split. Star: the chosen rank and temperature. {BARS}",
            lambda: ranks_versus_quality(configurations),
        )
    ]
