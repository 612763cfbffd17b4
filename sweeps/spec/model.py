"""A sweep's specification as typed objects: the keys of its file, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from analysis.configuration.constraints import parse_constraint
from analysis.record.uri import absolute, at_home
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.function import FunctionConfig, function_config, function_configuration
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.experiment.plugged import configuration_of, trial_config
from linearizer_core.experiment.recipes import brought
from sweeps.spec.space import Dimension, Leaf, completed, enumerate_points
from sweeps.spec.validation import TAGS, Strict, model_of


@lru_cache
def configuration_model(refs: tuple[str, ...] = ()) -> type[Strict]:
    """The model of a configuration with some loaded plugins.

    It is a trial without its seed: seeds are replicates, which search.seeds lists.
    """
    return model_of(configuration_of(refs), omit=("seed",))


@lru_cache
def function_model(function: str) -> type[Strict]:
    """The model of a configuration of a function of one's own, whose file is loaded."""
    return model_of(function_configuration(function), omit=("seed",))


if TYPE_CHECKING:
    ConfigurationModel = Strict
else:
    ConfigurationModel = configuration_model()

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names become folders: nothing in them may lead out of the storage."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Of a trial, as torch takes it."""


class Control(Strict):
    """A configuration trained beside the search, for comparison: not seen by the study, never stopped early."""

    name: str = Field(min_length=1, max_length=80, description="its name in tables")
    set: dict[str, Any] = Field(default_factory=dict, description="leaves that differ from the base configuration")


class StopEarly(Strict):
    """Successive halving: of n trials known at a rung, the best ⌈n / reduction⌉ go on."""

    scheduler: Literal["asha"] = Field("asha", description="the rule")
    grace_epochs: int = Field(1, ge=1, description="the first rung: nothing is stopped before this epoch")
    reduction: int = Field(3, ge=2, description="rungs are at grace × reductionⁿ; one in `reduction` goes on")


class Confirm(Strict):
    """The best configurations, run again at seeds that had no part in choosing them."""

    top: int = Field(3, ge=1, description="how many configurations")
    seeds: tuple[Seed, ...] = Field((1, 2, 3, 4), min_length=1, description="seeds not in search.seeds")


