"""A trial of a function of one's own: called with its settings, and recorded as a model's training is."""

from __future__ import annotations

import dataclasses
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from linearizer_core.experiment.configuration import Section, from_mapping, to_mapping
from linearizer_core.experiment.journal import DIVERGED, Journal, TrialIdentity
from linearizer_core.plugins.errors import PluginError, reason
from linearizer_core.plugins.loading import files_of, loaded
from linearizer_core.plugins.marks import Registration, parameters, settings_of
from linearizer_core.plugins.settings import setting as _field

GROUP = "quality"
"""The group of metrics that are reported without one, by the names of keywords."""
SETTINGS = "settings"
"""The section of a configuration that has what a function is called with."""


@dataclass(frozen=True, kw_only=True)
class StepsConfig:
    epochs: int = _field(1, "steps that the function is to report, at most: early stopping counts them", ge=1)


@dataclass(frozen=True, kw_only=True)
class FunctionConfig(Section):
    """Everything that, with the machine, fixes one trial of a function; ``settings`` are those that it takes."""

    function: str = _field("", "the function that is called: its file and its name, such as ./objective.py:train")
    train: StepsConfig = _field(StepsConfig, "how long it takes")
    plugins: tuple[str, ...] = _field((), "further code of one's own, for samplers; kept by the digest of the code")
    seed: int = _field(0, "what the function is to seed its random numbers with", ge=0, lt=2**63)


class Stopped(BaseException):
    """Raised in a function, out of ``report``, when it is not to go on: nothing that it catches for other reasons."""


class Report:
    """What a function tells its trial by: ``report(step=1, loss=0.3)``, with steps that rise up to ``steps``.

    That is recorded as ``quality/loss``; a name with a group of its own, such as ``test/loss``, is kept.

    ``seed`` is the trial's, ``device`` is where it is to compute, ``cpu`` or ``cuda``, and what it writes into
    ``folder`` are the trial's artifacts.
    """

    def __init__(self, seed: int, steps: int, device: str, folder: Path, tell: Callable[[int, dict[str, float]], None]):
        self.seed = seed
        self.steps = steps
        self.device = device
        self.folder = folder
        self._tell = tell
        self._last = 0

    def __call__(self, *, step: int, **metrics: float) -> None:
        """Record what a step gave; raises ``PluginError`` for what is no number, or a step that is none.

        It does not return where the trial is stopped.
        """
        if not self._last < step <= self.steps:
            raise PluginError(
                f"report(step={step}): steps rise from 1 to train.epochs = {self.steps}, the last one was {self._last}"
            )
        self._last = step
        self._tell(step, numbers(metrics, f"report(step={step})"))


def numbers(metrics: Any, where: str) -> dict[str, float]:
    """Metrics as numbers; raises ``PluginError`` naming what is none."""
    if not isinstance(metrics, Mapping):
        raise PluginError(f"{where}: must give a mapping of names to numbers, got {type(metrics).__name__}")
    found = {}
    for name, value in metrics.items():
        try:
            found[name if "/" in name else f"{GROUP}/{name}"] = float(value)
        except (TypeError, ValueError):
            raise PluginError(f"{where}: {name} must be a number, got {type(value).__name__}") from None
    return found


def registered_function(function: str) -> Registration:
    """The function that a configuration names, ``objective.py@DIGEST:train``.

    Raises ``PluginError`` where its module has none of this name, or it does not take ``config`` and ``report``.
    """
    ref, _, name = function.rpartition(":")
    (plugin,) = loaded([ref])
    found = getattr(plugin.module, name, None)
    file = plugin.files[0]
    if not callable(found):
        raise PluginError(f"{file}: has no function {name}")
    line = found.__code__.co_firstlineno if hasattr(found, "__code__") else 1
    known = parameters(found)
    if list(known)[:2] != ["config", "report"]:
        raise PluginError(
            f"{file}:{line}: {name} must take config and report, and takes {', '.join(known) or 'nothing'}"
        )
    try:
        settings = settings_of(found, "config")
    except PluginError as error:
        raise PluginError(f"{file}:{line}: {error}") from None
    return Registration("function", name, found, settings, file, line)


def refs_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The plugins of a configuration's values, with the file of its function."""
    function = values.get("function")
    own = (str(function).rpartition(":")[0],) if function else ()
    return (*own, *values.get("plugins", ()))


