"""A trial of your own function: called with its settings, and recorded like the training of a model."""

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
"""Group of metrics that are reported by name alone, as keywords."""
SETTINGS = "settings"
"""Section of a configuration that holds the function's settings."""


@dataclass(frozen=True, kw_only=True)
class StepsConfig:
    epochs: int = _field(1, "maximum number of steps that the function reports; early stopping counts them", ge=1)


@dataclass(frozen=True, kw_only=True)
class FunctionConfig(Section):
    """Everything that determines one trial of a function, apart from the machine; ``settings`` are the function's."""

    function: str = _field("", "the function to call, by its file and name, such as ./objective.py:train")
    train: StepsConfig = _field(StepsConfig, "how long the function runs")
    plugins: tuple[str, ...] = _field((), "your own code for samplers; identified by the digest of the code")
    seed: int = _field(0, "seed for the function's random numbers", ge=0, lt=2**63)


class Stopped(BaseException):
    """Raised by ``report`` in a function that must stop; it passes through the function's ``except Exception``."""


class Report:
    """Reports a function's results to its trial: ``report(step=1, loss=0.3)``, with steps rising up to ``steps``.

    This is recorded as ``quality/loss``; a name with its own group, such as ``test/loss``, is kept.

    ``seed`` is the trial's, ``device`` is the device to compute on, ``cpu`` or ``cuda``, and files written to
    ``folder`` become the trial's artifacts.
    """

    def __init__(self, seed: int, steps: int, device: str, folder: Path, tell: Callable[[int, dict[str, float]], None]):
        self.seed = seed
        self.steps = steps
        self.device = device
        self.folder = folder
        self._tell = tell
        self._last = 0

    def __call__(self, *, step: int, **metrics: float) -> None:
        """Record the metrics of a step; raises ``PluginError`` for a value that is not a number, or an invalid step.

        If the trial is stopped, this does not return.
        """
        if not self._last < step <= self.steps:
            raise PluginError(
                f"report(step={step}): steps must rise from 1 to train.epochs = {self.steps}; the last was {self._last}"
            )
        self._last = step
        self._tell(step, numbers(metrics, f"report(step={step})"))


def numbers(metrics: Any, where: str) -> dict[str, float]:
    """Metrics as numbers; raises ``PluginError`` naming a value that is not a number."""
    if not isinstance(metrics, Mapping):
        raise PluginError(f"{where}: must return a mapping of names to numbers, got {type(metrics).__name__}")
    found = {}
    for name, value in metrics.items():
        try:
            found[name if "/" in name else f"{GROUP}/{name}"] = float(value)
        except (TypeError, ValueError):
            raise PluginError(f"{where}: {name} must be a number, got {type(value).__name__}") from None
    return found


def registered_function(function: str) -> Registration:
    """The function that a configuration names, ``objective.py@DIGEST:train``.

    Raises ``PluginError`` if its module has no such function, or if it does not take ``config`` and ``report``.
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
            f"{file}:{line}: {name} must take config and report, but its parameters are {', '.join(known) or 'none'}"
        )
    try:
        settings = settings_of(found, "config")
    except PluginError as error:
        raise PluginError(f"{file}:{line}: {error}") from None
    return Registration("function", name, found, settings, file, line)


def refs_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The plugins of a configuration's values, including the file of its function."""
    function = values.get("function")
    own = (str(function).rpartition(":")[0],) if function else ()
    return (*own, *values.get("plugins", ()))


def function_configuration(function: str) -> type[FunctionConfig]:
    """The type of a function's configurations, with its settings; raises like ``registered_function``."""
    return _configuration(function)


@lru_cache
def _configuration(function: str) -> type[FunctionConfig]:
    settings = registered_function(function).settings
    section = dataclasses.field(default_factory=settings, metadata={"doc": "what the function is called with"})  # type: ignore[arg-type]
    return dataclasses.make_dataclass(
        "FunctionConfig", [(SETTINGS, settings, section)], bases=(FunctionConfig,), frozen=True, kw_only=True
    )


def function_config(values: Mapping[str, Any]) -> FunctionConfig:
    """The configuration of nested values; raises ``ValueError`` like ``from_mapping``."""
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
    """Run a trial of a function, yielding results like ``linearizer_core.experiment.trial.run``.

    The final metrics are those of the last step, overridden by those that the function returns. A number that is not
    finite counts as divergence. An interrupted trial starts from scratch when it is run again.
    """
    journal = Journal(files.journal)
    journal.trial(identity, to_mapping(config), provenance)
    epoch, last = 0, dict[str, float]()
    from linearizer_core.experiment.system import Usage  # imports torch, which reading a spec does not need

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
    """Runs a function in its own thread, step by step: it waits in ``report`` until the next step is requested."""

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
        except BaseException as error:  # noqa: BLE001 - raised again where the steps are consumed
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
