"""A record's configurations, built once and passed to every table, figure and sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.configuration import frame
from analysis.configuration.constraints import Constraint
from analysis.configuration.ranking import Best, best_of, in_order
from analysis.record.runs import KINDS, Record


class Configurations:
    """The configurations of a record: one row per configuration over its seeds, their order, and the best.

    Every function that takes a record takes this instead, so that several tables of one record share the work. Do not
    change its frames; change a copy.

    >>> import analysis
    >>> configurations = analysis.Configurations(analysis.example())
    >>> configurations.best.name
    't011'
    >>> configurations.ranked["name"].head(3).tolist()
    ['t011', 't007', 't010']
    >>> analysis.marginal(configurations, "model.flow.depth")
    <Table marginal-depth, 3 × 6>
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    def __repr__(self) -> str:
        return f"<Configurations of {self.record.names}; {self.record.counts}>"

    @classmethod
    def of(cls, source: Recorded) -> Configurations:
        """The configurations of a record; ``source`` itself if they are built already."""
        return source if isinstance(source, Configurations) else cls(source)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per configuration, in the order of ``record.runs``, as ``by_configuration`` describes."""
        return frame.build(self.record)

    def of_kinds(self, kinds: Sequence[str]) -> pd.DataFrame:
        """The rows of ``frame`` of these kinds, with a new index."""
        return self.frame[self.frame["kind"].isin(kinds)].reset_index(drop=True)

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """The configurations that have not failed, in the order of a table, with ``rank``.

        The search is sorted by rank (0 finished, 1 finished but breaking a constraint, 2 finished without a finite
        value, 3 stopped, 4 not done), then by the first objective; confirmed configurations by the first objective;
        controls and references by number. Raises ``RecordError`` if no trial has the first objective.
        """
        return in_order(self.record, self.frame)

    @cached_property
    def best(self) -> Best | None:
        """The best configuration by the first objective, among those of the search that finished at every seed.

        Configurations that meet the constraints come first; None while no configuration has finished. Raises
        ``RecordError`` if no trial has the first objective.
        """
        return best_of(self.record, self.ranked)

    @cached_property
    def best_row(self) -> Mapping[Any, Any] | None:
        """The row of ``frame`` that is ``best``."""
        top = self.best
        if top is None:
            return None
        mine = self.frame[(self.frame["sweep"] == top.sweep) & (self.frame["kind"] == "search")]
        return next(row for row in mine.to_dict("records") if row["trials"] == top.trials)

    @property
    def duplicates(self) -> pd.DataFrame:
        """The trials that repeat another of their sweep: ``sweep, trial, duplicate_of``, and ``reused``, whether the
        result was reused."""
        runs = self.record.runs
        found = runs.loc[runs["duplicate_of"].notna(), ["sweep", "trial", "duplicate_of"]]
        return found.assign(reused=runs["reused_from"].notna()).reset_index(drop=True)

    @property
    def constraints(self) -> dict[str, dict[str, Constraint]]:
        """The constraints on the best configuration, by sweep and metric key."""
        return {sweep.name: frame.constraints(sweep) for sweep in self.record.sweeps}


Recorded = Record | Configurations
"""A record, or its configurations if they are built already."""


def by_configuration(record: Recorded, kinds: Sequence[str] = KINDS) -> pd.DataFrame:
    """One row per configuration of these kinds, over its seeds, in the order of ``record.runs``.

    Columns: ``sweep, kind, number, name`` (prefixed with the sweep if there are several), ``label, config_hash,
    overrides, trials`` (a tuple); ``state`` (``finished`` if all seeds of the sweep finished, ``stopped`` if one was
    stopped, ``failed`` if all failed, otherwise ``unfinished``); ``words`` (the state as tables show it); ``broken``
    (the constraints it breaks); ``seeds`` (how many are in the means, missing for references); ``used`` (their trials:
    those that finished; if none, the stopped ones that came furthest; if none, of all those that came furthest);
    ``finished`` (how many finished). Then one column per axis, missing where it is inactive; and for each metric its
    mean, and in ``"<metric> ci95"`` half the width of the mean's 95 % confidence interval (Student t), NaN for one
    seed. Raises ``RecordError`` for a kind that does not exist.

    >>> import analysis
    >>> frame = analysis.by_configuration(analysis.example(), ["search"])
    >>> frame[["name", "model.flow.depth", "seeds", "state"]].head(2)
       name  model.flow.depth  seeds     state
    0  t000                 1      2  finished
    1  t001                 1      2  finished
    """
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in wanted:
        Configurations.of(record).record.checked(kind, KINDS, "kind of trial")
    return Configurations.of(record).of_kinds(wanted)


def best(record: Recorded) -> Best | None:
    """The best configuration by the first objective, among those of the search that finished at every seed.

    Configurations that meet the constraints come first; None while no configuration has finished. Raises
    ``RecordError`` if no trial has the first objective.

    >>> import analysis
    >>> top = analysis.best(analysis.example())
    >>> top.name, top.overrides, round(top.mean, 2)
    ('t011', {'model.flow.depth': 4, 'model.operator.rank': 32}, 42.16)
    """
    return Configurations.of(record).best
