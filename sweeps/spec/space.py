"""The search space: dimensions over dotted names, and the points that a sampler draws from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import optuna
from pydantic import Field, model_validator

from sweeps.spec.validation import Problem, Strict

Leaf = bool | int | float | str

MOST_LISTED = 100_000
"""The most values of a dimension, or points of a grid, that are enumerated; beyond that only the bounds are checked."""
LARGEST = 2**53
"""The largest absolute bound of an int: samplers count in floating point, which is exact up to here."""


class Dimension(Strict):
    """One searched leaf: exactly one of ``int``, ``float``, ``choice`` and ``grid``."""

    int_: tuple[int, int] | None = Field(None, alias="int", description="lowest and highest integer, both included")
    float_: tuple[float, float] | None = Field(None, alias="float", description="lowest and highest number")
    choice: tuple[Leaf, ...] | None = Field(None, min_length=1, description="unordered values")
    grid: tuple[Leaf, ...] | None = Field(None, min_length=1, description="values; sampler: grid visits each of them")
    log: bool = Field(False, description="sample uniformly in the logarithm")
    step: float | None = Field(None, gt=0, description="distance between neighbouring values")
    when: dict[str, Leaf | tuple[Leaf, ...]] = Field(
        default_factory=dict, description="search it only where these keys have these values (or one of a list)"
    )
    default: Leaf | None = Field(
        None,
        description="for an axis added to a recorded sweep: the value in its earlier trials; null: what they recorded",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Dimension:
        for name, wanted in self.when.items():
            if wanted == ():
                raise ValueError(f"when: {name} lists no value; list at least one, or drop it")
        kinds = [name for name, value in self._kinds().items() if value is not None]
        if len(kinds) != 1:
            raise ValueError(
                "give exactly one of int: [low, high], float: [low, high], choice: [...], grid: [...]"
                + (f"; got {' and '.join(kinds)}" if kinds else "")
            )
        bounds = self.int_ or self.float_
        if bounds is None:
            if self.log or self.step is not None:
                raise ValueError(f"log and step go with int and float, not with {kinds[0]}")
            return self
        low, high = bounds
        if self.int_ and max(-low, high) > LARGEST:
            raise ValueError(f"bounds of an int must lie within ±2^53, got [{low}, {high}]")
        if not low < high:
            raise ValueError(f"the lower bound must be below the upper one, got [{low}, {high}]")
        if self.log and low <= 0:
            raise ValueError(f"log needs a lower bound above 0, got {low}")
        if self.log and self.step is not None:
            raise ValueError("log and step cannot be combined; drop one")
        if self.int_ and self.step is not None and self.step != int(self.step):
            raise ValueError(f"step of an int must be a whole number, got {self.step}")
        return self

    def _kinds(self) -> dict[str, Any]:
        return {"int": self.int_, "float": self.float_, "choice": self.choice, "grid": self.grid}

    def edges(self) -> tuple[Leaf, ...]:
        """The values that decide whether the whole dimension is valid: its bounds, or all values that it lists."""
        bounds = self.int_ or self.float_
        if bounds is None:
            return self.values() or ()
        count = self.count()
        return bounds if count is None else (bounds[0], self._value(count - 1))

    def count(self) -> int | None:
        """How many values there are; None for a continuous or logarithmic range."""
        if self.log or (self.float_ and self.step is None):
            return None
        if self.int_:
            return (self.int_[1] - self.int_[0]) // int(self.step or 1) + 1
        if self.float_ and self.step:
            return math.floor((self.float_[1] - self.float_[0]) / self.step + 1e-9) + 1
        return len(self.choice or self.grid or ())

    def values(self, as_sums: bool = False) -> tuple[Leaf, ...] | None:
        """All values, or None for a continuous or logarithmic range and for a very long one.

        With ``as_sums`` values of a stepped range stay as floating point sums them: 0.1 + 2 × 0.1 is not 0.3.
        """
        if self.choice or self.grid:
            return self.choice or self.grid
        count = self.count()
        if count is None or count > MOST_LISTED:
            return None
        return tuple(self._value(place, as_sums) for place in range(count))

    def _value(self, place: int, as_sums: bool = False) -> Leaf:
        """The value at a position of a stepped or integer range."""
        if self.int_:
            return self.int_[0] + place * int(self.step or 1)
        assert self.float_ is not None
        assert self.step is not None
        value = self.float_[0] + place * self.step
        return min(value if as_sums else self._written(value), self.float_[1])

    def holds(self, value: Leaf) -> bool:
        """Whether the search can draw this value."""
        if self.choice or self.grid:
            return value in (self.choice or self.grid or ())
        if isinstance(value, bool | str):
            return False
        low, high = (float(edge) for edge in self.edges())
        if not low <= value <= high or (self.int_ and value != int(value)):
            return False
        places = (value - low) / self.step if self.step else 0.0
        return abs(places - round(places)) < 1e-6

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The Optuna distribution that ``suggest`` draws from."""
        if self.int_:
            low, high = (int(edge) for edge in self.edges())
            return optuna.distributions.IntDistribution(low, high, log=self.log, step=int(self.step or 1))
        if self.float_:
            lowest, highest = (float(edge) for edge in self.edges())
            return optuna.distributions.FloatDistribution(lowest, highest, log=self.log, step=self.step)
        return optuna.distributions.CategoricalDistribution(self.edges())

    def suggest(self, trial: optuna.Trial, name: str, as_sums: bool = False) -> Leaf:
        """A value drawn by the study's sampler; ``as_sums`` as for ``values``."""
        if self.int_:
            low, high = (int(edge) for edge in self.edges())
            return trial.suggest_int(name, low, high, step=int(self.step or 1), log=self.log)
        if self.float_:
            lowest, highest = (float(edge) for edge in self.edges())
            drawn = trial.suggest_float(name, lowest, highest, step=self.step, log=self.log)
            return drawn if as_sums else self._written(drawn)
        value: Leaf = trial.suggest_categorical(name, self.edges())  # type: ignore[assignment]
        return value

    def _written(self, value: float) -> float:
        """A value of a stepped range as one would write it: 0.3, not the sum 0.30000000000000004."""
        if not (self.float_ and self.step):
            return value
        decimals = max(-int(Decimal(repr(x)).as_tuple().exponent) for x in (float(self.float_[0]), float(self.step)))
        return round(value, decimals)

    def describe(self) -> str:
        """A short description of the dimension."""
        bounds = self.int_ or self.float_
        text = f"{bounds[0]:g} … {bounds[1]:g}" if bounds else ", ".join(str(v) for v in self.edges())
        kind = next(name for name, value in self._kinds().items() if value is not None)
        extra = " log" if self.log else f" step {self.step:g}" if self.step else ""
        condition = f" when {_words(self.when)}" if self.when else ""
        return f"{kind} {text}{extra}{condition}"

    def active(self, leaves: Mapping[str, Any]) -> bool:
        """Whether the condition holds for a configuration's leaves."""
        return all(
            leaves.get(name) in (wanted if isinstance(wanted, tuple) else (wanted,))
            for name, wanted in self.when.items()
        )


