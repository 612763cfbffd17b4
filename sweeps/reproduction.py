"""A trial that is run again in this process: what differs in its origin and in each of its metrics."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.record.copies import fetch_cache
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.configuration import TrialConfig, to_mapping
from linearizer_core.experiment.function import FunctionConfig, function_config, refs_of
from linearizer_core.experiment.journal import TrialState, state_of
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.experiment.plugged import trial_config
from linearizer_core.experiment.recipes import of_then
from linearizer_core.experiment.state import remove_state
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.loading import ensure, keep
from sweeps.execution.task import Task
from sweeps.execution.trial import execute
from sweeps.notebook import html
from sweeps.record.paths import SweepPaths
from sweeps.record.provenance import provenance
from sweeps.spec.validation import InputError, Problem

TOLERANCE = 1e-3
"""The largest difference between two close values, relative to the larger one."""

ROUNDING = 1e-5
"""The largest absolute difference between two close values, whatever their size: that is float32's precision."""

TIMES = ("cost/train_seconds", "cost/evaluate_seconds", "cost/gpu_seconds", "cost/sample_ms", "cost/peak_memory")
"""Prefixes of metrics that are times or memory, which differ each time."""

Verdict = Literal["same", "close", "different", "missing", "new", "time"]
WORDS: Mapping[Verdict, str] = {
    "same": "the same to the last digit",
    "close": "close (within 0.1 %, or by rounding)",
    "different": "different",
    "missing": "not measured now",
    "new": "not measured then",
    "time": "times and memory, which are not compared",
}


@dataclass(frozen=True)
class Metric:
    """A metric as recorded and as measured now (None if it was not measured), and the verdict."""

    key: str
    then: float | None
    now: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Difference:
    """A difference in the origin of the two results."""

    what: str
    then: str
    now: str


@dataclass(frozen=True, repr=False)
class Reproduction:
    """A ``trial`` that was run again; its new record is in ``folder``, and it ended in ``state`` for a ``reason``.

    ``origin`` lists what has changed: commit, packages, data, machine, processes.
    """

    trial: str
    folder: Path
    state: str
    reason: str | None
    origin: Sequence[Difference]
    metrics: Sequence[Metric]

    @property
    def agrees(self) -> bool:
        """Whether it ended as before, and every recorded metric is the same or close."""
        wrong = any(metric.verdict in ("different", "missing") for metric in self.metrics)
        return not wrong and any(metric.verdict in ("same", "close") for metric in self.metrics)

    def __repr__(self) -> str:
        return f"Reproduction({self.trial}: {'agrees' if self.agrees else 'differs'})"

    def _repr_html_(self) -> str:
        return html(render(self))


def reproduce(
    paths: SweepPaths,
    trial: str,
    out: Path,
    data_root: Path | None = None,
    told: Callable[[dict[str, Any]], None] = lambda result: None,
) -> Reproduction:
    """Run again a trial that finished or was stopped early, and compare the results.

    The new record goes to ``out``; ``data_root`` is the folder of the data now, and ``told`` is called with each result
    as it comes. A trial that was stopped runs up to the same epoch. Raises ``InputError`` for a trial without a result
    to compare, a configuration that this version does not know, missing data, and an ``out`` that is a storage folder
    with a sweep of this name.
    """
    name = f"{paths.root.absolute().name}/{trial}"
    before = state_of(paths.journal(trial))
    _check(name, before)
    target = SweepPaths(out / paths.root.absolute().name)
    if target.sweep_json.exists():
        raise InputError("--out", [Problem("", f"{target.root} is the record of a sweep; choose another folder")])
    config = _config(name, before, data_root, paths)
    checksum = ""
    try:
        if isinstance(config, TrialConfig):
            checksum = datasets.load(config.data).checksum
    except datasets.DataError as error:
        raise InputError(name, [Problem("data", f"{error}; give their folder with --data-root")]) from None
    assert before.head is not None
    assert before.identity is not None
    then = before.head["provenance"]
    processes = _processes(then)
    now = {**provenance(checksum), "processes": processes}
    _clear(target, trial)
    keep(refs_of(to_mapping(config)), target.plugins)
    fetch_cache(paths.root)
    if paths.cache.is_dir():  # a classifier trained from scratch would measure differently
        shutil.copytree(paths.cache, target.cache, dirs_exist_ok=True)
    task = Task(
        before.identity,
        to_mapping(config),
        str(target.root),
        now,
        workers=1,
        threads=processes["threads"],
        gpus=float(processes["gpu"]),
        checkpoint_seconds=math.inf,
        collective_timeout=600,
    )
    with _threads():
        results = execute(task)
        for result in results:
            told(result)
            if before.state == "stopped" and result["epoch"] >= before.epoch:
                results.close()
                break
    after = state_of(target.journal(trial))
    metrics = list(_compared(before.metrics, after.metrics))
    state = before.state if before.state == "stopped" and after.epoch >= before.epoch else after.state
    return Reproduction(name, target.root, state or "interrupted", after.reason, list(_origins(then, now)), metrics)


def _check(name: str, before: TrialState) -> None:
    if before.head is None or before.head["kind"] == "reference":
        raise InputError(name, [Problem("", "is not a trial of a model, so there is nothing to train again")])
    if before.state not in ("finished", "stopped") or not before.metrics:
        how = before.state or "not ended"
        raise InputError(name, [Problem("", f"has no result to compare with: it is {how}")])


