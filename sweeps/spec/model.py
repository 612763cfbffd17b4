"""A sweep's specification as typed objects: the keys of its file and the sweep that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from analysis.configuration.constraints import parse_constraint
from analysis.record.copies import work_folder
from analysis.record.uri import absolute, at_home
from linearizer_core.bucket import address, is_address, local_path
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.function import FunctionConfig, function_config, function_configuration
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.experiment.plugged import configuration_of, trial_config
from linearizer_core.experiment.recipes import brought
from sweeps.spec.space import Dimension, Leaf, completed, enumerate_points
from sweeps.spec.validation import TAGS, Strict, model_of


@lru_cache
def configuration_model(refs: tuple[str, ...] = ()) -> type[Strict]:
    """The model of a configuration, with the settings of some loaded plugins.

    It describes a trial without its seed: seeds are replicates and are listed in search.seeds.
    """
    return model_of(configuration_of(refs), omit=("seed",))


@lru_cache
def function_model(function: str) -> type[Strict]:
    """The model of a configuration of a user-defined function whose file is loaded."""
    return model_of(function_configuration(function), omit=("seed",))


if TYPE_CHECKING:
    ConfigurationModel = Strict
else:
    ConfigurationModel = configuration_model()

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names become folders, so a name must not lead out of the storage folder."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""A trial's seed, in the range that torch accepts."""


MOST_TOGETHER = 256
"""Trials that one process may train together."""


class Control(Strict):
    """A configuration trained beside the search for comparison; the study never sees it; it is never stopped early."""

    name: str = Field(min_length=1, max_length=80, description="the control's name in tables")
    set: dict[str, Any] = Field(default_factory=dict, description="keys that differ from the base configuration")


class StopEarly(Strict):
    """Successive halving: of n trials that reached a rung, the best ⌈n / reduction⌉ go on."""

    scheduler: Literal["asha"] = Field("asha", description="the stopping rule")
    grace_epochs: int = Field(1, ge=1, description="the first rung: no trial is stopped before this epoch")
    reduction: int = Field(3, ge=2, description="rungs are at grace × reductionⁿ; one in `reduction` goes on")


class Confirm(Strict):
    """The best configurations, run again at fresh seeds that had no part in choosing them."""

    top: int = Field(3, ge=1, description="number of configurations to confirm")
    seeds: tuple[Seed, ...] = Field((1, 2, 3, 4), min_length=1, description="fresh seeds, not in search.seeds")


class Race(Strict):
    """The number of seeds per configuration: a few for every one, and more while it may still be the best."""

    at_least: int = Field(3, ge=2, description="number of seeds that every configuration gets: 0, 1, 2, …")
    at_most: int = Field(12, ge=3, description="number of seeds for configurations that may still be the best")

    @model_validator(mode="after")
    def _ascending(self) -> Race:
        if self.at_most <= self.at_least:
            raise ValueError(f"at_most must be above at_least, got {self.at_most} and {self.at_least}")
        return self


SeedList = Annotated[tuple[Seed, ...], Field(min_length=1), Tag(TAGS[0])]
Seeds = Annotated[
    SeedList | Annotated[Race, Tag(TAGS[1])],
    Discriminator(lambda value: TAGS[1] if isinstance(value, Mapping | Race) else TAGS[0]),
]


