"""What Ray and Tune read from the environment: what a sweep sets, and what of its user's would lead it astray.

Some of it is read when Ray is imported, so that nothing here imports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

ENVIRONMENT = {
    # A trial without GPUs must not be kept from seeing those that Ray does not manage; Ray warns where it is not set.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Settings of Ray that are kept where they are set already."""

FORCED = {
    # Tune's own loggers write a second record of everything. Without this they would: slower, and no harm.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Its snapshots serve a restore that is not used. Without this they are taken more often.
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    # Ray's reporters print beside the sweep's own progress. Without this two views are mixed.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The sweep has a handler of its own, by which trials save their states. Without this Tune's comes first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Under `uv run` Ray would pack up the current folder and start every worker by uv again, in another environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Settings that a sweep relies on."""

OF_TUNE = ("TUNE_", "RAY_AIR_", "RAY_TUNE_", "RAY_TRAIN_")
"""What the names of Tune's settings begin with: how a sweep is carried out is not theirs to say, and some are refused
by Tune as out of date."""

OF_A_CLUSTER = (
    "RAY_ADDRESS",
    "RAY_NAMESPACE",
    "RAY_REDIS_ADDRESS",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING",
    "RAY_STORAGE",
    "RAY_CLIENT_MODE",
)
"""Settings for jobs on a cluster, which a private Ray of this machine's own must not follow."""


def settle(environment: MutableMapping[str, str], private: bool) -> None:
    """Set what a sweep relies on, and take out what it must not follow; ``private`` for a Ray of this machine's own.

    >>> environment = {"TUNE_RESULT_DIR": "/old", "RAY_ADDRESS": "head:6379", "RAY_DEDUP_LOGS": "0"}
    >>> settle(environment, private=True)
    >>> sorted(environment)[:3]
    ['RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', 'RAY_AIR_NEW_OUTPUT', 'RAY_DEDUP_LOGS']
    """
    for name in [name for name in environment if name.startswith(OF_TUNE) or (private and name in OF_A_CLUSTER)]:
        del environment[name]
    for name, value in ENVIRONMENT.items():
        environment.setdefault(name, value)
    environment.update(FORCED)


@contextmanager
def settled(private: bool) -> Iterator[None]:
    """``settle`` for this process and all that it starts; afterwards what Ray reads is again what it was before."""
    before = {name: value for name, value in os.environ.items() if _is_rays(name)}
    settle(os.environ, private)
    try:
        yield
    finally:
        for name in [name for name in os.environ if _is_rays(name) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


def _is_rays(name: str) -> bool:
    """Whether ``settle`` may set a variable or take it out."""
    return name.startswith(OF_TUNE) or name in (*OF_A_CLUSTER, *ENVIRONMENT, *FORCED)
