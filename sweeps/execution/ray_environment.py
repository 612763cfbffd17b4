"""The environment variables that Ray and Tune read: the ones that a sweep sets, and the user's that it must not follow.

Ray reads some of them on import, so nothing here imports Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

ENVIRONMENT = {
    # A trial without GPUs must still see GPUs that Ray does not manage; Ray warns if this is not set.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Settings of Ray; values that the user has set are kept."""

FORCED = {
    # Tune's own loggers write a second record of everything; without this a sweep is slower, but correct.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune's snapshots serve a restore that sweeps do not use, and each has every trial so far; without this they are
    # taken more often than at the beginning and the end.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    # Ray's reporters print beside the sweep's own progress; without this the two mix.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The sweep's own handler makes trials save their states; without this Tune's runs first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Under `uv run` Ray would upload the current folder and start every worker with uv, in another environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Settings that a sweep relies on; they replace the user's."""

OF_TUNE = ("TUNE_", "RAY_AIR_", "RAY_TUNE_", "RAY_TRAIN_")
"""Prefixes of Tune's settings, which are removed: the spec alone says how a sweep runs, and Tune refuses some of them
as outdated."""

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
"""Settings for jobs on a cluster, which a private Ray on this machine must not follow."""


def settle(environment: MutableMapping[str, str], private: bool) -> None:
    """Set what a sweep relies on and remove what it must not follow; ``private`` means a private Ray on this machine.

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
    """Apply ``settle`` to this process and its children; afterwards, restore the variables that Ray reads."""
    before = {name: value for name, value in os.environ.items() if _is_rays(name)}
    settle(os.environ, private)
    try:
        yield
    finally:
        for name in [name for name in os.environ if _is_rays(name) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


def _is_rays(name: str) -> bool:
    """Whether ``settle`` may set or remove a variable."""
    return name.startswith(OF_TUNE) or name in (*OF_A_CLUSTER, *ENVIRONMENT, *FORCED)
