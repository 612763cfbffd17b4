"""A sweep's specification: one YAML file, validated whole before anything starts."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.checks import problems, worker_problems
from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.experiment.recipes import brought, expand
from sweeps.spec.space import Dimension, enumerate_points, space_problems
from sweeps.spec.validation import InputError, Problem, Strict, model_of, nearest, problems_of, suggestion, without

if TYPE_CHECKING:
    ConfigurationModel = Strict
else:
    # A configuration is a trial without its seed: seeds are replicates, which search.seeds lists.
    ConfigurationModel = model_of(TrialConfig, omit=("seed",))
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names become folders: nothing in them may lead out of the storage."""

OPERATORS = ("<=", ">=")
MERGE = "tag:yaml.org,2002:merge"
"""YAML's tag of ``<<``."""

TRACKING_SCHEMES = ("http://", "https://", "sqlite:///", "postgresql", "mysql", "mssql")
STUDY_SCHEMES = ("sqlite:///", "postgresql", "mysql")


class Control(Strict):
    """A configuration trained beside the search, for comparison: not seen by the study, never stopped early."""

    name: str = Field(min_length=1, max_length=80, description="how tables call it")
    set: dict[str, Any] = Field(default_factory=dict, description="leaves that differ from the base configuration")


class StopEarly(Strict):
    """Successive halving: of n trials known at a rung, the best ⌈n / reduction⌉ go on."""

    scheduler: Literal["asha"] = Field("asha", description="the rule")
    grace_epochs: int = Field(1, ge=1, description="the first rung: nothing is stopped before this epoch")
    reduction: int = Field(3, ge=2, description="rungs are at grace × reductionⁿ; one in `reduction` goes on")


class Confirm(Strict):
    """The best configurations, run again at seeds that had no part in choosing them."""

    top: int = Field(3, ge=1, description="how many configurations")
    seeds: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1, description="seeds not in search.seeds")


class Search(Strict):
    """What is searched, how, and for what."""

    sampler: Literal["tpe", "random", "grid", "nsga2", "gp"] = Field("tpe", description="Optuna's sampler")
    seed: int = Field(0, ge=0, description="fixes the sampler")
    trials: int | None = Field(None, ge=1, description="configurations to try; null with sampler: grid: all")
    space: dict[str, Dimension] = Field(min_length=1, description="dotted name of a leaf → its dimension")
    objective: dict[str, Literal["min", "max"]] = Field(
        {"quality/classifier_fd_collapsed": "min"},
        min_length=1,
        description="metric key → min or max; several make the search multi-objective",
    )
    constraints: dict[str, str] = Field(default_factory=dict, description='metric key → "<= number" or ">= number"')
    stop_early: StopEarly | None = Field(None, description="null: every trial runs to its end")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="every configuration runs at each; the mean counts")
    confirm: Confirm | None = Field(None, description="null: the best configurations are not run again")
    storage: str | None = Field(
        None,
        description="database for optuna-dashboard, postgresql://… or sqlite:///…; null: study.log in the record",
    )

    @field_validator("constraints")
    @classmethod
    def _readable(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            try:
                parse_constraint(text)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        return value


class Resources(Strict):
    """What one trial takes, and how it is kept from being lost."""

    workers: int = Field(1, ge=1, description="processes that train one trial together, each on its share of a batch")
    gpus_per_worker: float = Field(0, ge=0, description="a fraction lets several trials share a GPU")
    cpus_per_worker: int = Field(1, ge=1, description="cores, and threads of each process")
    retries: int = Field(2, ge=0, description="how often a trial that died or raised goes on from its saved state")
    checkpoint_seconds: float = Field(30, ge=0, description="training between two saved states: what a crash may cost")
    collective_timeout: float = Field(600, gt=0, description="seconds a worker waits for the others before it gives up")


class Budget(Strict):
    """Caps on the sweep, over all its launches."""

    trials: int | None = Field(None, ge=1, description="configurations of the search")
    hours: float | None = Field(None, gt=0, description="wall time in which trials ran")
    gpu_hours: float | None = Field(None, gt=0, description="sum over trials of time × GPUs")


class Tracking(Strict):
    """Where MLflow's runs go."""

    uri: str | None = Field(None, description="null: sqlite in <storage>/mlflow.db")
    experiment: str | None = Field(None, description="null: the sweep's name")


class SweepModel(ConfigurationModel):
    """A sweep, as in its file: a base configuration, a space over its leaves, and how to carry it out."""

    name: str = Field(pattern=NAME, description="names the sweep's folder: letters, digits, '.', '_' and '-'")
    controls: tuple[Control, ...] = Field((), description="configurations trained beside the search")
    search: Search = Field(description="the space and how it is searched")
    resources: Resources = Field(Resources(), description="what one trial takes")
    budget: Budget = Field(Budget(), description="hard caps")
    tracking: Tracking = Field(Tracking(), description="MLflow")
    storage: str = Field("./runs", description="folder that all nodes see")
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        exclude=True,
        description="name → dotted leaves that differ; chosen with --profile, which adds its name to the sweep's",
    )


