"""The table of all configurations, ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import QUALITY, axis_labels, label_of, metric_label
from analysis.configuration.levels import is_number
from analysis.configuration.names import default_metrics, metric_of
from analysis.configuration.objective import against_its_direction, first_objective
from analysis.configuration.ranking import Best
from analysis.configuration.replicates import population, replicates
from analysis.record.runs import Record
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.intervals import BOOTSTRAP_FROM, METHODS, TOO_FEW, Method
from analysis.tables.layout import (
    BLOCKS,
    caveat_notes,
    check_method,
    control_notes,
    estimated,
    failure_notes,
    header,
    python_value,
    repeat_notes,
)


def configurations(record: Recorded, metrics: Sequence[str] | None = None, *, ci: Method = "t") -> Table:
    """All configurations, ranked by the first objective, then confirmed ones, controls and references.

    ``metrics`` are the metric columns; by default objectives, test scores (distances with precision and recall), the
    quality at the fewest and the most steps, linearity and size, without timings. ``ci`` is the method of intervals
    over seeds. Raises ``RecordError`` for a metric that was not recorded.

    >>> import analysis
    >>> analysis.configurations(analysis.example(), ["quality/swd_collapsed", "cost/params"])
    <Table configurations, 17 × 7>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    check_method(record, ci)
    key, _ = first_objective(record)
    shown = default_metrics(record)
    if metrics is not None:
        shown = list(dict.fromkeys(metric_of(record, metric) for metric in _listed(metrics)))
    frame = configurations.ranked
    top = configurations.best
    identity = _identity_columns(record, frame)
    rows = []
    used = [
        "sweep",
        "trials",
        "used",
        "kind",
        "state",
        "finished",
        "broken",
        *identity,
        *shown,
        *(f"{m} ci95" for m in shown),
    ]
    found = {name: frame[name].tolist() for name in used}
    for values in zip(*found.values(), strict=True):
        row = dict(zip(found, values, strict=True))
        cells = [Cell(python_value(row[field])) for field in identity]
        cells += [estimated(record, row, metric, ci) for metric in shown]
        winner = top is not None and (row["sweep"], row["trials"]) == (top.sweep, top.trials)
        rows.append(Row(tuple(cells), BLOCKS[row["kind"]], _marker(row), winner))
    return Table(
        name="configurations",
        title=titled(record, shown, "every configuration"),
        columns=(*identity.values(), *_metric_columns(record, shown, frame)),
        rows=tuple(rows),
        notes=(
            *_notes(record, frame, rows, key, top, ci),
            *_power(configurations, key),
            *_extrapolated(shown),
            *control_notes(configurations),
            *caveat_notes(record, shown),
        ),
    )


def _power(configurations: Configurations, key: str) -> list[str]:
    """What the seeds of the search can tell: the difference that they detect, and how many would decide the rest."""
    record, row = configurations.record, configurations.best_row
    frame = population(configurations, key)
    frame = frame[frame["counts"]]
    if row is None or len(frame) < 2 or row["name"] not in set(frame["name"]):
        return []
    compared = replicates(record, frame, key, frame["name"].astype("object"), record.axes, False)
    if (frame["seeds"] == 1).all():
        return ["One seed per configuration: no difference between configurations can be tested."]
    found = compared.against(str(row["name"]), frame["name"].tolist(), chosen_among=len(frame))
    if compared.unit != "seeds" or not found.family:
        return []
    return list(filter(None, [found.what_these_tell(compared.unit)]))


def _extrapolated(shown: Sequence[str]) -> list[str]:
    """A note on distances extrapolated to infinitely many images, if any is shown."""
    if not any((match := QUALITY.fullmatch(key)) and match["how"] == "infinite" for key in shown):
        return []
    return ["n → ∞: extrapolated to infinitely many samples and images; by chance negative where distances are near 0."]


def _listed(metrics: Sequence[str]) -> Sequence[str]:
    """Metric keys as a list; a single string is one key, not a sequence of letters."""
    return [metrics] if isinstance(metrics, str) else metrics


