"""The checks across fields of a spec: that names exist and that values work together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.configuration.sampled import stem
from analysis.configuration.words import short_names
from analysis.record.mlflow_internals import longest_experiment_name
from analysis.record.uri import TRACKING_SCHEMES
from linearizer_core.bucket import is_address
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.callbacks import keys_of
from linearizer_core.experiment.checks import problems, worker_problems
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.function import GROUP
from linearizer_core.experiment.rehearsal import rehearsed
from linearizer_core.experiment.sample_metrics import direction_in
from linearizer_core.plugins.errors import PluginError
from linearizer_core.words import counted
from sweeps.spec.model import Sweep
from sweeps.spec.notes import recorded_in_words
from sweeps.spec.notifying import notify_problems
from sweeps.spec.points import corners, tried
from sweeps.spec.samplers import sampler_of
from sweeps.spec.space import completed, ordered, space_problems
from sweeps.spec.validation import Problem, nearest, problems_of, suggestion

LONGEST_LABEL = 60
"""The most characters of a display name that tables and figures have room for."""
STUDY_SCHEMES = ("sqlite:///", "postgresql", "mysql")


def check(sweep: Sweep) -> list[Problem]:
    """The problems across fields: unknown names, values that do not work together, objectives not recorded."""
    base = _config_problems(sweep, {})
    found = [Problem(key, message) for key, message in base.items()]
    found += _space_checks(sweep, base)
    found += _first_problems(sweep, base) + _control_problems(sweep, base)
    found += _search_problems(sweep)
    found += _resource_problems(sweep) + _label_problems(sweep)
    found += notify_problems(sweep.model.notify)
    found += _storage_problems(sweep.model.storage) + _name_problems(sweep)
    for key, uri, schemes in (
        ("tracking.uri", sweep.model.tracking.uri, TRACKING_SCHEMES),
        ("search.storage", sweep.search.storage, STUDY_SCHEMES),
    ):
        if uri is not None and not uri.startswith(schemes):
            found.append(Problem(key, f"must begin with one of {', '.join(schemes)}"))
    experiment = sweep.model.tracking.experiment
    if experiment is not None and not experiment.strip():
        found.append(Problem("tracking.experiment", "must not be blank; use null for the sweep's name"))
    # Importing MLflow takes a second: ask for its limit only where it may matter.
    elif experiment is not None and not experiment.isprintable():
        found.append(Problem("tracking.experiment", f"must be one line of printable text, got {experiment!r}"))
    elif experiment is not None and len(experiment) > 100 and len(experiment) > (most := longest_experiment_name()):
        message = f"has {len(experiment)} characters; MLflow takes at most {most}"
        found.append(Problem("tracking.experiment", message))
    return found


def _config_problems(sweep: Sweep, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Dotted leaf → what is wrong there when existing leaves of the base configuration are overridden."""
    if sweep.function is not None:
        return _function_problems(sweep, overrides)
    try:
        config = sweep.trial_config(overrides, 0)
    except ValidationError as error:
        return {problem.key: problem.message for problem in problems_of(error, sweep.configuration)}
    try:
        data = datasets.load(config.data)
    except datasets.DataError as error:
        return {"data": str(error)}
    held_out = min(len(data.validation), len(data.test))
    return problems(config, data.event, len(data.train), data.classes, held_out) or rehearsed(config)


def _function_problems(sweep: Sweep, overrides: Mapping[str, Any]) -> dict[str, str]:
    """The problems with a function's settings; the function itself decides which values it accepts."""
    try:
        sweep.function_config(overrides, 0)
    except ValidationError as error:
        return {problem.key: problem.message for problem in problems_of(error, sweep.configuration)}
    return {}


