"""Named recipes: values that a configuration takes where it does not set them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linearizer_core.config import TrialConfig, to_mapping


def _like(names: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of nested values, those under the names that another mapping has."""
    return {
        name: _like(inner, values[name]) if isinstance(inner, Mapping) else values[name]
        for name, inner in names.items()
    }


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
            "operator": {"kind": "time_factors", "rank": 8},
        },
        "train": {
            "batch_size": 256,
            "lr": 1.0e-4,
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
        "evaluate": {"temperature": 1.0},
    },
    ("flow_matching", "default"): {},
    ("idempotent", "default"): {"model": {"operator": {"kind": "projection"}}, "evaluate": {"temperature": 1.0}},
    # Noise on the images would be stylised into the targets.
    ("style", "default"): {"model": {"operator": {"kind": "diagonal"}}, "train": {"dequantise": 0.0}},
}


RECIPES["diffusion", "default"] = _like(RECIPES["diffusion", "paper"], to_mapping(TrialConfig()))


def recipe(family: str, name: str) -> dict[str, Any]:
    """The nested values of a family's recipe; raises ``ValueError`` where the family has none of that name."""
    try:
        return RECIPES[family, name]
    except KeyError:
        known = ", ".join(sorted(other for each, other in RECIPES if each == family))
        raise ValueError(f"{family} has no recipe {name!r}; it has {known}") from None


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of a configuration over those of the recipe that they name; values win.

    Values that name no known recipe are returned as they are: validation says what is wrong with them.
    """
    family, name = values.get("family", "diffusion"), values.get("recipe", "default")
    if not isinstance(family, str) or not isinstance(name, str) or (family, name) not in RECIPES:
        return dict(values)
    return _over(RECIPES[family, name], values)


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _over(below, value)
        merged[name] = value
    return merged