def parse_constraint(text: str) -> tuple[str, float]:
    """``"<= 1e-3"`` as its operator and its bound; raises ``ValueError`` for anything else."""
    operator, bound = text.strip()[:2], text.strip()[2:]
    try:
        if operator not in OPERATORS or not math.isfinite(float(bound)):
            raise ValueError
        return operator, float(bound)
    except ValueError:
        raise ValueError(f'must read "<= number" or ">= number", got {text!r}') from None


@dataclass(frozen=True)
class Sweep:
    """A valid spec: ``model`` as read, ``source`` the name of its file."""

    model: SweepModel
    source: str

    @property
    def name(self) -> str:
        return str(self.model.name)

    @property
    def search(self) -> Search:
        return self.model.search

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The whole spec as JSON values, every default filled in."""
        values: dict[str, Any] = self.model.model_dump(mode="json", by_alias=True)
        for dimension in values["search"]["space"].values():
            for name in [name for name, value in dimension.items() if value in (None, False, {})]:
                del dimension[name]
        return values

    @cached_property
    def base(self) -> dict[str, Any]:
        """The base configuration of a trial, nested, without a seed."""
        return {name: self.resolved[name] for name in ConfigurationModel.model_fields}

    @cached_property
    def base_leaves(self) -> dict[str, Any]:
        """The base configuration by dotted names."""
        return flatten(self.base)

    @property
    def folder(self) -> Path:
        """Where everything that the sweep writes is."""
        return Path(self.model.storage) / self.name

    @property
    def configurations(self) -> int:
        """How many configurations the search will try."""
        caps = [cap for cap in (self.search.trials, self.model.budget.trials) if cap is not None]
        if self.search.sampler == "grid":
            caps.append(len(self.grid()))
        return min(caps)

    @property
    def trials(self) -> int:
        """How many trials there will be: searched configurations and controls at every seed, and confirmations."""
        confirm = self.search.confirm
        confirmed = min(confirm.top, self.configurations) * len(confirm.seeds) if confirm else 0
        return (self.configurations + len(self.model.controls)) * len(self.search.seeds) + confirmed

    def grid(self) -> list[dict[str, Any]]:
        """Every point of a space that can be listed."""
        return self._points

    @cached_property
    def _points(self) -> list[dict[str, Any]]:
        return list(enumerate_points(self.search.space, self.base_leaves))

    def resolve(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The nested configuration that overrides of the base give: values as the leaves' types.

        A ``family`` or ``recipe`` other than the base's brings the values of that recipe with it, in place of the
        base's; the other overrides win over them.
        """
        base = self.base
        family, recipe = (overrides.get(key, base[key]) for key in ("family", "recipe"))
        if (family, recipe) != (base["family"], base["recipe"]):
            base = with_leaves(base, flatten(brought(base, family, recipe)))
        return ConfigurationModel.model_validate(with_leaves(base, overrides)).model_dump(mode="json")

    def trial_config(self, overrides: Mapping[str, Any], seed: int) -> TrialConfig:
        """The validated configuration of one trial."""
        config: TrialConfig = from_mapping(TrialConfig, self.resolve(overrides) | {"seed": seed})
        return config


def shipped() -> dict[str, Path]:
    """The specs that come with the package, by name."""
    return {path.stem: path for path in sorted(Path(str(files("sweeps") / "specs")).glob("*.yaml"))}


def load(spec: str, overrides: Sequence[str] = (), profile: str | None = None) -> Sweep:
    """The sweep of a file, or of a shipped spec's name, under one of its profiles and ``key=value`` overrides.

    Raises ``InputError`` with every problem that can be found at once.
    """
    path = shipped().get(spec, Path(spec))
    source = str(path) if spec not in shipped() else path.name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot be read ({error.strerror}); shipped specs: {suggestion(spec, shipped())}"
        raise InputError(source, [Problem("", message)]) from None
    except UnicodeDecodeError as error:
        raise InputError(source, [Problem("", f"is not UTF-8 text: {error.reason} at byte {error.start}")]) from None
    values, found = _parse(text, source)
    values, of_profile = _under(values, profile)
    return _sweep(values, source, overrides, found, of_profile)


