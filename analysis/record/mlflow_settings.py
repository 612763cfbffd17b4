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


@contextmanager
def held(values: Mapping[str, str]) -> Iterator[None]:
    """These values for a while, where the environment does not say otherwise; afterwards it is as it was."""
    unset = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in unset})
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
