"""Named recipes: default values for whatever a configuration does not set itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import ADDED, TrialConfig, to_mapping
from linearizer_core.experiment.nested import with_leaves


def _like(names: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values at the names that another mapping has."""
    return {
        name: _like(inner, values[name]) if isinstance(inner, Mapping) else values[name]
        for name, inner in names.items()
    }


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _over(below, value)
        merged[name] = value
    return merged


RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    # arXiv 2510.08570, section 4.1 and its public code's MNIST configuration.
    ("diffusion", "paper"): {
        "model": {
            "flow": {
                "frame": "pixels",
                "depth": 4,
                "coupling": "affine",
                "mixing": "lu",
                "conditioner": "unet",
                "width": 16,
                "activation": "silu",
                "attention": False,
                "levels": 1,
            },
            "noise_flow": "shared",
            "operator": {"kind": "time_factors", "rank": 8, "spread": "scale", "shared": "none"},
            "operators": {"by": "one"},
        },
        "train": {
            "batch_size": 256,
            "lr": 1.0e-4,
            "detach": False,
            "sigma": 0.3,
            "dequantise": 0.0,
            "time": "uniform",
            "loss": {
                "flow": 1.0,
                "noise": 1.0,
                "data": 1.0,
                "endpoint": 1.0,
                "likelihood": 0.0,
                "whitening": 0.0,
            },
        },
        "evaluate": {"temperature": 1.0, "temperatures": []},
    },
    ("idempotent", "default"): {"model": {"operator": {"kind": "projection"}}, "evaluate": {"temperature": 1.0}},
    ("inverse", "default"): {
        "model": {"operator": {"kind": "correlation", "rank": 0}},
        "train": {"loss": {"restoration": 10.0}},
    },
    # Noise would be part of what moves. Along the principal axes of all frames, a motion that repeats is orthogonal.
    ("dynamics", "default"): {
        "model": {
            "flow": {"frame": "principal", "mixing": "permutation", "coordinates": 256},
            "operator": {"kind": "rotation", "rank": 0},
        },
        "train": {
            "dequantise": 0.0,
            "loss": {"reconstruction": 1.0, "prediction": 1.0, "backward": 1.0, "latent": 0.1},
        },
        "evaluate": {"steps": [1, 2, 4, 8, 12, 20, 28, 44]},
    },
    # Noise on the images would be stylised into the targets.
    ("style", "default"): {"model": {"operator": {"kind": "diagonal"}}, "train": {"dequantise": 0.0}},
}
RECIPES["diffusion", "learned"] = _like(RECIPES["diffusion", "paper"], to_mapping(TrialConfig()))
RECIPES["diffusion", "default"] = _over(
    RECIPES["diffusion", "learned"],
    {
        "model": {"operator": {"kind": "affine", "rank": 16}, "operators": {"by": "label"}},
        "train": {"lr": 3.0e-3},
        "evaluate": {"temperature": 1.0, "temperatures": [0.8, 0.9, 1.1, 1.25, 1.4]},
    },
)

LARGER = {
    "model": {"flow": {"frame": "principal", "mixing": "permutation", "depth": 8, "width": 256, "coordinates": 256}},
    "train": {"batch_size": 256, "lr": 1.0e-3, "dequantise": 0.05},
}
"""Values of diffusion's recipes, except the paper's, for images larger than digits."""

LARGER_OPERATOR: dict[str, dict[str, Any]] = {
    "default": {"model": {"operator": {"spread": "diagonal"}}},
    "learned": {"model": {"operator": {"kind": "time_diagonal", "rank": 128}, "flow": {"coordinates": 128}}},
}
"""Further values of the recipe with each name."""

UNLABELLED = ("celeba", "folder", "npz")
"""Data sets that may have no labels: their operators belong to clusters."""

SHRUNK = {"celeba": 32, "folder": 32}
"""Sides in pixels of data sets whose own size would make a dim×dim matrix too large."""

BASELINES: dict[str, dict[str, Any]] = {
    "flow_matching": {"train": {"dequantise": 0.0}},
    # More training times in the middle, as published.
    "mean_flow": {"train": {"dequantise": 0.0, "time": "logit_normal"}},
}
"""Values of baselines on top of the Linearizer whose size they take: samples would show the noise that they learned."""
RESTORING: dict[str, Any] = {"train": {"dequantise": 0.0}}
"""Values of ``regression`` on top of the inverse Linearizer."""

for _name in ("default", "learned", "paper"):
    for _family, _values in BASELINES.items():
        RECIPES[_family, _name] = _over(RECIPES["diffusion", _name], _values)
RECIPES["koopman", "default"] = RECIPES["dynamics", "default"]
RECIPES["regression", "default"] = _over(RECIPES["inverse", "default"], RESTORING)


def recipe(family: str, name: str, data: str) -> dict[str, Any]:
    """The nested values of a family's recipe for a data set; raises ``ValueError`` for an unknown name."""
    if (family, name) not in RECIPES:
        known = ", ".join(sorted(other for each, other in RECIPES if each == family))
        raise InputValueError(f"{family} has no recipe {name!r}; use {known}")
    values = RECIPES[family, name]
    if data == "digits" or name == "paper" or family not in ("diffusion", *BASELINES):
        return values
    larger = _over(_over(values, LARGER), LARGER_OPERATOR[name])
    if name == "default" and data in UNLABELLED:
        larger = _over(larger, {"model": {"operators": {"by": "cluster"}}})
    if data in SHRUNK:
        larger = _over(larger, {"data": {"size": SHRUNK[data]}})
    return _over(larger, BASELINES.get(family, {}))


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of a configuration, merged over those of the recipe that they name; the given values win.

    Values that name no known recipe are returned unchanged; validation reports what is wrong with them.
    """
    family, name = values.get("family", "diffusion"), values.get("recipe", "default")
    data = values.get("data")
    data_name = data.get("name", "digits") if isinstance(data, Mapping) else "digits"
    if not isinstance(family, str) or not isinstance(name, str) or (family, name) not in RECIPES:
        return dict(values)
    return _over({"recipe": name, **recipe(family, name, data_name)}, values)


def of_then(values: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values of a record from before affine operators existed, with the settings that it leaves implicit.

    Values that include them are returned unchanged, apart from keys added later still, such as plugins.
    """
    if "function" in values:
        return dict(values)
    values = {"plugins": [], "callbacks": [], **values}
    operator = values.get("model", {}).get("operator", {})
    if "spread" in operator:
        return values
    added = with_leaves({}, ADDED)
    if values.get("family", "diffusion") in ("diffusion", "flow_matching") and values.get("recipe") == "default":
        added["recipe"] = "learned"
    return _over(values, added)


def brought(base: Mapping[str, Any], family: Any, name: Any) -> dict[str, Any]:
    """The nested values that come with a family and a recipe other than those of a whole configuration.

    A baseline of a diffusion model keeps the values of that model, whose size it takes.
    """
    if (base["family"], base["recipe"]) == ("diffusion", name) and family in tuple(BASELINES):  # it may be a list
        return {"family": family, **BASELINES[family]}
    if (base["family"], family) == ("inverse", "regression"):
        return {"family": family, **RESTORING}
    if (base["family"], family) == ("dynamics", "koopman"):
        return {"family": family}
    return expand({"family": family, "recipe": name, "data": {"name": base["data"]["name"]}})