class Search(Strict):
    """The search: its space, sampler, objective and seeds."""

    sampler: Literal["tpe", "random", "grid", "nsga2", "gp"] = Field("tpe", description="Optuna's sampler")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler")
    trials: int | None = Field(
        None, ge=1, description="number of configurations to try; null with sampler: grid tries all of them"
    )
    space: dict[str, Dimension] = Field(min_length=1, description="dotted name of a key → its dimension")
    objective: dict[str, Literal["min", "max"]] = Field(
        {"quality/classifier_fd_collapsed": "min"},
        min_length=1,
        description="metric key → min or max; several make the search multi-objective",
    )
    first: tuple[dict[str, Leaf], ...] = Field(
        (), description="points to try before the sampler draws any; a key that a point leaves out is as in the base"
    )
    learn_from: tuple[str, ...] = Field(
        (),
        description="sweeps in the storage folder whose finished trials the sampler learns from at the start; they do "
        "not count as trials of this sweep",
    )
    constraints: dict[str, str] = Field(default_factory=dict, description='metric key → "<= number" or ">= number"')
    stop_early: StopEarly | None = Field(None, description="null: every trial runs to its end")
    seeds: Seeds = Field(
        (0,),
        description="every configuration runs at each seed and its mean counts; or {at_least: 3, at_most: 12}: only "
        "configurations that may still be the best get more than at_least seeds",
    )
    confirm: Confirm | None = Field(None, description="null: the best configurations are not run again")
    storage: str | None = Field(
        None,
        description="database for optuna-dashboard: postgresql://… or sqlite:///…; null: study.log in the record",
    )

    @property
    def race(self) -> Race | None:
        """The bounds on the number of seeds if ``seeds`` is a race, else None."""
        return self.seeds if isinstance(self.seeds, Race) else None

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds at which every configuration runs."""
        return tuple(range(self.seeds.at_least)) if isinstance(self.seeds, Race) else self.seeds

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """All seeds at which a configuration may run."""
        return tuple(range(self.seeds.at_most)) if isinstance(self.seeds, Race) else self.seeds

    @field_validator("storage")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        """Make the database's path absolute, as ``Tracking`` does."""
        return None if uri is None else absolute(uri)

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
    """The resources of one trial, and how often its state is saved."""

    workers: int = Field(1, ge=1, description="processes that train one trial together; each takes a share of a batch")
    gpus_per_worker: float = Field(0, ge=0, description="GPUs per process; a fraction lets trials share a GPU")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="where trials compute. auto: on a GPU if gpus_per_worker > 0, and it is an error if there is none; "
        "cpu: on the CPU even if a GPU is reserved; cuda: like auto, but gpus_per_worker must not be 0",
    )
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores per process, and its number of threads")
    together: Literal["auto", "off"] | int = Field(
        "off",
        description="trials that train in one process as one batched network, equal to each alone up to rounding. "
        "auto: the seeds of a configuration, as many as keep every slot busy; a number: up to so many trials that "
        "differ only in seed and train.lr; off: each by itself",
    )
    retries: int = Field(2, ge=0, description="how often a trial that crashed or failed resumes from its saved state")
    checkpoint_seconds: float = Field(
        30, ge=0, description="seconds of training between two saved states: about as much as a crash can lose"
    )
    collective_timeout: float = Field(
        600, gt=0, description="seconds that a worker waits for the others before it gives up"
    )
    price_per_gpu_hour: float | None = Field(
        None, ge=0, description="price of one GPU-hour in any currency; plan then shows what a sweep costs"
    )

    @field_validator("together", mode="before")
    @classmethod
    def _how_many(cls, value: Any) -> Any:
        if value is False:
            return "off"  # as YAML reads it
        if value in ("auto", "off") or (type(value) is int and 2 <= value <= MOST_TOGETHER):
            return value
        raise ValueError(f"must be auto, off or a number of trials from 2 to {MOST_TOGETHER}, got {value!r}")


class Budget(Strict):
    """Caps on the sweep, counted over all its launches."""

    trials: int | None = Field(None, ge=1, description="cap on the configurations of the search")
    hours: float | None = Field(None, gt=0, description="cap on the wall-clock hours during which trials run")
    gpu_hours: float | None = Field(None, gt=0, description="cap on the GPU-hours, summed over trials")


class Tracking(Strict):
    """The MLflow server and experiment that receive the runs."""

    uri: str | None = Field(None, description="MLflow's address; null: SQLite in <storage>/mlflow.db")
    experiment: str | None = Field(None, description="name of the experiment; null: the sweep's name")

    @field_validator("uri")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        """Make the database's path absolute: later commands may run in another folder."""
        return None if uri is None else absolute(uri)


