"""A sweep that Ray carried out reads the same from its journals, from two MLflow stores, and from an exported file."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import load
from tests.end_to_end.conftest import Linsweep

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_a_real_sweep_reads_the_same_from_everywhere(linsweep: Linsweep, mlflow_server: str) -> None:
    linsweep.run("launch", "tiny.yaml", "--set", "name=everywhere", "--set", "search.trials=9")
    linsweep.run("sync", "everywhere", "--to", mlflow_server)
    record = load(linsweep.folder / "runs" / "everywhere")
    assert {"finished", "stopped"} <= set(record.runs["state"])
    assert {"search", "control", "reference"} <= set(record.runs["kind"])
    assert {metric.partition("/")[0] for metric in record.curves["metric"].unique()} == {"train", "quality", "nfe"}
    sources = [
        linsweep.folder / "runs" / "everywhere",
        record.export(linsweep.folder / "everywhere.parquet"),
        f"sqlite:///{linsweep.folder / 'runs' / 'mlflow.db'}",
        mlflow_server,
    ]
    for source in sources:
        found = load(source, ["everywhere"])
        pd.testing.assert_frame_equal(found.runs, record.runs, check_exact=True)
        pd.testing.assert_frame_equal(found.curves, record.curves, check_exact=True)
        assert [sweep.document for sweep in found.sweeps] == [sweep.document for sweep in record.sweeps]