def _space_checks(sweep: Sweep, base: Mapping[str, str]) -> list[Problem]:
    """The problems with the space, except those in ``base``, which the base configuration has on its own."""
    leaves, space = sweep.base_leaves, sweep.search.space
    found = [_unknown_leaf(f"search.space.{name}", name, list(leaves)) for name in space if name not in leaves]
    found += space_problems(space, sweep.search.sampler)
    for name, dimension in space.items():
        found += [
            _unknown_leaf(f"search.space.{name}.when", other, list(leaves))
            for other in dimension.when
            if other not in leaves
        ]
        if name not in leaves:
            continue
        condition = {k: v[0] if isinstance(v, tuple) else v for k, v in dimension.when.items() if k in leaves}
        # One value at a time, with everything else as in the base; combinations are checked below.
        told: set[str] = set()
        for value in tried(dimension):
            wrong = _config_problems(sweep, {**condition, name: value})
            for key, message in wrong.items():
                # Of a range, report only the first value that is wrong in the same way.
                if base.get(key) != message and (dimension.choice or dimension.grid or key not in told):
                    told.add(key)
                    about = "" if key == name else f" makes {key} wrong"
                    found.append(Problem(f"search.space.{name}", f"{value}{about}: {message}"))
            if name == "family" and not wrong:
                found += _unmeasured(sweep, {**condition, name: value})
    return found or _corner_problems(sweep, base)


def _corner_problems(sweep: Sweep, base: Mapping[str, str]) -> list[Problem]:
    """The problems that appear only where several dimensions are at their bounds together."""
    found: dict[tuple[str, ...], Problem] = {}
    for point in corners(sweep.search.space, sweep.base_leaves):
        for key, message in _config_problems(sweep, point).items():
            if base.get(key) == message:
                continue
            blamed = _blamed(sweep, point, key)
            last = key if key in blamed else list(blamed)[-1]
            others = ", ".join(f"{name}: {value}" for name, value in blamed.items() if name != last)
            about = (f" with {others}" if others else "") + ("" if key == last else f" makes {key} wrong")
            problem = Problem(f"search.space.{last}", f"{blamed[last]}{about}: {message}")
            found.setdefault((key, *blamed), problem)
    return list(found.values())


