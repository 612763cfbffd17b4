"""Links to MLflow's pages, and the view that they open: columns, order and charts chosen for a sweep."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from analysis.record.sweep_info import SweepInfo
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.tracking.cursors import read_note

VIEW_TAG = "mlflow.sharedViewState."
"""The prefix of the tag in which MLflow's UI keeps an experiment's shared views."""

SHOWN_RUNS = "FIRST_20_RUNS"

EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
"""Tags for the kind of an experiment; with these MLflow leaves out its pages for prompts and traces."""

NOTE_TAG = "mlflow.note.content"
"""The tag that MLflow shows as an experiment's description, in Markdown."""

CONFIGURATION_TAG = "sweep.configuration"
"""The tag that the seeds of a configuration share."""


def view_key(record: Mapping[str, Any]) -> str:
    """The name of a sweep's view in links."""
    return f"linsweep-{record['id'][:12]}"


def view_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The view of a sweep's trials, best first, in the format of MLflow's shared views.

    Columns are the searched axes, the objectives and the costs of trials. Charts are each curve against solver steps
    and against rank, the axes against the objective, and the losses. If configurations have several seeds, one row and
    one line show their mean, and the references share a row.
    """
    sweep = SweepInfo.of_document(record, f"the record of {record['name']}")
    objectives, axes = list(sweep.objective), list(sweep.axes)
    measured = sweep.spec.get("evaluate", {}).get("quality", ())
    curves = {"Quality against solver steps": [f"nfe/{name}" for name in measured]}
    if "affine" in _operators(sweep):
        curves["Quality against rank"] = [f"rank/{split}{name}" for name in measured for split in ("", "test_")]
    columns = [*(f"params.`{name}`" for name in axes), *(f"metrics.`{name}`" for name in objectives)]
    columns += ["metrics.`cost/params`", "metrics.`cost/train_seconds`", "tags.`sweep.kind`", "tags.`sweep.state`"]
    numeric = [name for name in axes if _is_numeric(sweep.dimension(name))]
    sections: list[dict[str, Any]] = []
    charts: list[dict[str, Any]] = []

    def section(name: str) -> str:
        identity = _uuid(record, "section", name)
        size = {"columns": 2, "cardHeight": 440}  # in a window 1,440 wide, half of the width beside the table
        sections.append({"uuid": identity, "name": name, "display": True, "isReordered": True, **size})
        return identity

    def chart(kind: str, name: str, place: str, **values: Any) -> None:
        identity = _uuid(record, kind, name)
        common = {"type": kind, "uuid": identity, "metricSectionId": place, "displayName": name}
        charts.append({"deleted": False, "isGenerated": False, "runsCountToCompare": 20, **common, **values})

    for title, keys in curves.items():
        place = section(title) if keys else ""
        for key in keys:
            chart("LINE", key, place, **_line(key), xAxisScaleType="log")
    place = section("Search")
    for key in objectives:
        if axes:
            chart("PARALLEL", f"{key} by axes", place, selectedParams=axes, selectedMetrics=[key], showAllRuns=True)
        for across, up in itertools.pairwise(numeric):
            ends = {"xaxis": _param(across), "yaxis": _param(up), "zaxis": {"key": key, "type": "METRIC"}}
            chart("CONTOUR", f"{key} by {across} and {up}", place, **ends)
        ends = {"xaxis": {"key": "cost/params", "type": "METRIC"}, "yaxis": {"key": key, "type": "METRIC"}}
        chart("SCATTER", f"{key} against parameters", place, **ends)
    place = section("Training")
    for key in ("train/loss", *objectives):
        chart("LINE", f"{key} by epoch", place, **_line(key), xAxisScaleType="linear")
    objective, mode = next(iter(record["objective"].items()))
    return {
        # The parent run represents the sweep and has none of the trials' metrics.
        "searchFilter": f"tags.`sweep.id` = '{record['id']}' and tags.`sweep.kind` != 'sweep'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsHiddenMode": SHOWN_RUNS,
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
        **(_grouped() if _has_replicates(sweep) else {}),
    }


def experiment_tags(record: Mapping[str, Any], experiment: str, before: Mapping[str, str]) -> dict[str, str]:
    """The tags of a sweep's experiment: its kind, the sweep's view, and a note with a link to the view.

    ``before`` are the experiment's present tags. A note by the user is kept; a note of links gets another link.
    """
    tags = EXPERIMENT | {VIEW_TAG + view_key(record): json.dumps(view_of(record))}
    link = (
        f"[{record['name']}: trials side by side, with their curves](#/experiments/{experiment}/runs{_query(record)})"
    )
    note = before.get(NOTE_TAG, "")
    if not note:
        return tags | {NOTE_TAG: link}
    ours = all("viewStateShareKey=linsweep-" in line for line in note.split("\n\n"))
    return tags | ({NOTE_TAG: f"{note}\n\n{link}"} if ours and view_key(record) not in note else {})


def _query(record: Mapping[str, Any]) -> str:
    return f"?viewStateShareKey={view_key(record)}&compareRunsMode=CHART&workflowType=machine_learning"


def _grouped() -> dict[str, Any]:
    """The part of a view that shows each configuration as the mean of its seeds."""
    keys = [{"mode": "tag", "groupByData": CONFIGURATION_TAG}]
    return {"groupBy": {"aggregateFunction": "average", "groupByKeys": keys}, "useGroupedValuesInCharts": True}


def _has_replicates(sweep: SweepInfo) -> bool:
    """Whether a sweep trains configurations with more than one seed."""
    return sweep.races or sweep.seeds > 1 or sweep.confirm_seeds > 0


def _is_numeric(dimension: Mapping[str, Any]) -> bool:
    """Whether an axis is numeric, so that a contour can be drawn over it."""
    if "int" in dimension or "float" in dimension:
        return True
    values = [*dimension.get("grid", ()), *dimension.get("choice", ())]
    return len(values) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _param(name: str) -> dict[str, str]:
    return {"key": name, "type": "PARAM"}


def _operators(sweep: SweepInfo) -> set[Any]:
    """The kinds of operators in a sweep's trials: in its base, space and controls."""
    name, spec = "model.operator.kind", sweep.spec
    dimension = sweep.dimension(name)
    kinds = {*dimension.get("grid", ()), *dimension.get("choice", ())}
    kinds |= {control.get("set", {}).get(name) for control in spec.get("controls") or ()}
    return kinds | {spec.get("model", {}).get("operator", {}).get("kind")}


def _line(key: str) -> dict[str, Any]:
    return {
        "metricKey": key,
        "selectedMetricKeys": [key],
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": True,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "displayPoints": True,
        "range": {},
    }


def _uuid(record: Mapping[str, Any], *words: str) -> str:
    """A stable id for a chart of a sweep, so that a user's changes to it are kept."""
    return uuid5(NAMESPACE_URL, " ".join([record["id"], *words])).hex


def comparison_link(paths: SweepPaths, local: str | None = None) -> str | None:
    """The MLflow page that shows a sweep's trials side by side, with their charts.

    ``local`` is the address of a server for the storage folder's own database, if there is one. None if the sweep has
    not been sent, or not to anywhere that a browser can reach.
    """
    note, record = read_note(paths.cursors), read_record(paths)
    if note is None or record is None:
        return None
    served = str(note["uri"]).startswith(("http://", "https://"))
    # Without a URI, it is the storage folder's own database, wherever that folder was at the time.
    own = record["spec"]["tracking"]["uri"] is None
    base: str | None = local if own else note["uri"] if served else None
    if base is None:
        return None
    return f"{base.rstrip('/')}/#/experiments/{note['experiment']}/runs{_query(record)}"