class Race(Strict):
    """How many seeds configurations have: all of them some, and more only while they may be the best."""

    at_least: int = Field(3, ge=2, description="seeds of every configuration: 0, 1, … one less than this")
    at_most: int = Field(12, ge=3, description="seeds of those that may still be the best then")

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
    """What is searched, how, and for what."""

    sampler: Literal["tpe", "random", "grid", "nsga2", "gp"] = Field("tpe", description="Optuna's sampler")
    seed: int = Field(0, ge=0, lt=2**32, description="fixes the sampler")
    trials: int | None = Field(None, ge=1, description="configurations to try; null with sampler: grid: all")
    space: dict[str, Dimension] = Field(min_length=1, description="dotted name of a leaf → its dimension")
    objective: dict[str, Literal["min", "max"]] = Field(
        {"quality/classifier_fd_collapsed": "min"},
        min_length=1,
        description="metric key → min or max; several make the search multi-objective",
    )
    first: tuple[dict[str, Leaf], ...] = Field(
        (), description="points that are tried before the sampler draws any; what one does not name is as in the base"
    )
    learn_from: tuple[str, ...] = Field(
        (),
        description="sweeps of the storage folder whose finished trials the sampler knows from the start; they are no "
        "trials of this sweep",
    )
    constraints: dict[str, str] = Field(default_factory=dict, description='metric key → "<= number" or ">= number"')
    stop_early: StopEarly | None = Field(None, description="null: every trial runs to its end")
    seeds: Seeds = Field(
        (0,),
        description="every configuration runs at each, and the mean counts; or {at_least: 3, at_most: 12}: more seeds "
        "go only to configurations that may be the best",
    )
    confirm: Confirm | None = Field(None, description="null: the best configurations are not run again")
    storage: str | None = Field(
        None,
        description="database for optuna-dashboard: postgresql://… or sqlite:///…; null: study.log in the record",
    )

    @property
    def race(self) -> Race | None:
        """Whether configurations have more seeds the longer they may be the best, and how many."""
        return self.seeds if isinstance(self.seeds, Race) else None

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that every configuration has."""
        return tuple(range(self.seeds.at_least)) if isinstance(self.seeds, Race) else self.seeds

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that a configuration may have."""
        return tuple(range(self.seeds.at_most)) if isinstance(self.seeds, Race) else self.seeds

    @field_validator("storage")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        """A database by its whole path, as that of ``Tracking``."""
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
    """What one trial takes, and how it is kept from being lost."""

    workers: int = Field(1, ge=1, description="processes that train one trial together, each on its share of a batch")
    gpus_per_worker: float = Field(0, ge=0, description="a fraction lets several trials share a GPU")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="where trials compute. auto: on a GPU where gpus_per_worker > 0, and none is an error; cpu: there "
        "although a GPU is reserved; cuda: as auto, and gpus_per_worker must not be 0",
    )
    cpus_per_worker: int = Field(1, ge=1, description="cores, and threads of each process")
    retries: int = Field(2, ge=0, description="how often a trial that died or raised goes on from its saved state")
    checkpoint_seconds: float = Field(30, ge=0, description="training between two saved states: what a crash may cost")
    collective_timeout: float = Field(600, gt=0, description="seconds a worker waits for the others before it gives up")
    price_per_gpu_hour: float | None = Field(
        None, ge=0, description="what an hour of a GPU costs, in any currency: plan then says what a sweep costs"
    )


class Budget(Strict):
    """Caps on the sweep, over all its launches."""

    trials: int | None = Field(None, ge=1, description="configurations of the search")
    hours: float | None = Field(None, gt=0, description="wall time in which trials ran")
    gpu_hours: float | None = Field(None, gt=0, description="sum over trials of time × GPUs")


class Tracking(Strict):
    """Where MLflow's runs go."""

    uri: str | None = Field(None, description="null: sqlite in <storage>/mlflow.db")
    experiment: str | None = Field(None, description="null: the sweep's name")

    @field_validator("uri")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        """A database by its whole path: later commands may be given in another folder."""
        return None if uri is None else absolute(uri)


Event = Literal["end", "failure", "budget"]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of an environment variable: what it holds is never recorded."""


class Webhook(Strict):
    """An address that JSON is posted to."""

    url: str | None = Field(None, description="where, https://…; recorded with the spec")
    url_variable: Variable | None = Field(
        None, description="environment variable with the address, if that is a secret"
    )
    token_variable: Variable | None = Field(None, description="environment variable with a token, sent as Bearer")


class Email(Strict):
    """An SMTP server, and who gets a letter."""

    to: tuple[str, ...] = Field(min_length=1, description="addresses")
    sender: str = Field(description="the address that it is from")
    host: str = Field(min_length=1, description="the SMTP server")
    port: int = Field(587, ge=1, le=65535, description="its port")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="none: without a password only")
    user_variable: Variable | None = Field(None, description="environment variable with the user's name")
    password_variable: Variable | None = Field(None, description="environment variable with the password")


class Notify(Strict):
    """Who is told when a launch ends; one that fails to be told is a warning."""

    at: tuple[Event, ...] = Field(
        ("end", "failure", "budget"),
        description="end: the sweep has finished; failure: no configuration has, or the launch broke off; budget: it "
        "is spent",
    )
    command: tuple[str, ...] | None = Field(
        None, min_length=1, description="program and arguments; it gets JSON on its standard input, and no shell"
    )
    webhook: Webhook | None = Field(None, description="JSON is posted there")
    email: Email | None = Field(None, description="a letter is sent")


class SweepKeys(Strict):
    """What a spec says beside the configuration: a space over its leaves, and how to carry it out."""

    if TYPE_CHECKING:
        plugins: tuple[str, ...]

    name: str = Field(
        pattern=NAME, description="the name of the sweep and its folder: letters, digits, '.', '_' and '-'"
    )
    controls: tuple[Control, ...] = Field((), description="configurations trained beside the search")
    search: Search = Field(description="the space and how it is searched")
    resources: Resources = Field(Resources(), description="what one trial takes")
    budget: Budget = Field(Budget(), description="hard caps")
    tracking: Tracking = Field(Tracking(), description="MLflow")
    notify: Notify = Field(Notify(), description="who is told of the end")
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="leaf, metric key or metric → what tables, figures and reports call it; may change at any time",
    )
    storage: str = Field("./runs", description="folder that all nodes see; ~ is your home")
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        exclude=True,
        description="name → dotted leaves that differ; chosen with --profile, which adds its name to the sweep's",
    )

    @field_validator("storage")
    @classmethod
    def _at_home(cls, storage: str) -> str:
        """A ``~`` is somebody's home, and no folder of that name."""
        return at_home(storage)