Event = Literal["end", "failure", "budget"]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable; its value is never recorded."""


class Webhook(Strict):
    """An address that receives JSON by POST."""

    url: str | None = Field(None, description="address, https://…; it is recorded with the spec")
    url_variable: Variable | None = Field(
        None, description="environment variable that holds the address, if the address is secret"
    )
    token_variable: Variable | None = Field(
        None, description="environment variable that holds a token, which is sent as Bearer"
    )


class Email(Strict):
    """An SMTP server, and the addresses that get an email."""

    to: tuple[str, ...] = Field(min_length=1, description="addresses of the recipients")
    sender: str = Field(description="address of the sender")
    host: str = Field(min_length=1, description="the SMTP server")
    port: int = Field(587, ge=1, le=65535, description="port of the SMTP server")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="encryption; none is allowed only without a password"
    )
    user_variable: Variable | None = Field(None, description="environment variable that holds the user name")
    password_variable: Variable | None = Field(None, description="environment variable that holds the password")


class Notify(Strict):
    """Who is notified when a launch ends; a notification that fails is a warning."""

    at: tuple[Event, ...] = Field(
        ("end", "failure", "budget"),
        description="end: the sweep has finished; failure: every configuration failed, or the launch broke off; "
        "budget: the budget is spent",
    )
    command: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="program and its arguments; it reads JSON from its standard input; no shell",
        examples=["[notify-send, linsweep]"],
    )
    webhook: Webhook | None = Field(None, description="address that receives JSON by POST")
    email: Email | None = Field(None, description="email to send")


class SweepKeys(Strict):
    """A spec's keys other than the configuration: the space over its leaves, and how to run the sweep."""

    if TYPE_CHECKING:
        plugins: tuple[str, ...]

    name: str = Field(
        pattern=NAME, description="name of the sweep and of its folder: letters, digits, '.', '_' and '-'"
    )
    controls: tuple[Control, ...] = Field((), description="configurations trained beside the search")
    search: Search = Field(description="the space, and how it is searched")
    resources: Resources = Field(Resources(), description="resources of one trial")
    budget: Budget = Field(Budget(), description="hard caps on the sweep")
    tracking: Tracking = Field(Tracking(), description="MLflow's server and experiment")
    notify: Notify = Field(Notify(), description="who is notified when a launch ends")
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="key, metric key or metric → its name in tables, figures and reports; may change at any time",
    )
    storage: str = Field(
        "./runs",
        description="folder that all nodes can reach (~ is your home folder), or a bucket: s3://, gs://, az://",
    )
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        exclude=True,
        description="name → dotted keys that differ; --profile NAME selects one and adds NAME to the sweep's name",
    )

    @field_validator("storage")
    @classmethod
    def _at_home(cls, storage: str) -> str:
        """Expand ``~`` to the user's home folder; the address of a bucket is kept, and ``file://`` becomes a path."""
        return address(storage) if is_address(storage) else at_home(local_path(storage))


class SweepModel(SweepKeys, ConfigurationModel):
    """A sweep as its file describes it: a base configuration, a space over its leaves, and how to run it."""


