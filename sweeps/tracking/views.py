"""Links into MLflow's pages, and the view that they open at: columns, order and charts chosen for a sweep."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.tracking.cursors import read_note

VIEW_TAG = "mlflow.sharedViewState."
"""What the tag of an experiment begins with in which MLflow's UI keeps a view that was shared."""

SHOWN_RUNS = "FIRST_20_RUNS"

EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
"""What the tags of an experiment say of its kind: MLflow then leaves out its pages for prompts and traces."""

NOTE_TAG = "mlflow.note.content"
"""The tag of an experiment that MLflow shows as its description, in Markdown."""

CONFIGURATION_TAG = "sweep.configuration"
"""The tag that the seeds of a configuration have in common."""


def view_key(record: Mapping[str, Any]) -> str:
    """What the view of a sweep is called in links."""
    return f"linsweep-{record['id'][:12]}"


def view_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The view of a sweep's trials, best first, as MLflow's UI shares views.

    Columns are the searched axes, the objectives and what the trials cost; charts are every curve against the number of
    solver steps and against rank, the axes against the objective, and the losses. Where a configuration has several
    seeds, a row and a line stand for their mean, and references are one row.
    """
    objectives = list(record["objective"])
    axes = list(record.get("axes", ()))
    measured = record["spec"].get("evaluate", {}).get("quality", ())
    curves = {"Quality against solver steps": [f"nfe/{name}" for name in measured]}
    if "affine" in _operators(record["spec"]):
        curves["Quality against rank"] = [f"rank/{split}{name}" for name in measured for split in ("", "test_")]
    columns = [*(f"params.`{name}`" for name in axes), *(f"metrics.`{name}`" for name in objectives)]
    columns += ["metrics.`cost/params`", "metrics.`cost/train_seconds`", "tags.`sweep.kind`", "tags.`sweep.state`"]
    numeric = [name for name in axes if _is_numeric(record["spec"], name)]
    sections: list[dict[str, Any]] = []
    charts: list[dict[str, Any]] = []

    def section(name: str) -> str:
        identity = _uuid(record, "section", name)
        size = {"columns": 2, "cardHeight": 440}  # of a window 1,440 wide, half of what the table leaves
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
        # The parent run stands for the sweep: it has none of the trials' metrics.
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
        **(_grouped() if _has_replicates(record["spec"]) else {}),
    }


def experiment_tags(record: Mapping[str, Any], experiment: str, before: Mapping[str, str]) -> dict[str, str]:
    """The tags of the experiment that a sweep is in: its kind, the sweep's view, and a note that links to the view.

    ``before`` are the tags that it has. A note of the user's own is left as it is; one of links gets one more.
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
    """What of a view has a row and a line stand for a configuration: the mean of its seeds."""
    keys = [{"mode": "tag", "groupByData": CONFIGURATION_TAG}]
    return {"groupBy": {"aggregateFunction": "average", "groupByKeys": keys}, "useGroupedValuesInCharts": True}


def _has_replicates(spec: Mapping[str, Any]) -> bool:
    """Whether a sweep trains a configuration with more than one seed."""
    search = spec.get("search", {})
    seeds = search.get("seeds", ())
    return isinstance(seeds, Mapping) or len(seeds) > 1 or bool(search.get("confirm"))


def _is_numeric(spec: Mapping[str, Any], axis: str) -> bool:
    """Whether an axis has numbers to draw a contour over."""
    dimension = spec.get("search", {}).get("space", {}).get(axis, {})
    if "int" in dimension or "float" in dimension:
        return True
    values = [*dimension.get("grid", ()), *dimension.get("choice", ())]
    return len(values) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _param(name: str) -> dict[str, str]:
    return {"key": name, "type": "PARAM"}


def _operators(spec: Mapping[str, Any]) -> set[Any]:
    """The kinds of operators that a sweep's trials have: of its base, its space and its controls."""
    name = "model.operator.kind"
    dimension = spec.get("search", {}).get("space", {}).get(name, {})
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
    """The same for the same chart of the same sweep, so that what a user changes of it is kept."""
    return uuid5(NAMESPACE_URL, " ".join([record["id"], *words])).hex


def comparison_link(paths: SweepPaths, local: str | None = None) -> str | None:
    """The page of MLflow that shows a sweep's trials side by side, with their charts.

    ``local`` is where a server for the storage folder's own database listens, if one does. None if the sweep has
    not been sent anywhere, or nowhere that a browser reaches.
    """
    note, record = read_note(paths.cursors), read_record(paths)
    if note is None or record is None:
        return None
    served = str(note["uri"]).startswith(("http://", "https://"))
    # Without a URI it is the storage folder's own database, wherever that folder was when it was noted.
    own = record["spec"]["tracking"]["uri"] is None
    base: str | None = local if own else note["uri"] if served else None
    if base is None:
        return None
    return f"{base.rstrip('/')}/#/experiments/{note['experiment']}/runs{_query(record)}"