def recorded(record: Mapping[str, Any], folder: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a sweep.json, in the folder that it is in now, under ``key=value`` overrides.

    Raises ``InputError`` with every problem that can be found at once.
    """
    values = {**record["spec"], "storage": str(folder.parent)}
    return _sweep(values, str(folder / "sweep.json"), overrides, [], [])


def _sweep(
    values: dict[str, Any], source: str, overrides: Sequence[str], found: list[Problem], of_profile: list[Problem]
) -> Sweep:
    """The validated sweep of a spec's values; ``found`` is what is wrong with its text, ``of_profile`` beyond that."""
    values, more = _apply(values, overrides)
    more = of_profile + more
    if "seed" in values:
        more.append(Problem("seed", "is not a key of a sweep: its seeds are search.seeds"))
        values = without(values, ["seed"])
    values = expand(values)
    try:
        model = SweepModel.model_validate(values)
    except ValidationError as error:
        found += more + problems_of(error, SweepModel)
        raise InputError(source, found + _beyond(values, error, found)) from None
    sweep = Sweep(model, source)
    found += more + check(sweep)
    if found:
        raise InputError(source, found)
    return _typed(sweep)


def _typed(sweep: Sweep) -> Sweep:
    """The sweep with every listed value as its leaf's type: YAML reads 1e-3 as text and 1 as a whole number."""

    def typed(name: str, value: Any) -> Any:
        return flatten(sweep.resolve({name: value}))[name]

    def typed_dimension(name: str, dimension: Dimension) -> Dimension:
        when = {
            other: tuple(typed(other, v) for v in wanted) if isinstance(wanted, tuple) else typed(other, wanted)
            for other, wanted in dimension.when.items()
        }
        lists = {
            kind: tuple(typed(name, value) for value in listed)
            for kind, listed in (("choice", dimension.choice), ("grid", dimension.grid))
            if listed is not None
        }
        return dimension.model_copy(update={"when": when, **lists})

    space = {name: typed_dimension(name, dimension) for name, dimension in sweep.search.space.items()}
    controls = tuple(
        control.model_copy(update={"set": {name: typed(name, value) for name, value in control.set.items()}})
        for control in sweep.model.controls
    )
    search = sweep.search.model_copy(update={"space": space})
    return Sweep(sweep.model.model_copy(update={"search": search, "controls": controls}), sweep.source)


def _parse(text: str, source: str) -> tuple[dict[str, Any], list[Problem]]:
    """The file's values, and the keys that it gives twice (YAML would keep the last one silently)."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        repeated = _repeated(root, "")  # before merged mappings are written out
        values = None if root is None else loader.construct_document(root)
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a ValueError
        raise InputError(source, [Problem("", f"is not valid YAML: {' '.join(str(error).split())}")]) from None
    if not isinstance(values, dict):
        raise InputError(source, [Problem("", "must be a mapping of keys to values, with at least name and search")])
    return values, repeated


def _repeated(node: yaml.Node | None, prefix: str) -> list[Problem]:
    found: list[Problem] = []
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            found += _repeated(item, f"{prefix.removesuffix('.')}[{i}].")
    if not isinstance(node, yaml.MappingNode):
        return found
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if name in lines:
            found.append(Problem(name, f"is given twice, in lines {lines[name]} and {line}; keep one"))
        lines[name] = line
        # What is merged in has been looked at where it stands.
        if key.tag != MERGE:
            found += _repeated(value, f"{name}.")
    return found


def _apply(values: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    """The values with ``--set key=value`` applied; a key of the space may itself hold dots."""
    found = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            found.append(Problem(f"--set {text}", "must read key=value, such as train.lr=1e-4"))
            continue
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            found.append(Problem(f"--set {key}", f"{value!r} is not a YAML value"))
            continue
        values = _with(values, key, parsed)
    return values, found


def _with(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The values with one leaf set; the space's keys hold dots themselves."""
    prefix = "search.space."
    if not key.startswith(prefix):
        return with_leaves(values, {key: value})
    search = values.get("search")
    search = dict(search) if isinstance(search, dict) else {}
    space = search.get("space")
    search["space"] = {**(space if isinstance(space, dict) else {}), key.removeprefix(prefix): value}
    return {**values, "search": search}


def _under(values: dict[str, Any], profile: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """The values with a profile's leaves set and its name added to theirs."""
    if profile is None:
        return values, []
    profiles = values.get("profiles")
    known = profiles if isinstance(profiles, dict) else {}
    if profile not in known:
        hint = suggestion(profile, map(str, known)) if known else "the spec has none"
        return values, [Problem("profiles", f"there is no profile {profile}; {hint}")]
    if "name" in values:
        values = {**values, "name": f"{values['name']}-{profile}"}
    # What is no mapping is told by the validation of the whole spec.
    leaves = known[profile] if isinstance(known[profile], dict) else {}
    for key, value in leaves.items():
        values = _with(values, str(key), value)
    return values, []


def _beyond(values: dict[str, Any], error: ValidationError, reported: Sequence[Problem]) -> list[Problem]:
    """What ``check`` finds in a spec that is invalid already, judged as if what is wrong were not there."""
    for _ in range(4):
        for detail in error.errors(include_url=False):
            # Of a dimension nothing is left that could be judged without the part that is wrong.
            dimension = detail["loc"][:2] == ("search", "space")
            values = without(values, detail["loc"][:3] if dimension else detail["loc"])
        values = {"name": "unnamed", **values}
        search = values.get("search")
        values["search"] = search = dict(search) if isinstance(search, dict) else {"trials": 1}
        if not search.get("space"):
            search["space"] = {"train.lr": {"float": [1e-4, 1e-3]}}
        try:
            model = SweepModel.model_validate(values)
        except ValidationError as next_error:
            error = next_error
            continue
        keys = {problem.key for problem in reported}
        return [problem for problem in check(Sweep(model, "")) if problem.key not in keys]
    return []


def _unknown_leaf(key: str, name: str, known: Sequence[str]) -> Problem:
    if name == "seed":
        return Problem(key, "seeds are replicates, not a dimension; use search.seeds")
    return Problem(key, f"{name} is not a leaf of the configuration; {_nearest_leaf(name, known)}")


def _nearest_leaf(name: str, known: Sequence[str]) -> str:
    last = name.rpartition(".")[2]
    ends = [leaf for leaf in known if leaf.rpartition(".")[2] == last]
    match = nearest(name, known) or (ends[0] if ends else None)
    return f"did you mean {match}?" if match else "linsweep schema lists them"


def check(sweep: Sweep) -> list[Problem]:
    """What single fields cannot say: that names exist, values work together and objectives are recorded."""
    base = _config_problems(sweep, {})
    found = [Problem(key, message) for key, message in base.items()]
    found += _space_checks(sweep, base)
    found += _control_problems(sweep, base)
    found += _search_problems(sweep)
    found += _resource_problems(sweep)
    found += _storage_problems(sweep.model.storage)
    for key, uri, schemes in (
        ("tracking.uri", sweep.model.tracking.uri, TRACKING_SCHEMES),
        ("search.storage", sweep.search.storage, STUDY_SCHEMES),
    ):
        if uri is not None and not uri.startswith(schemes):
            found.append(Problem(key, f"must begin with one of {', '.join(schemes)}"))
    return found


def _resource_problems(sweep: Sweep) -> list[Problem]:
    """GPUs that no process can be given, and batches that do not divide among the workers."""
    resources, found = sweep.model.resources, []
    gpus, workers = resources.gpus_per_worker, resources.workers
    if gpus != int(gpus) and (gpus > 1 or workers > 1):
        why = "above 1" if gpus > 1 else "with several workers"
        found.append(Problem("resources.gpus_per_worker", f"{why} must be a whole number, got {gpus:g}"))
    if workers > 1:
        dimension = sweep.search.space.get("train.batch_size")
        points = [{}, *({"train.batch_size": value} for value in (dimension.edges() if dimension else ()))]
        for point in points:
            try:
                config = sweep.trial_config(point, 0)
            except ValidationError:
                continue  # which is told already
            found += [Problem(key, message) for key, message in worker_problems(config, workers).items()]
    return list(dict.fromkeys(found))


def _storage_problems(storage: str) -> list[Problem]:
    """Why a folder could not be made there, as far as can be told without making it."""
    if "://" in storage:
        return [Problem("storage", f"must be a folder that all nodes see, got {storage!r}")]
    nearest = Path(storage).absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        return [Problem("storage", f"must be a folder, {nearest} is a file")]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [Problem("storage", f"{nearest} cannot be written to")]
    return []


def _config_problems(sweep: Sweep, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Dotted leaf → what is wrong with the base configuration under overrides whose names all exist."""
    try:
        config = sweep.trial_config(overrides, 0)
    except ValidationError as error:
        return {problem.key: problem.message for problem in problems_of(error, ConfigurationModel)}
    try:
        data = datasets.load(config.data)
    except datasets.DataError as error:
        return {"data": str(error)}
    held_out = min(len(data.validation), len(data.test))
    return problems(config, data.event, len(data.train), data.classes, held_out)


def _space_checks(sweep: Sweep, base: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the space, beyond what ``base`` says of the base configuration alone."""
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
        # A dimension is right when its edges are, with everything else as in the base.
        for value in dimension.edges():
            wrong = _config_problems(sweep, {**condition, name: value})
            for key, message in wrong.items():
                if base.get(key) != message:
                    about = "" if key == name else f" makes {key} wrong"
                    found.append(Problem(f"search.space.{name}", f"{value}{about}: {message}"))
            if name == "family" and not wrong:
                found += _unmeasured(sweep, {**condition, name: value})
    return found


def _unmeasured(sweep: Sweep, overrides: Mapping[str, Any]) -> list[Problem]:
    """The objectives that the search has of its base but not of a family that it reaches."""
    base, config = sweep.trial_config({}, 0), sweep.trial_config(overrides, 0)
    lost = set(family_of(base).summary_keys(base)) - set(family_of(config).summary_keys(config))
    return [
        Problem("search.space.family", f"{config.family} does not record the objective {key}; make it a control")
        for key in sweep.search.objective
        if key in lost
    ]


def _control_problems(sweep: Sweep, base: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the controls, beyond what ``base`` says of the base configuration alone."""
    found: list[Problem] = []
    names = [control.name for control in sweep.model.controls]
    for i, control in enumerate(sweep.model.controls):
        key = f"controls[{i}]"
        if names.index(control.name) < i:
            found.append(Problem(f"{key}.name", f"{control.name!r} is used twice"))
        unknown = [name for name in control.set if name not in sweep.base_leaves]
        found += [_unknown_leaf(f"{key}.set.{name}", name, list(sweep.base_leaves)) for name in unknown]
        if not unknown:
            wrong = _config_problems(sweep, control.set)
            found += [Problem(f"{key}.set.{k}", message) for k, message in wrong.items() if base.get(k) != message]
    return found


def _key_problems(sweep: Sweep) -> list[Problem]:
    """What is wrong with the metrics that the search names: nothing records them, or only at the end."""
    search, found = sweep.search, []
    config = sweep.trial_config({}, 0)
    if not config.evaluate.steps:
        return []  # which is told already; keys name step counts
    family = family_of(config)
    recorded, interim = family.summary_keys(config), family.interim_keys(config)
    for field, keys in (("objective", search.objective), ("constraints", search.constraints)):
        for key in keys:
            if key not in recorded:
                found.append(Problem(f"search.{field}.{key}", f"nothing records it; {suggestion(key, recorded)}"))
    if search.stop_early and len(search.objective) == 1:
        key = next(iter(search.objective))
        if key in recorded and key not in interim:
            message = f"{key} is not measured during training; {', '.join(interim)} can be"
            found.append(Problem("search.stop_early", message))
    return found


def _search_problems(sweep: Sweep) -> list[Problem]:
    search, found = sweep.search, _key_problems(sweep)
    if search.stop_early and len(search.objective) > 1:
        found.append(Problem("search.stop_early", "goes with one objective; with several use null"))
    epochs, every = sweep.base_leaves["train.epochs"], sweep.base_leaves["evaluate.every"]
    if search.stop_early and search.stop_early.grace_epochs >= epochs:
        found.append(Problem("search.stop_early.grace_epochs", f"must be below train.epochs = {epochs}"))
    elif search.stop_early and every <= epochs <= -(-search.stop_early.grace_epochs // every) * every:
        message = (
            f"nothing is measured between epoch {search.stop_early.grace_epochs} and {epochs}; lower evaluate.every"
        )
        found.append(Problem("search.stop_early.grace_epochs", f"{message} = {every}"))
    if search.sampler == "gp" and len(search.objective) > 1 and search.constraints:
        found.append(Problem("search.sampler", "gp takes constraints with one objective only; use tpe or nsga2"))
    if search.trials is None and search.sampler != "grid" and sweep.model.budget.trials is None:
        found.append(Problem("search.trials", f"is required with sampler: {search.sampler}"))
    if len(set(search.seeds)) < len(search.seeds):
        found.append(Problem("search.seeds", f"names a seed twice: {list(search.seeds)}"))
    if search.confirm:
        shared = sorted(set(search.confirm.seeds) & set(search.seeds))
        if shared:
            found.append(Problem("search.confirm.seeds", f"must be fresh: {shared} chose the configuration already"))
    return found


def json_schema() -> dict[str, Any]:
    """The JSON schema of a spec."""
    return SweepModel.model_json_schema(by_alias=True)
