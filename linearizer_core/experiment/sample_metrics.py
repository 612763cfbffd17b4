"""Measures of generated images, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from linearizer_core.experiment.configuration import EvaluateConfig
from linearizer_core.experiment.directions import Direction, direction_of
from linearizer_core.metrics import quality
from linearizer_core.metrics.neighbours import neighbourhood
from linearizer_core.plugins.errors import PluginError, told
from linearizer_core.plugins.marks import Names, Registration, metric, table

Of = Literal["images", "classifier", "imagenet", "inception"]


@metric()
def swd(samples: Tensor, real: Tensor) -> float:
    """Sliced Wasserstein distance between pixels."""
    return quality.sliced_wasserstein(samples, real)


@metric("classifier_fd", better="min", of="classifier")
@metric("imagenet_fd", better="min", of="imagenet")
@metric("inception_fid", better="min", of="inception")
def frechet(samples: Tensor, real: Tensor) -> float:
    """Fréchet distance between features."""
    return quality.frechet_distance(samples, real)


@metric("classifier_kid", better="min", of="classifier")
@metric("imagenet_kid", better="min", of="imagenet")
@metric("inception_kid", better="min", of="inception")
def kernel(samples: Tensor, real: Tensor) -> float:
    """Kernel distance between features."""
    return quality.kernel_distance(samples, real)


@metric(better="max", of="classifier", names=("precision", "recall", "density", "coverage"))
def neighbours(samples: Tensor, real: Tensor, real_radii: Callable[[], Tensor] | None = None) -> dict[str, float]:
    """Precision, recall, density and coverage from the same neighbours; ``real_radii`` gives those of ``real``."""
    near = neighbourhood(real, samples, real_radii=real_radii() if real_radii else None)
    return {"precision": near.precision, "recall": near.recall, "density": near.density, "coverage": near.coverage}


BUILT_IN: Names = table(swd, frechet, kernel, neighbours)
"""The built-in metrics."""

CLASSIFIER_METRICS = tuple(name for name, each in BUILT_IN.items() if each.options["of"] == "classifier")
INCEPTION_METRICS = tuple(name for name, each in BUILT_IN.items() if each.options["of"] == "inception")


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric as configured: its registration and its settings. Equal instances measure the same."""

    registration: Registration
    settings: Any = None

    @property
    def name(self) -> str:
        return self.registration.name

    @property
    def of(self) -> Of:
        """What the metric compares."""
        return self.registration.options["of"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Measure) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.name, self.registration.make, self.settings

    def __call__(
        self, samples: Tensor, real: Tensor, real_radii: Callable[[], Tensor] | None = None
    ) -> dict[str, float]:
        """Values by name, for this metric and those computed with it.

        ``real_radii`` gives the built-in metrics ``neighbour_radii(real)``; the caller, which keeps ``real``, computes
        them once.

        Raises ``PluginError`` if a plugin does not return a number.
        """
        registered = self.registration
        with told(frozenset({registered.file})):
            found = registered.call(samples=samples, real=real, real_radii=real_radii, settings=self.settings)
        values = found if isinstance(found, Mapping) else {self.name: found}
        return {name: self._number(name, value) for name, value in values.items()}

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if self.name not in BUILT_IN and not math.isfinite(number):
            raise PluginError(
                f"{self.registration.where}: metric {name} must return a finite number for finite images, got "
                f"{value if isinstance(value, int | float) else type(value).__name__}"
            )
        return number


def registered(evaluate: EvaluateConfig) -> Names:
    """All metrics that a configuration can name."""
    return {**BUILT_IN, **evaluate.plugged.get("metric", {})}


def measures(names: Collection[str], evaluate: EvaluateConfig) -> tuple[Measure, ...]:
    """Metrics by name, with their settings in a configuration."""
    known = registered(evaluate)
    return tuple(
        Measure(known[name], getattr(evaluate, name) if known[name].settings is not None else None) for name in names
    )


def of_features(evaluate: EvaluateConfig, which: Of) -> list[str]:
    """The configured metrics that compare a given kind of features."""
    known = registered(evaluate)
    return [name for name in evaluate.quality if name in known and known[name].options["of"] == which]


def better(evaluate: EvaluateConfig, metric: str) -> Direction:
    """The better direction of a configured metric, by its name."""
    way: Direction = registered(evaluate)[metric].options["better"]
    return way


def direction_in(evaluate: EvaluateConfig, key: str) -> Direction | None:
    """The better direction of a key, like ``direction_of``, but for a plugin's metric as the plugin declares it."""
    for name in evaluate.plugged.get("metric", {}):
        if key.startswith(("quality/", "test/")) and key.partition("/")[2].startswith(f"{name}_"):
            return better(evaluate, name)
    return direction_of(key)
