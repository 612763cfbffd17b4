"""Environment variables set while MLflow is used: it takes its time-outs from nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

READING = {
    # With MLflow's defaults it takes minutes to notice that a server does not answer.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

WRITING = {
    # The sender retries by itself, so a request must not block it for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # MLflow's links to runs and its progress bars would break up the sweep's own progress.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

KNOCKING = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
"""For the first, small request: an address that does not answer is given up after seconds."""


ALWAYS = {
    # What is recorded as sent must have been sent, and a long text must not prevent a run from being created.
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_TRUNCATE_LONG_VALUES": "true",
}
"""Settings that a sync relies on; they override the environment."""

NEVER = ("MLFLOW_ACTIVE_MODEL_ID", "_MLFLOW_ACTIVE_MODEL_ID")
"""Variables that name the model of the user's own work: MLflow would attribute every metric to it."""


@contextmanager
def held(values: Mapping[str, str]) -> Iterator[None]:
    """Set ``values`` that the environment does not set already, set ``ALWAYS`` and unset ``NEVER``, then restore."""
    new = {name: value for name, value in values.items() if name not in os.environ} | ALWAYS
    before = {name: os.environ.get(name) for name in (*new, *NEVER)}
    os.environ.update(new)
    for name in NEVER:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
