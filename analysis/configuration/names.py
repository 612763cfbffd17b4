"""Finds axes and metrics by the names that users give: keys, parts of keys, or the names in tables and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from analysis.configuration.labels import QUALITY, given_label, how_words, label_of, metric_label
from analysis.configuration.objective import first_objective
from analysis.configuration.sampled import sampled_key, stem
from analysis.configuration.variety import precision_and_recall
from analysis.configuration.words import ARROWS
from analysis.record.runs import Record, RecordError, natural


def axis_of(record: Record, name: str) -> str:
    """The dotted name of a searched axis, from the name itself, its last part or its label.

    Raises ``RecordError`` with the candidates if there are several, or with the closest names if there is none.

    >>> import analysis
    >>> axis_of(analysis.example(), "depth")
    'model.flow.depth'
    """
    if name in record.axes:
        return name
    return _one_of(record, name, _axis_candidates(record, name), record.axes, "axis")


def metric_of(record: Record, name: str | None = None) -> str:
    """The key of a metric, from the key itself or from a name in a table; by default the first objective.

    A column head of the ablation table (``collapsed``, ``test``) means that column; a metric's name alone (``swd``) is
    sampled as the first objective is; after these come the part of a key after the slash, and labels.
    Raises ``RecordError`` with the candidates if there are several, or with the closest names if there is none.

    >>> import analysis
    >>> record = analysis.example()
    >>> [metric_of(record, name) for name in ("classifier_fd", "test", "k=100", "params")]
    ['quality/classifier_fd_collapsed', 'test/classifier_fd_collapsed', 'quality/classifier_fd_k100', 'cost/params']
    """
    if name is None:
        return first_objective(record)[0]
    if name in record.metrics:
        return name
    return _one_of(record, name, _candidates(record, name), record.metrics, "metric")


def column_of(record: Record, name: str) -> str:
    """The key of a column of the ablation table: an axis, a metric, or a column that identifies the row.

    Axes and metrics are named as for ``axis_of`` and ``metric_of``. Raises ``RecordError`` as these do.

    >>> import analysis
    >>> [column_of(analysis.example(), name) for name in ("rank", "test", "seeds")]
    ['model.operator.rank', 'test/classifier_fd_collapsed', 'seeds']
    """
    identity = ["configuration", *(["sweep"] if len(record.sweeps) > 1 else []), "seeds", "state"]
    known = [*identity, *record.axes, *record.metrics]
    if name in known:
        return name
    return _one_of(record, name, chain(_axis_candidates(record, name), _candidates(record, name)), known, "column")


def default_metrics(record: Record) -> list[str]:
    """The default metric columns of an ablation table, if recorded; none that differs between two runs of one spec."""
    known = record.metrics
    families = [match["metric"] for key in record.objective if (match := QUALITY.fullmatch(key))]
    families = families or [match["metric"] for key in known if (match := QUALITY.fullmatch(key))]
    wanted = [*record.objective]
    for family in dict.fromkeys(families):
        stepped = re.compile(rf"quality/{re.escape(family)}_k\d+")
        steps = sorted(filter(stepped.fullmatch, known), key=natural)
        test = sampled_key(record, "test", family)
        beside = [f"test/{family}_infinite", *precision_and_recall(record, test)]
        wanted += [test, *beside, f"quality/{family}_k1", *steps[-1:]]
    wanted += ["linearity/collapse_psnr", "linearity/roundtrip", "cost/params"]
    return [key for key in dict.fromkeys(wanted) if key in known]


def head(record: Record, metric: str, family: str = "") -> str:
    """A metric's column head without the arrow; ``family`` is a quality metric whose name is left out."""
    match = QUALITY.fullmatch(metric)
    if match is None or given_label(record, metric):
        return str(label_of(record, metric))
    words = [metric_label(record, match["metric"]).name] if match["metric"] != family else []
    split = ["test"] if match["split"] == "test" else []
    how = [] if split and match["how"] != "infinite" else [how_words(match["how"])]
    return " ".join([*words, *split, *how])


def _axis_candidates(record: Record, name: str) -> Iterator[list[str]]:
    """The axes that a name may mean, the most likely first."""
    yield [axis for axis in record.axes if axis.endswith(f".{name}")]
    yield [axis for axis in record.axes if _same(str(label_of(record, axis)), name)]


def _candidates(record: Record, name: str) -> Iterator[list[str]]:
    """The keys that a name may mean, the most likely first."""
    key = next(iter(record.objective), "")
    family = match["metric"] if (match := QUALITY.fullmatch(key)) else ""
    shown = default_metrics(record)
    for without in (family, ""):
        yield [metric for metric in shown if _same(head(record, metric, without), name)]
    if match is not None:
        named = [each for each in _stems(record) if _same(each, name) or _same(metric_label(record, each).name, name)]
        yield [each for metric in named if (each := f"{match['split']}/{metric}_{match['how']}") in record.metrics]
        yield [each for each in [f"{match['split']}/{name}"] if each in record.metrics]
    yield [
        metric
        for metric in record.metrics
        if any(_same(each, name) for each in (metric.partition("/")[2], stem(metric), str(label_of(record, metric))))
        or _same(label_of(record, metric).name, name)
    ]


def _stems(record: Record) -> list[str]:
    """The sample metrics in a record, by their names in ``evaluate.quality``."""
    return list(dict.fromkeys(match["metric"] for key in record.metrics if (match := QUALITY.fullmatch(key))))


def _one_of(record: Record, name: str, found: Iterator[list[str]], known: Sequence[str], what: str) -> str:
    candidates = next(filter(None, found), [])
    if len(candidates) > 1:
        raise RecordError(f"{record.names}: {what} {name!r} could be {', '.join(candidates)}; give one of these")
    return candidates[0] if candidates else record.checked(name, known, what)


def _same(one: str, other: str) -> bool:
    """Whether two names are the same apart from case, underscores, spaces and arrows."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    for arrow in filter(None, ARROWS.values()):
        name = name.replace(arrow.strip(), "")
    return re.sub(r"[\s_]+", "", name).casefold()
