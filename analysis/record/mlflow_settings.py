"""What holds while MLflow is spoken to: it takes its time-outs from the environment alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

READING = {
    # MLflow's own values take minutes to find that nobody answers.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

WRITING = {
    # Who sends waits and tries again: a request must not block it for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # The link to each run, printed as it ends, and bars would break up the sweep's own progress.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

KNOCKING = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
"""For the first request, which is a small one: an address that answers nothing is given up after seconds."""


ALWAYS = {
    # What is noted as sent must have been sent, and a long text must not keep a run from being made.
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_TRUNCATE_LONG_VALUES": "true",
}
"""What a sync relies on, whatever the environment says."""

NEVER = ("MLFLOW_ACTIVE_MODEL_ID", "_MLFLOW_ACTIVE_MODEL_ID")
"""What names the model that a user's own work is about: MLflow would put it down as that of every metric."""


@contextmanager
def held(values: Mapping[str, str]) -> Iterator[None]:
    """These values for a while, where the environment does not say otherwise, ``ALWAYS`` and without ``NEVER``."""
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
