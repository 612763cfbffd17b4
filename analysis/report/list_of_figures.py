"""Which figures a record gives, and what is to be said below each."""

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
    "Bars and bands are 95 % Student t intervals over three seeds or more, cut off where they leave the frame; fewer "
    "seeds are dots."
)


@dataclass(frozen=True)
class ListedFigure:
    """A figure with the name of its file, its title and what its caption says."""

    name: str
    title: str
    caption: str
    chart: Chart


@dataclass(frozen=True)
class ListOfFigures:
    """Figures, and for each that could not be made why, in one line."""

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
            "A line for each finished configuration of the search, the mean over its seeds, coloured by the first axis "
            "and dashed by the second. Dotted lines are "
            f"references; real images against real ones are the floor. {BARS}",
            lambda: steps_versus_quality(configurations),
        ),
        (
            "heat-map",
            f"{called} over two axes",
            "Means of the pairs. The best one is framed; ≈: equal to it within the margin; ~: undecided; ?: not "
            "tested; ‡: what early stopping left. Hatched: no value.",
            lambda: heat_map(configurations, metric=metric, unequal=unequal, margin=margin),
        ),
        (
            "rank-curve",
            f"{called} against rank",
            f"A line for each depth; small dots are replicates. {BARS}",
            lambda: rank_curves(configurations, metric=metric, unequal=unequal),
        ),
        *_of_ranks(configurations),
        *_of_sets(configurations, metric, unequal),
        (
            "configurations",
            "Every configuration of the search",
            "Filled: finished. Hollow: stopped early, coloured by the last evaluation, not comparable with the others.",
            lambda: axes_versus_objective(configurations, *depth_and_rank(record), metric),
        ),
        (
            "pareto",
            "Quality against cost",
            f"No other finished configuration is better in both than those on the line. {BARS}",
            lambda: pareto(configurations, unequal=unequal),
        ),
        (
            "partial-dependence",
            f"{called} along each axis",
            "What a Gaussian process predicts at each value, over all values of the other axes, with its 95 % "
            "interval. Dots: configurations.",
            lambda: partial_dependence(configurations, metric, unequal=unequal),
        ),
        (
            "parallel",
            "All axes at once",
            "A line for each configuration of the search; the best is thick, what did not finish is dashed grey.",
            lambda: parallel_coordinates(configurations),
        ),
        (
            "spectrum",
            "Singular values",
            "Of each operator, by label or cluster, of the best configuration's first seed; where one A(t) is learned, "
            "of that on the way and of B, that all steps collapse to, and of B of the best configurations.",
            lambda: spectrum(configurations),
        ),
        (
            "samples",
            "Samples by configuration",
            "Sixteen images each: of a model that samples, by one application of its operator to the same noise.",
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
    """The figures of what is best over several data sets, where there are several."""
    if not has_several_sets(configurations.record):
        return []
    return [
        (
            "critical-difference",
            "Mean ranks over data sets",
            "Configurations that have a value on every data set; those joined by a bar are not told apart (Nemenyi).",
            lambda: critical_difference(configurations, metric=metric, unequal=unequal),
        ),
        (
            "performance-profiles",
            "Performance profiles over data sets",
            "The share of runs, each data set counted alike, whose score is above a threshold; bands are 95 % "
            "intervals by a bootstrap within each data set.",
            lambda: performance_profiles(configurations, metric=metric, unequal=unequal),
        ),
    ]


def _of_ranks(configurations: Configurations) -> list[tuple[str, str, str, Callable[[], Chart]]]:
    """The figure of ranks that a training can be sampled with, where there are such curves."""
    if not curve_keys(configurations.record, RANKS):
        return []
    return [
        (
            "ranks",
            "Quality against the rank that is sampled with",
            "Of one training each, at temperature 1, on the validation split, by which rank is chosen; the best is "
            f"dashed on the test split. The star: the rank and the temperature that were chosen. {BARS}",
            lambda: ranks_versus_quality(configurations),
        )
    ]