def _identity_columns(record: Record, frame: pd.DataFrame) -> dict[str, Column]:
    """Columns that identify a configuration, by the column of ``ranked``'s frame that they show."""
    columns = {"name": Column("configuration", "configuration", "left")}
    if len(record.sweeps) > 1:
        columns["sweep"] = Column("sweep", "sweep", "left")
    labels = axis_labels(record)
    for axis in record.axes:
        numeric = is_number(frame[axis])
        whole = pd.api.types.is_integer_dtype(frame[axis])
        spec = ("d" if whole else ".3g") if numeric else ""
        columns[axis] = Column(labels[axis], axis, "right" if numeric else "left", spec)
    return columns | {"seeds": Column("seeds", "seeds", spec="d"), "words": Column("state", "state", "left")}


def _metric_columns(record: Record, shown: Sequence[str], frame: pd.DataFrame) -> list[Column]:
    family = _family(record, shown)
    headers = [header(record, metric, family) for metric in shown]
    if len(set(headers)) < len(headers):
        headers = list(shown)
    specs = {metric: number_format(frame[metric].dropna()) for metric in shown}
    # Columns to be compared with each other, a metric at several step counts, have the same digits.
    families = {metric: match["metric"] if (match := QUALITY.fullmatch(metric)) else metric for metric in shown}
    for family in set(families.values()):
        alike = [metric for metric in shown if families[metric] == family]
        specs |= dict.fromkeys(alike, number_format(pd.concat([frame[metric].dropna() for metric in alike])))
    return [Column(text, metric, spec=specs[metric]) for text, metric in zip(headers, shown, strict=True)]


def titled(record: Record, metrics: Sequence[str], what: str) -> str:
    """The title of a table of configurations: the sweeps, the quality metric that headers omit, and ``what``."""
    family = _family(record, metrics)
    return f"{record.names}: {f'{metric_label(record, family)} of ' if family else ''}{what}"


def _family(record: Record, metrics: Sequence[str]) -> str:
    """The quality metric named in the title instead of each header: the first objective's, or the only one."""
    families = {match["metric"] for key in metrics if (match := QUALITY.fullmatch(key))}
    match = QUALITY.fullmatch(first_objective(record)[0])
    if match is not None and match["metric"] in families:
        return match["metric"]
    return families.pop() if len(families) == 1 else ""


def _marker(row: Mapping[Any, Any]) -> str:
    if row["state"] == "finished":
        return "§" if row["broken"] else ""
    # If some seeds have finished, the values are theirs.
    return "‡" if row["finished"] or row["state"] == "unfinished" else "†"


def _notes(
    record: Record, frame: pd.DataFrame, rows: Sequence[Row], key: str, top: Best | None, ci: Method
) -> list[str]:
    notes = []
    if top is not None:
        notes.append(
            f"Bold: the best finished configuration by {label_of(record, key)}{f' ({top.note})' if top.note else ''}."
        )
    notes += against_its_direction(record)
    if any(cell.half_width is not None or cell.interval is not None for row in rows for cell in row.cells):
        sign = "±: half width of the" if ci == "t" else "[low, high]:"
        notes.append(f"{sign} 95 % confidence interval over seeds ({METHODS[ci]}).")
    if ci == "bootstrap" and frame["seeds"].between(2, BOOTSTRAP_FROM - 1).any():
        notes.append(TOO_FEW)
    markers = {row.marker for row in rows}
    if "†" in markers:
        notes.append("† stopped early: values are of its last evaluation, not comparable with finished ones.")
    if "‡" in markers:
        notes.append("‡ not finished at every seed: values are over the seeds, or epochs, available.")
    if any(sweep.races for sweep in record.sweeps):
        notes.append(
            "A race: only configurations that could still be the best got more seeds. Those with fewer were worse than "
            "the leader by a paired t test, and are ranked below those with more."
        )
    if (frame["broken"] != "").any():
        notes.append(f"§ breaks a constraint: {', '.join(sorted(set(frame['broken']) - {''}))}.")
    odd = frame.loc[frame["rank"] == 2, "name"]
    if not odd.empty:
        notes.append(f"Finished without a finite {label_of(record, key)}: {', '.join(odd)}.")
    return notes + repeat_notes(record) + failure_notes(record)