def function_configuration(function: str) -> type[FunctionConfig]:
    """The type of a function's configurations, with its settings; raises ``PluginError`` as ``registered_function``."""
    return _configuration(function)


@lru_cache
def _configuration(function: str) -> type[FunctionConfig]:
    settings = registered_function(function).settings
    section = dataclasses.field(default_factory=settings, metadata={"doc": "what the function is called with"})  # type: ignore[arg-type]
    return dataclasses.make_dataclass(
        "FunctionConfig", [(SETTINGS, settings, section)], bases=(FunctionConfig,), frozen=True, kw_only=True
    )


def function_config(values: Mapping[str, Any]) -> FunctionConfig:
    """The configuration of nested values; raises ``ValueError`` as ``from_mapping`` does."""
    config: FunctionConfig = from_mapping(function_configuration(str(values["function"])), values)
    return config


def run(
    config: FunctionConfig,
    identity: TrialIdentity,
    files: Any,
    provenance: Mapping[str, Any],
    device: str,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Any]]:
    """Carry out a trial of a function, with the results that ``linearizer_core.experiment.trial.run`` gives.

    The end scalars are those of the last step, under what the function returns. A number that is not finite is what a
    diverged loss is. An interrupted trial begins anew when it is run again.
    """
    journal = Journal(files.journal)
    journal.trial(identity, to_mapping(config), provenance)
    epoch, last = 0, dict[str, float]()
    from linearizer_core.experiment.system import Usage  # needs torch, which reading a spec does not

    usage, started = Usage(device), time.perf_counter()
    registered = registered_function(config.function)
    try:
        files.artifacts.mkdir(parents=True, exist_ok=True)
        with _Call(registered, config, device, files.artifacts) as call:
            for epoch, metrics in call:
                lost = [name for name, value in metrics.items() if not math.isfinite(value)]
                if lost:
                    why = f"not finite at step {epoch}: {', '.join(lost)}"
                    journal.end("failed", epoch, f"{DIVERGED}{why}")
                    yield {"epoch": epoch, "state": "failed", "reason": why}
                    return
                last |= metrics
                journal.epoch(epoch, metrics | usage.since_last())
                if epoch < config.train.epochs:
                    yield {"epoch": epoch, **metrics}
                if epoch < config.train.epochs and stop():
                    journal.end("interrupted", epoch, "stopped on request")
                    yield {"epoch": epoch, "state": "interrupted"}
                    return
        summary = last | call.returned | {"cost/train_seconds": time.perf_counter() - started}
        for path in sorted(files.artifacts.iterdir()):
            journal.artifact(path.name)
        journal.summary(summary)
        journal.end("finished", epoch)
        yield {"epoch": epoch, "state": "finished", **summary}
    except Exception as error:
        journal.end("interrupted", epoch, reason(error, files_of(refs_of(to_mapping(config)))))
        raise


class _Call:
    """A function in a thread of its own, a step at a time: it waits in ``report`` until the next one is asked for."""

    def __init__(self, registered: Registration, config: FunctionConfig, device: str, folder: Path) -> None:
        self.returned: dict[str, float] = {}
        self._steps: queue.Queue[tuple[int, dict[str, float]] | BaseException | None] = queue.Queue()
        self._go = threading.Semaphore(0)
        self._stopped = False
        report = Report(config.seed, config.train.epochs, device, folder, self._tell)
        self._thread = threading.Thread(target=self._run, args=(registered, config, report), name=registered.name)

    def _tell(self, step: int, metrics: dict[str, float]) -> None:
        if not self._stopped:
            self._steps.put((step, metrics))
            self._go.acquire()
        if self._stopped:
            raise Stopped

    def _run(self, registered: Registration, config: FunctionConfig, report: Report) -> None:
        try:
            given = registered.make(getattr(config, SETTINGS), report)
            self.returned = {} if given is None else numbers(given, f"{registered.where}: {registered.name}")
            self._steps.put(None)
        except Stopped:
            self._steps.put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the steps are asked for
            self._steps.put(error)

    def __enter__(self) -> _Call:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped = True
        self._go.release()
        self._thread.join()

    def __iter__(self) -> Iterator[tuple[int, dict[str, float]]]:
        while (given := self._steps.get()) is not None:
            if isinstance(given, BaseException):
                raise given
            yield given
            self._go.release()