def _config(name: str, before: TrialState, data_root: Path | None, paths: SweepPaths) -> TrialConfig | FunctionConfig:
    assert before.head is not None
    values = of_then(before.head["config"])
    if data_root is not None and "data" in values:
        values = with_leaves(values, {"data.root": str(data_root.absolute())})
    try:
        ensure(refs_of(values), paths.plugins)
        return function_config(values) if "function" in values else trial_config(values)
    except PluginError as error:
        raise InputError(name, [Problem("plugins", str(error))]) from None
    except ValueError as error:
        raise InputError(name, [Problem("", f"this version does not know its configuration: {error}")]) from None


def _processes(then: Mapping[str, Any]) -> dict[str, Any]:
    """One process with as many threads as before, on a GPU if it was on one and there is one."""
    before = then.get("processes") or {}
    gpu = bool(before.get("gpu")) and torch.cuda.is_available()
    return {"workers": 1, "threads": int(before.get("threads", 1)), "gpu": gpu}


def _clear(target: SweepPaths, trial: str) -> None:
    """Remove what an earlier reproduction of the trial left: it runs from the start."""
    target.journal(trial).unlink(missing_ok=True)
    shutil.rmtree(target.artifacts(trial), ignore_errors=True)
    remove_state(target.training_state(trial))


@contextmanager
def _threads() -> Iterator[None]:
    """Restore the number of threads, which a trial changes."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compared(then: Mapping[str, float], now: Mapping[str, float]) -> Iterator[Metric]:
    for key in dict.fromkeys([*then, *now]):
        yield Metric(key, then.get(key), now.get(key), _verdict(key, then.get(key), now.get(key)))


def _verdict(key: str, then: float | None, now: float | None) -> Verdict:
    if key.startswith(TIMES):
        return "time"
    if then is None or now is None:
        return "new" if then is None else "missing"
    if then == now or (math.isnan(then) and math.isnan(now)):
        return "same"
    if key.endswith("_psnr"):  # in decibels an error at float32's precision may differ by whole units
        then, now = 10 ** (-then / 20), 10 ** (-now / 20)
    return "close" if math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=ROUNDING) else "different"


def _origins(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """The differences between the origins of two results."""
    before, after = (flatten({key: origin.get(key) or {} for key in ORIGINS}) for origin in (then, now))
    for names, what in NAMES.items():
        pair = before.get(names), after.get(names)
        if pair[0] != pair[1] and pair[0] is not None:
            yield Difference(what, *(_short(value) for value in pair))
    if then.get("data_checksum") not in (None, now["data_checksum"]):
        yield Difference("data checksum", *(str(origin["data_checksum"])[:12] for origin in (then, now)))
    packages = then.get("packages", {}), now["packages"]
    for package in sorted(set(packages[0]) | set(packages[1])):
        versions = [each.get(package, "not installed") for each in packages]
        if versions[0] != versions[1]:
            yield Difference(package, *versions)


ORIGINS = ("git", "hardware", "processes")
NAMES = {
    "git.commit": "commit",
    "git.dirty": "uncommitted changes",
    "git.patch": "patch of these changes",
    "hardware.platform": "platform",
    "hardware.python": "Python",
    "hardware.gpus": "GPUs",
    "processes.workers": "workers",
    "processes.threads": "threads",
    "processes.gpu": "on a GPU",
    "processes.together": "trained together with others",
}


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    text = str(value) if value is not None else "none"
    return text[:12] if len(text) == 40 else text


def render(made: Reproduction) -> RenderableType:
    """The differences, first in the origin and then in the metrics."""
    parts: list[RenderableType] = []
    if made.origin:
        table = _table("origin", "then", "now")
        for each in made.origin:
            table.add_row(each.what, each.then, each.now)
        parts += [table, Text()]
    else:
        parts.append(Text("commit, packages, data, machine and processes have not changed"))
    shown = [each for each in made.metrics if each.verdict in ("close", "different", "missing", "new")]
    if shown:
        table = _table("metric", "then", "now", "difference", "")
        for metric in sorted(shown, key=lambda each: each.verdict != "different"):
            style = "red" if metric.verdict in ("different", "missing") else ""
            values = ["–" if value is None else f"{value:.6g}" for value in (metric.then, metric.now)]
            table.add_row(metric.key, *values, _relative(metric), Text(WORDS[metric.verdict], style=style))
        parts += [table, Text()]
    if made.state not in ("finished", "stopped"):
        parts.append(Text(f"this time it ended as {made.state}: {made.reason}", style="red"))
    counts = Counter(metric.verdict for metric in made.metrics)
    parts.append(Text("metrics: " + ", ".join(f"{counts[each]} {WORDS[each]}" for each in WORDS if counts[each])))
    verdict = ("agrees with its record", "green") if made.agrees else ("differs from its record", "red")
    parts.append(Text.assemble((made.trial, "bold"), " ", verdict, f"; the new record is in {made.folder}"))
    return Group(*parts)


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for i, name in enumerate(names):
        table.add_column(name, justify="right" if 0 < i < 4 and names[0] == "metric" else "left", overflow="fold")
    return table


def _relative(metric: Metric) -> str:
    if metric.then is None or metric.now is None or not math.isfinite(metric.now - metric.then):
        return ""
    return f"{(metric.now - metric.then) / abs(metric.then):+.1%}" if metric.then else f"{metric.now:+.3g}"
