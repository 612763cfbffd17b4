"""A record as one Parquet file: a row per trial with its curves nested in it, and each ``sweep.json`` as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.record.frames import Frames, Part, categorised
from analysis.record.sweep_info import RecordError, SweepInfo
from linearizer_core.files import whole

KEY = b"linearizer_sweeps"
VERSION = 1
CURVES = "curves"
"""The column of a trial's points: a list of ``{metric, step, value}``."""


def write_record(frames: Frames, sweeps: Sequence[SweepInfo], path: Path) -> None:
    """Write the frames and the sweeps atomically: a reader, or a crash, sees the old file or the new one."""
    runs, curves = frames.runs, frames.curves
    rows = pd.Series(np.arange(len(runs)), index=_places(runs))
    row = rows.reindex(_places(curves)).to_numpy()
    # The file has the curves of the rows in ``runs``, in their order, whatever was done to the frames.
    curves = curves.assign(row=row).dropna(subset="row").sort_values("row", kind="stable")
    counts = np.bincount(curves["row"].astype(np.int64), minlength=len(runs))
    metric = curves["metric"].cat
    points = nested(counts, metric.codes, list(metric.categories), curves["step"], curves["value"])
    table = pa.Table.from_pandas(runs, preserve_index=False).append_column(CURVES, points)
    about = {"version": VERSION, "sweeps": [sweep.document for sweep in sweeps]}
    write_table(table, KEY, about, path)


def read_record(path: Path) -> Part:
    """The sweeps and frames that ``write_record`` wrote; raises ``RecordError`` for any other file."""
    wanted = "a file that Record.export wrote"
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[KEY])
        if about["version"] != VERSION:
            raise RecordError(f"{path}: has format version {about['version']}; this program reads version {VERSION}")
        sweeps = [SweepInfo.of_document(document, str(path)) for document in about["sweeps"]]
        counts, codes, metrics, step, value = unnested(table[CURVES])
        runs = table.drop_columns([CURVES]).to_pandas()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error}); it should be {wanted}") from None
    except (pa.ArrowException, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise RecordError(f"{path}: is not {wanted} ({type(error).__name__}: {detail})") from None
    if "ended" not in runs:  # earlier versions did not write when a trial ended
        runs.insert(runs.columns.get_loc("started") + 1, "ended", runs["started"] + runs["seconds"])
    row = np.repeat(np.arange(len(runs)), counts)
    trials = pd.Categorical(runs["trial"])
    curves = pd.DataFrame(
        {
            "sweep": pd.Categorical(runs["sweep"])[row],
            "trial": trials[row],
            "metric": pd.Categorical.from_codes(cast(Any, codes), categories=pd.Index(metrics, dtype="str")),
            "step": step,
            "value": value,
        }
    )
    return Part(sweeps, categorised(Frames(runs, curves), [sweep.name for sweep in sweeps]))


def _places(frame: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([frame["sweep"].astype("str"), frame["trial"].astype("str")])


def nested(counts: Any, codes: Any, metrics: Sequence[str], steps: Any, values: Any) -> pa.ListArray:
    """Points as one list per row of length ``counts``; ``codes``, ``steps`` and ``values`` are those of all rows."""
    keys = pa.DictionaryArray.from_arrays(
        pa.array(np.asarray(codes, dtype=np.int32)), pa.array(list(metrics), pa.string())
    )
    fields = [keys, pa.array(np.asarray(steps, dtype=np.int64)), pa.array(np.asarray(values, dtype=np.float64))]
    points = pa.StructArray.from_arrays(fields, ["metric", "step", "value"])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), points)


def unnested(column: pa.ChunkedArray) -> tuple[Any, Any, list[str], Any, Any]:
    """The inverse of ``nested``: counts, metric numbers, metric keys, steps and values."""
    lists = column.combine_chunks()
    points = lists.flatten()
    keys = (
        points.field("metric").unify_dictionaries() if isinstance(points, pa.ChunkedArray) else points.field("metric")
    )
    counts = np.diff(lists.offsets.to_numpy())
    numbers = [points.field(name).to_numpy(zero_copy_only=False) for name in ("step", "value")]
    return counts, keys.indices.to_numpy(zero_copy_only=False), keys.dictionary.to_pylist(), *numbers


def write_table(table: pa.Table, key: bytes, about: Mapping[str, Any], path: Path) -> None:
    """Write a table atomically, with ``about`` as JSON in its metadata."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), key: json.dumps(about)})
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