class SweepModel(SweepKeys, ConfigurationModel):
    """A sweep, as in its file: a base configuration, a space over its leaves, and how to carry it out."""


@dataclass(frozen=True, repr=False)
class Sweep:
    """A valid spec: ``model`` as read, ``source`` the name of its file.

    ``place`` is the folder that its record is in, where that is not the one of its name: it may have been renamed.
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
        """The whole spec as JSON values, every default filled in."""
        values: dict[str, Any] = self.model.model_dump(mode="json", by_alias=True)
        for dimension in values["search"]["space"].values():
            for name, value in list(dimension.items()):
                if value is None or (name != "default" and value in (False, {})):
                    del dimension[name]
        return values

    @cached_property
    def configuration(self) -> type[Strict]:
        """The model of its trials' configurations, with what its plugins add."""
        if self.function is not None:
            return function_model(self.function)
        return configuration_model(tuple(self.model.plugins))

    @property
    def function(self) -> str | None:
        """The function of one's own that its trials call; None where they train a model."""
        return getattr(self.model, "function", None)

    @property
    def family(self) -> str:
        """What is trained: the family of its base configuration, or the name of its function."""
        return str(self.base["family"]) if self.function is None else self.function.rpartition(":")[2]

    @property
    def plugins(self) -> tuple[str, ...]:
        """The code that its trials need, by its digest."""
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
        """Epochs between two evaluations; each step of a function is one."""
        return int(self.base_leaves.get("evaluate.every", 1))

    @property
    def folder(self) -> Path:
        """Where everything that the sweep writes is."""
        return self.place or Path(self.model.storage) / self.name

    @property
    def configurations(self) -> int:
        """How many configurations the search will try."""
        caps = [cap for cap in (self.search.trials, self.model.budget.trials) if cap is not None]
        if self.search.sampler == "grid":
            caps.append(len(self.grid()))
        return min(caps)

    @property
    def trials(self) -> int:
        """How many trials there will be: searched configurations and controls at every seed, and confirmations.

        In a race it is those that there will be at least.
        """
        confirm = self.search.confirm
        confirmed = min(confirm.top, self.configurations) * len(confirm.seeds) if confirm else 0
        return (self.configurations + len(self.model.controls)) * len(self.search.first_seeds) + confirmed

    def first_points(self) -> list[dict[str, Any]]:
        """The points of ``search.first``, whole, each once."""
        found: list[dict[str, Any]] = []
        for given in self.search.first:
            point = completed(self.search.space, self.base_leaves, given)
            if point not in found:
                found.append(point)
        return found

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
    """The JSON schema of a spec, of those with plugins by the model that these make."""
    return model.model_json_schema(by_alias=True)