def _words(condition: Mapping[str, Any]) -> str:
    texts = {name: " or ".join(map(str, v)) if isinstance(v, tuple) else v for name, v in condition.items()}
    return ", ".join(f"{name} = {text}" for name, text in texts.items())


Space = Mapping[str, Dimension]


def ordered(space: Space) -> list[str]:
    """The names, ordered so that each condition comes after the dimension it depends on.

    Raises ``ValueError`` if conditions form a cycle.
    """
    done: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [name for name in waiting if all(other not in waiting for other in space[name].when)]
        if not ready:
            raise ValueError(f"the conditions of {', '.join(waiting)} depend on each other in a cycle; drop one")
        done += ready
        waiting = [name for name in waiting if name not in ready]
    return done


def suggest(space: Space, trial: optuna.Trial, base: Mapping[str, Leaf], as_sums: bool = False) -> dict[str, Leaf]:
    """One point of the space: a value for each dimension whose condition holds. ``base`` holds all other leaves."""
    point: dict[str, Leaf] = {}
    for name in ordered(space):
        if space[name].active({**base, **point}):
            point[name] = space[name].suggest(trial, name, as_sums)
    return {name: point[name] for name in space if name in point}


def point_of(space: Space, leaves: Mapping[str, Any]) -> dict[str, Leaf] | None:
    """The point of a space with these leaves, or None if one of its values is outside the space.

    >>> space = {"train.lr": Dimension(choice=(0.1, 0.2)), "model.flow.kernel": Dimension(choice=(3, 5), when={"a": 1})}
    >>> point_of(space, {"train.lr": 0.2, "model.flow.kernel": 7, "a": 0})
    {'train.lr': 0.2}
    >>> point_of(space, {"train.lr": 0.3, "model.flow.kernel": 3, "a": 1})
    """
    point = {name: leaves[name] for name, dimension in space.items() if dimension.active(leaves)}
    return point if all(space[name].holds(value) for name, value in point.items()) else None


def completed(space: Space, base: Mapping[str, Leaf], given: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """The whole point that partial values describe: leaves not given are as in the base."""
    point: dict[str, Leaf] = {}
    for name in ordered(space):
        if space[name].active({**base, **point}):
            point[name] = given.get(name, base[name])
    return {name: point[name] for name in space if name in point}


def enumerate_points(space: Space, base: Mapping[str, Leaf], as_sums: bool = False) -> Iterator[dict[str, Leaf]]:
    """Every point of a space that can be enumerated, without duplicates, in the order of the file.

    Raises ``ValueError`` if there are too many.
    """
    if math.prod(dimension.count() or 1 for dimension in space.values()) > MOST_LISTED:
        raise ValueError(f"the grid has more than {MOST_LISTED} points")
    seen = set()
    for combination in itertools.product(*(dimension.values(as_sums) or () for dimension in space.values())):
        values = dict(zip(space, combination, strict=True))
        point: dict[str, Leaf] = {}
        for name in ordered(space):
            if space[name].active({**base, **point}):
                point[name] = values[name]
        key = tuple(sorted(point.items()))
        if key not in seen:
            seen.add(key)
            yield {name: point[name] for name in space if name in point}


def space_problems(space: Space, sampler: str) -> list[Problem]:
    """The problems between dimensions, or between them and the sampler."""
    found = []
    for name, dimension in space.items():
        key = f"search.space.{name}"
        if sampler == "grid" and dimension.count() is None:
            found.append(Problem(key, "sampler: grid needs values that can be listed; use grid: [...], or set a step"))
        if sampler != "grid" and dimension.grid is not None:
            found.append(Problem(key, f"grid: needs sampler: grid; with {sampler} use choice: [...]"))
    points = math.prod(dimension.count() or 1 for dimension in space.values())
    if sampler == "grid" and points > MOST_LISTED:
        message = f"the grid has {points} points; the limit is {MOST_LISTED}"
        found.append(Problem("search.space", f"{message}. Use larger steps, fewer values, or another sampler"))
    try:
        ordered(space)
    except ValueError as error:
        found.append(Problem("search.space", str(error)))
    return found
