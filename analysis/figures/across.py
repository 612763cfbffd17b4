"""Figures that compare methods over several data sets: mean ranks, and the distribution of scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.configuration.blocks import blocks_of
from analysis.configuration.configurations import Configurations, Recorded
from analysis.figures import style
from analysis.figures.drawing import marked, number, shortened, wrapped
from analysis.figures.style import Chart
from analysis.statistics.aggregate import performance_profile
from analysis.statistics.intervals import LEVEL
from analysis.statistics.mean_ranks import mean_ranks

MOST_RANKED = 20
"""The most methods in a diagram; if there are more, those with the best mean ranks are drawn."""
MOST_PROFILES = 6
LINE = 0.16
"""Inches between names in a diagram."""
NAME = 20
"""Characters per line of such a name."""


def critical_difference(
    record: Recorded,
    across: str = "data.name",
    axis: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
) -> Chart:
    """Mean ranks over data sets on a line; bars join those that do not differ significantly (Demšar, 2006, figure 1).

    Arguments and errors are those of ``across_sets``. At most twenty methods are drawn, the best ones.

    >>> import analysis
    >>> figure = analysis.critical_difference(analysis.example(), "model.operator.rank", "model.flow.depth")
    >>> [mark.item for mark in figure.marks if mark.series == "mean ranks"]
    ['depth 4', 'depth 2', 'depth 1']
    """
    found = blocks_of(Configurations.of(record), across, axis, metric, unequal=unequal)
    ranks = mean_ranks(found.losses)
    order = found.in_order(ranks.ranks)[:MOST_RANKED]
    cliques = [(first, min(last, len(order) - 1)) for first, last in ranks.cliques() if first < len(order) - 1]
    places = [float(ranks.ranks[place]) for place in order]
    half = (len(order) + 1) // 2
    names = [wrapped(shortened(found.methods[place]), NAME) for place in order]
    step = 0.65 * max(name.count("\n") for name in names) + 1
    depth = 0.4 + 0.45 * len(cliques) + 0.8 * step
    with style.applied():
        figure = style.figure(height=0.55 + LINE * (depth + half * step))
        axes = figure.add_subplot()
        low, high = 1.0, max(float(len(found.methods)), ranks.critical_difference + 1)
        high = high if len(order) == len(found.methods) else max(places[-1], ranks.critical_difference + 1)
        for rank, place, where in zip(places, order, range(len(order)), strict=True):
            left = where < half
            line = depth + step * (where if left else len(order) - 1 - where)
            end = low - 0.05 * (high - low) if left else high + 0.05 * (high - low)
            artist = axes.plot([rank, rank, end], [0, line, line], color=style.INK, linewidth=0.7)[0]
            method = found.methods[place]
            marked(axes, artist, "mean ranks", method, [f"{method}: mean rank {rank:.3g}"])
            look: dict[str, Any] = {"va": "center", "fontsize": style.SMALL, "ha": "right" if left else "left"}
            axes.annotate(names[where], (end, line), xytext=(-2 if left else 2, 0), textcoords="offset points", **look)
        for level, (first, last) in enumerate(cliques):
            height = 0.6 + 0.45 * level
            bar = axes.plot(
                [places[first] - 0.01 * (high - low), places[last] + 0.01 * (high - low)],
                [height, height],
                color=style.colours(3)[1],
                linewidth=2.2,
                solid_capstyle="round",
            )[0]
            told = ", ".join(found.methods[place] for place in order[first : last + 1])
            marked(axes, bar, "no significant difference", "", [f"no significant difference: {told}"])
        above = -1.3
        axes.plot([low, low + ranks.critical_difference], [above, above], color=style.GREY, linewidth=1.2, marker="|")
        words = f"critical difference {ranks.critical_difference:.2f}"
        axes.annotate(words, (low, above), xytext=(0, 3), textcoords="offset points", fontsize=style.SMALL)
        axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        axes.set_ylim(depth + step * (half - 0.4), above - 1.0)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.yaxis.set_visible(False)
        axes.xaxis.set_visible(False)
        axes.grid(visible=False)
        axes.hlines(0, low, high, color=style.INK, linewidth=0.8)
        for tick in np.arange(low, high + 1e-9, max(1, round((high - low) / 8))):
            axes.vlines(tick, -0.25, 0, color=style.INK, linewidth=0.6)
            axes.annotate(
                f"{tick:g}", (tick, -0.25), xytext=(0, 1), textcoords="offset points", ha="center", fontsize=style.SMALL
            )
    return figure


def performance_profiles(
    record: Recorded,
    across: str = "data.name",
    axis: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
) -> Chart:
    """The share of runs whose score is above a threshold, with equal weight for each data set (Agarwal et al., 2021).

    There is one line for each of the six methods with the best mean ranks. With three or more seeds, bands show
    intervals by a bootstrap within each data set. A method whose line is nowhere below another's is better at any
    threshold. Arguments and errors are those of ``across_sets``.

    >>> import analysis
    >>> figure = analysis.performance_profiles(analysis.example(), "model.operator.rank", "model.flow.depth")
    >>> figure.axes[0].get_ylabel()
    'share of runs above it'
    """
    found = blocks_of(Configurations.of(record), across, axis, metric, unequal=unequal)
    order = found.in_order(mean_ranks(found.losses).ranks)[:MOST_PROFILES]
    scores = {found.methods[place]: found.scores(found.methods[place]) for place in order}
    every = np.concatenate([runs for tasks in scores.values() for runs in tasks])
    span = float(np.ptp(every)) or 1.0
    thresholds = np.linspace(float(every.min()) - 0.03 * span, float(every.max()) + 0.03 * span, 201)
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        for place, (method, tasks) in enumerate(scores.items()):
            colour = style.colours(len(scores))[place]
            profile, low, high = performance_profile(tasks, thresholds)
            look: dict[str, Any] = {"color": colour, "label": shortened(method), "markevery": (place * 7, 50)}
            line = axes.plot(thresholds, profile, marker=style.MARKERS[place], markersize=3.5, **look)[0]
            mean = float(np.mean([runs.mean() for runs in tasks]))
            marked(axes, line, method, method, [f"{method}: mean score {number(mean)}"])
            if low is not None and high is not None:
                band = axes.fill_between(thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
                marked(axes, band, method, method, [f"{method}: {100 * (1 - LEVEL):.0f} % interval"])
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(thresholds[0], thresholds[-1])
        axes.set_xlabel(f"score of {found.metric}\n({found.scaled})")
        axes.set_ylabel("share of runs above it")
        figure.legend(loc="outside upper left", ncols=2, columnspacing=1.0)
    return figure