def _blamed(sweep: Sweep, point: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The values of a point that are needed for a key to be wrong."""
    left = dict(point)
    for name in point:
        rest = {other: value for other, value in left.items() if other != name}
        if rest and key in _config_problems(sweep, rest):
            left = rest
    return left


def _first_problems(sweep: Sweep, base: Mapping[str, str]) -> list[Problem]:
    """The problems with the points to try first and with the defaults of axes."""
    space, found = sweep.search.space, []
    for name, dimension in space.items():
        if dimension.default is not None and not dimension.holds(dimension.default):
            message = f"{dimension.default} is not one of its values ({dimension.describe()}); add it to them"
            found.append(Problem(f"search.space.{name}.default", message))
    try:
        ordered(space)
        points = [completed(space, sweep.base_leaves, given) for given in sweep.search.first]
    except (KeyError, ValueError):
        return found  # the problem with the space is reported already
    for i, (given, point) in enumerate(zip(sweep.search.first, points, strict=True)):
        key = f"search.first[{i}]"
        unknown = [name for name in given if name not in space]
        found += [Problem(f"{key}.{name}", f"is not searched; {suggestion(name, space)}") for name in unknown]
        idle = [name for name in given if name in space and name not in point]
        found += [Problem(f"{key}.{name}", "is not active at this point: its `when` does not hold") for name in idle]
        outside = [name for name, value in point.items() if not space[name].holds(value)]
        for name in outside:
            where = "" if name in given else " (from the base, since the point leaves it out)"
            message = f"{point[name]}{where} is not in {space[name].describe()}"
            found.append(Problem(f"{key}.{name}", message))
        if not unknown and not outside:
            wrong = _config_problems(sweep, point)
            found += [Problem(key, f"{k}: {message}") for k, message in wrong.items() if base.get(k) != message]
    if not found and sweep.search.first:
        most = counted(sweep.configurations, "configuration")
        if (count := len(sweep.first_points())) > sweep.configurations:
            found.append(Problem("search.first", f"has {counted(count, 'point')} but the search tries {most}"))
    return found


def _unmeasured(sweep: Sweep, overrides: Mapping[str, Any]) -> list[Problem]:
    """The objectives that the base records but a family in the search space does not."""
    base, config = sweep.trial_config({}, 0), sweep.trial_config(overrides, 0)
    lost = set(family_of(base).summary_keys(base)) - set(family_of(config).summary_keys(config))
    return [
        Problem(
            "search.space.family",
            f"{config.family} does not record the objective {key}; make it a control ({recorded_in_words(config)})",
        )
        for key in sweep.search.objective
        if key in lost
    ]


def _control_problems(sweep: Sweep, base: Mapping[str, str]) -> list[Problem]:
    """The problems with the controls, except those in ``base``, which the base configuration has on its own."""
    found: list[Problem] = []
    names = [control.name for control in sweep.model.controls]
    for i, control in enumerate(sweep.model.controls):
        key = f"controls[{i}]"
        if not control.name.strip() or not control.name.isprintable():
            found.append(Problem(f"{key}.name", f"must be one line of printable text, got {control.name!r}"))
        if names.index(control.name) < i:
            found.append(Problem(f"{key}.name", f"{control.name!r} is used twice"))
        unknown = [name for name in control.set if name not in sweep.base_leaves]
        found += [_unknown_leaf(f"{key}.set.{name}", name, list(sweep.base_leaves)) for name in unknown]
        if not unknown:
            wrong = _config_problems(sweep, control.set)
            found += [Problem(f"{key}.set.{k}", message) for k, message in wrong.items() if base.get(k) != message]
    return found


def _recorded(sweep: Sweep) -> list[str] | None:
    """The keys of the final metrics, or None if they cannot be known: a function chooses what it reports."""
    if sweep.function is not None:
        return None
    config = sweep.trial_config({}, 0)
    # The keys contain step counts; an empty list of these is reported elsewhere.
    return family_of(config).summary_keys(config) + keys_of(config) if config.evaluate.steps else None


def _key_problems(sweep: Sweep) -> list[Problem]:
    """The problems with the metrics that the search names: not recorded at all, or only at the end."""
    search, found = sweep.search, []
    if sweep.function is not None:
        for field, keys in (("objective", search.objective), ("constraints", search.constraints)):
            for key in keys:
                if "/" not in key:
                    message = f"a metric that a function reports as {key} is recorded as {GROUP}/{key}; write that"
                    found.append(Problem(f"search.{field}.{key}", message))
        if search.stop_early is not None and sweep.base_leaves["train.epochs"] == 1:
            message = "needs more than one step: set train.epochs to the number of steps that the function reports"
            found.append(Problem("search.stop_early", message))
        return found
    recorded = _recorded(sweep)
    if recorded is None:
        return []
    config = sweep.trial_config({}, 0)
    interim = family_of(config).interim_keys(config)
    for field, keys in (("objective", search.objective), ("constraints", search.constraints)):
        for key in keys:
            if key not in recorded and field == "objective" and "objective" not in search.model_fields_set:
                found.append(Problem("search.objective", _no_objective(key, config, recorded)))
            elif key not in recorded:
                found.append(Problem(f"search.{field}.{key}", f"is not recorded; {suggestion(key, recorded)}"))
    for key, direction in search.objective.items():
        better = direction_in(config.evaluate, key)
        if key in recorded and better not in (None, direction):
            size = "higher" if better == "max" else "lower"
            message = f"{size} is better: write {better}, not {direction}"
            found.append(Problem(f"search.objective.{key}", message))
    if search.stop_early and len(search.objective) == 1:
        key = next(iter(search.objective))
        if key in recorded and key not in interim:
            message = f"{key} is not measured during training; use one of {', '.join(interim)}"
            found.append(Problem("search.stop_early", message))
    return found


def _no_objective(default: str, config: TrialConfig, recorded: Sequence[str]) -> str:
    """What to write where the objective is not given and its default is not recorded."""
    named = (f"quality/{name}_{how}" for name in config.evaluate.quality for how in ("sampled", "collapsed"))
    key = next((key for key in named if key in recorded), recorded[0])
    example = f"{{{key}: {direction_in(config.evaluate, key) or 'min'}}}"
    return f"is not given, and its default, {default}, is not recorded; write it, such as {example}"


def _search_problems(sweep: Sweep) -> list[Problem]:
    search, found = sweep.search, _key_problems(sweep)
    try:
        sampler_of(sweep, search.seed)
    except PluginError as error:
        found.append(Problem("search.sampler", str(error)))
    if search.stop_early and len(search.objective) > 1:
        found.append(Problem("search.stop_early", "needs a single objective; with several use null"))
    epochs, every = sweep.base_leaves["train.epochs"], sweep.every
    if search.stop_early and search.stop_early.grace_epochs >= epochs:
        found.append(Problem("search.stop_early.grace_epochs", f"must be below train.epochs = {epochs}"))
    elif search.stop_early and every <= epochs <= -(-search.stop_early.grace_epochs // every) * every:
        message = (
            f"nothing is measured between epochs {search.stop_early.grace_epochs} and {epochs}; lower evaluate.every"
        )
        found.append(Problem("search.stop_early.grace_epochs", f"{message} = {every}"))
    if search.sampler == "gp" and len(search.objective) > 1 and search.constraints:
        found.append(
            Problem("search.sampler", "gp supports constraints with a single objective only; use tpe or nsga2")
        )
    if search.trials is None and search.sampler != "grid" and sweep.model.budget.trials is None:
        found.append(Problem("search.trials", f"is required with sampler: {search.sampler}"))
    if search.race and len(search.objective) > 1:
        found.append(
            Problem("search.seeds", "a race needs a single objective; with several list the seeds, such as [0, 1, 2]")
        )
    if search.sampler == "grid" and search.learn_from:
        found.append(Problem("search.learn_from", "needs a sampler that learns; a grid visits every point anyway"))
    fresh = search.confirm.seeds if search.confirm else ()
    for key, seeds in (("search.seeds", search.all_seeds), ("search.confirm.seeds", fresh)):
        if len(set(seeds)) < len(seeds):
            found.append(Problem(key, f"lists a seed twice: {list(seeds)}"))
    found += _confirm_problems(sweep)
    if search.confirm:
        shared = sorted(set(search.confirm.seeds) & set(search.all_seeds))
        if shared:
            found.append(
                Problem("search.confirm.seeds", f"must be fresh: {shared} are in search.seeds, which choose the best")
            )
    return found


def _confirm_problems(sweep: Sweep) -> list[Problem]:
    """A problem if more configurations are confirmed than searched, where their number is known."""
    confirm = sweep.search.confirm
    try:
        count = sweep.configurations
    except ValueError:
        return []  # the problem that prevents counting is reported already
    if confirm is None or not count or confirm.top <= count:
        return []
    message = f"{confirm.top} exceeds the search's {counted(count, 'configuration')}; use 1 … {count}"
    return [Problem("search.confirm.top", message)]


def _label_problems(sweep: Sweep) -> list[Problem]:
    """The problems with labels: of unknown keys, unprintable, or shared by two axes."""
    labels, recorded = sweep.model.labels, _recorded(sweep)
    known = None if recorded is None else [*sweep.base_leaves, *dict.fromkeys(map(stem, recorded)), *recorded]
    found = []
    for key, text in labels.items():
        if known is not None and key not in known:
            found.append(
                Problem(f"labels.{key}", f"is neither a key nor a metric of this sweep; {suggestion(key, known)}")
            )
        if not (text.strip() and text.isprintable() and len(text) <= LONGEST_LABEL):
            message = f"must be one line of 1 to {LONGEST_LABEL} printable characters, got {text!r:.80}"
            found.append(Problem(f"labels.{key}", message))
    shown: dict[str, str] = {}
    for axis, short in short_names(list(sweep.search.space)).items():
        other = shown.setdefault(labels.get(axis, short), axis)
        if other != axis:
            key = axis if axis in labels else other
            found.append(Problem(f"labels.{key}", f"{labels[key]!r} would stand for both {other} and {axis}"))
    return found


def _resource_problems(sweep: Sweep) -> list[Problem]:
    """The problems with GPU shares that Ray cannot assign and batches that do not divide among the workers."""
    resources, found = sweep.model.resources, []
    gpus, workers = resources.gpus_per_worker, resources.workers
    if gpus != int(gpus) and (gpus > 1 or workers > 1):
        why = "above 1" if gpus > 1 else "with several workers"
        found.append(Problem("resources.gpus_per_worker", f"{why} must be a whole number, got {gpus:g}"))
    if resources.device == "cuda" and not gpus:
        message = "cuda needs gpus_per_worker > 0: Ray hides GPUs from trials that reserve none"
        found.append(Problem("resources.device", message))
    if workers > 1 and sweep.function is not None:
        return [*found, Problem("resources.workers", f"a function runs in one process, got {workers}; use 1")]
    if workers > 1:
        dimension = sweep.search.space.get("train.batch_size")
        points = [{}, *({"train.batch_size": value} for value in (tried(dimension) if dimension else ()))]
        for point in points:
            try:
                config = sweep.trial_config(point, 0)
            except ValidationError:
                continue  # which is reported already
            wrong = worker_problems(config, workers)
            found += [Problem(f"search.space.{key}" if point else key, message) for key, message in wrong.items()]
            if wrong:
                break  # one value of a range is enough
    return list(dict.fromkeys(found))


TAKEN = {
    "cache": "the cache that trials share",
    "mlflow.db": "MLflow's database",
    "mlartifacts": "MLflow's artifacts",
    "report": "reports of several sweeps",
}
"""Names in a storage folder that a sweep cannot have, and what they are used for."""


def _name_problems(sweep: Sweep) -> list[Problem]:
    """A problem if the name is taken in the storage folder; a sweep of an earlier version may keep such a name."""
    if sweep.name.lower() not in TAKEN or (sweep.folder / "sweep.json").exists():
        return []
    what = TAKEN[sweep.name.lower()]
    return [Problem("name", f"{sweep.name} is reserved for {what} in the storage folder; use another name")]


def _storage_problems(storage: str) -> list[Problem]:
    """Why the folder could not be created, as far as that can be known without creating it."""
    if "\0" in storage:
        return [Problem("storage", f"must be a path without NUL characters, got {storage!r}")]
    if is_address(storage):
        return []  # the launch asks the bucket, before anything starts
    if "://" in storage:
        known = "must be a folder that all nodes can reach, or begin with s3://, gs:// or az://"
        return [Problem("storage", f"{known}, got {storage!r}")]
    nearest = Path(storage).absolute()
    try:
        while not nearest.exists():
            nearest = nearest.parent
    except OSError as error:
        return [Problem("storage", f"{nearest} cannot be a folder: {error.strerror}")]
    if not nearest.is_dir():
        return [Problem("storage", f"must be a folder, but {nearest} is a file")]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [Problem("storage", f"{nearest} is not writable")]
    return []


def _unknown_leaf(key: str, name: str, known: Sequence[str]) -> Problem:
    if name == "seed":
        return Problem(key, "seeds are replicates, not a dimension; use search.seeds")
    return Problem(key, f"{name} is not a key of the configuration; {_nearest_leaf(name, known)}")


def _nearest_leaf(name: str, known: Sequence[str]) -> str:
    last = name.rpartition(".")[2]
    ends = [leaf for leaf in known if leaf.rpartition(".")[2] == last]
    match = nearest(name, known) or (ends[0] if ends else None)
    return f"did you mean {match}?" if match else "linsweep schema lists all keys"