@dataclass(frozen=True, repr=False)
class Sweep:
    """A valid spec: ``model`` holds its keys as read, ``source`` is the name of its file.

    ``place`` is the folder of the sweep's record if that is not named after the sweep: it may have been renamed.
    """

    model: SweepKeys
    source: str
    place: Path | None = None

    def __repr__(self) -> str:
        return f"Sweep({self.name}: {self.search.sampler} over {', '.join(self.search.space)}; {self.trials} trials)"

    @property
    def name(self) -> str:
        return str(self.model.name)

    @property
    def search(self) -> Search:
        return self.model.search

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The whole spec as JSON values, with every default filled in."""
        values: dict[str, Any] = self.model.model_dump(mode="json", by_alias=True)
        for dimension in values["search"]["space"].values():
            for name, value in list(dimension.items()):
                if value is None or (name != "default" and value in (False, {})):
                    del dimension[name]
        return values

    @cached_property
    def configuration(self) -> type[Strict]:
        """The model of the trials' configurations, with the settings that plugins add."""
        if self.function is not None:
            return function_model(self.function)
        return configuration_model(tuple(self.model.plugins))

    @property
    def function(self) -> str | None:
        """The user-defined function that trials call, or None if they train a model."""
        return getattr(self.model, "function", None)

    @property
    def family(self) -> str:
        """The family of the base configuration, or the name of the user-defined function."""
        return str(self.base["family"]) if self.function is None else self.function.rpartition(":")[2]

    @property
    def plugins(self) -> tuple[str, ...]:
        """The code that trials need, by its digest."""
        function = () if self.function is None else (self.function.rpartition(":")[0],)
        return (*function, *self.model.plugins)

    @cached_property
    def base(self) -> dict[str, Any]:
        """The base configuration of a trial, nested, without a seed."""
        return {name: self.resolved[name] for name in self.configuration.model_fields}

    @cached_property
    def base_leaves(self) -> dict[str, Any]:
        """The base configuration by dotted names."""
        return flatten(self.base)

    @property
    def every(self) -> int:
        """Epochs between two evaluations; 1 for a function, whose every step is an evaluation."""
        return int(self.base_leaves.get("evaluate.every", 1))

    @property
    def folder(self) -> Path:
        """The folder that holds everything the sweep writes; for one in a bucket, this machine's part of it."""
        if self.place is not None:
            return self.place
        storage = self.model.storage
        return (work_folder(storage) if is_address(storage) else Path(storage)) / self.name

    @property
    def bucket(self) -> str | None:
        """The address that its record is kept at; None where that is in a folder."""
        return f"{self.model.storage}/{self.name}" if is_address(self.model.storage) else None

    @property
    def configurations(self) -> int:
        """How many configurations the search will try."""
        caps = [cap for cap in (self.search.trials, self.model.budget.trials) if cap is not None]
        if self.search.sampler == "grid":
            caps.append(len(self.grid()))
        return min(caps)

    @property
    def trials(self) -> int:
        """How many trials there will be: configurations and controls at every seed, and confirmations.

        With a race this is the least possible number.
        """
        confirm = self.search.confirm
        confirmed = min(confirm.top, self.configurations) * len(confirm.seeds) if confirm else 0
        return (self.configurations + len(self.model.controls)) * len(self.search.first_seeds) + confirmed

    @property
    def most_trials(self) -> int:
        """How many trials there may be: with a race, if every configuration runs at all seeds."""
        return self.trials + self.configurations * (len(self.search.all_seeds) - len(self.search.first_seeds))

    def first_points(self) -> list[dict[str, Any]]:
        """The points of ``search.first`` with all their leaves filled in, without duplicates."""
        found: list[dict[str, Any]] = []
        for given in self.search.first:
            point = completed(self.search.space, self.base_leaves, given)
            if point not in found:
                found.append(point)
        return found

    def grid(self) -> list[dict[str, Any]]:
        """Every point of a space that can be enumerated."""
        return self._points

    @cached_property
    def _points(self) -> list[dict[str, Any]]:
        return list(enumerate_points(self.search.space, self.base_leaves))

    def resolve(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The nested configuration that results from overriding leaves of the base; values take the leaves' types.

        A ``family`` or ``recipe`` other than the base's replaces the base's recipe by that one; the remaining
        overrides apply on top.
        """
        base = self.base
        if self.function is not None:
            return self.configuration.model_validate(with_leaves(base, overrides)).model_dump(mode="json")
        family, recipe = (overrides.get(key, base[key]) for key in ("family", "recipe"))
        if (family, recipe) != (base["family"], base["recipe"]):
            base = with_leaves(base, flatten(brought(base, family, recipe)))
        return self.configuration.model_validate(with_leaves(base, overrides)).model_dump(mode="json")

    def trial_config(self, overrides: Mapping[str, Any], seed: int) -> TrialConfig:
        """The validated configuration of one trial of a model."""
        return trial_config(self.resolve(overrides) | {"seed": seed})

    def function_config(self, overrides: Mapping[str, Any], seed: int) -> FunctionConfig:
        """The validated configuration of one trial of a function."""
        return function_config(self.resolve(overrides) | {"seed": seed})


def json_schema(model: type[SweepKeys] = SweepModel) -> dict[str, Any]:
    """The JSON schema of a spec; ``model`` includes the keys that plugins add."""
    return model.model_json_schema(by_alias=True)
