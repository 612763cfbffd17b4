"""Measures shared by all families of Linearizers: linearity, Lipschitz constants, spectrum."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from linearizer_core.flows import Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.linearity import (
    additivity,
    additivity_induced,
    homogeneity,
    homogeneity_induced,
    penrose,
    roundtrip,
)
from linearizer_core.metrics.lipschitz import local_lipschitz, storing
from linearizer_core.metrics.spectrum import effective_rank, energy_rank, numerical_rank, stable_rank
from linearizer_core.operators.affine import Operator
from linearizer_core.space import InducedSpace

LIPSCHITZ_IMAGES = 32
"""Number of points at which local constants are computed; each takes about thirty forward and backward passes."""

PENROSE_IMAGES = 256

GRID_ROWS = 8
WAY = torch.linspace(0, 1, 8).tolist()
"""Weights of the second end along a row of a grid that leads from one image, or style, to another."""

SPECTRUM_KEYS = [f"spectrum/{name}" for name in (
    "effective_rank", "energy_rank", "stable_rank", "numerical_rank", "largest", "condition",
)]  # fmt: skip


@torch.no_grad()
def linearity(f: Linearizer, inputs: Tensor, images: Tensor) -> dict[str, float]:
    """Residuals of the properties that f should have, on inputs and images of its codomain, ``(batch, *event)``."""
    half = len(inputs) // 2
    inverse = f.pinv()
    rest = penrose(f, inverse, inputs[:PENROSE_IMAGES], images[:PENROSE_IMAGES])
    return {
        "linearity/additivity": additivity(f, inputs[:half], inputs[half : 2 * half]),
        "linearity/additivity_induced": additivity_induced(f, inputs[:half], inputs[half : 2 * half]),
        "linearity/homogeneity": homogeneity(f, inputs),
        "linearity/homogeneity_induced": homogeneity_induced(f, inputs),
        "linearity/roundtrip": roundtrip(f.g_y, images),
        "linearity/roundtrip_input": roundtrip(f.g_x, inputs),
        "linearity/penrose_1": rest.first,
        "linearity/penrose_2": rest.second,
        "linearity/penrose_3": rest.third,
        "linearity/penrose_4": rest.fourth,
    }


def linearity_keys() -> list[str]:
    """The keys of ``linearity``."""
    names = ["additivity", "additivity_induced", "homogeneity", "homogeneity_induced", "roundtrip", "roundtrip_input"]
    return [f"linearity/{name}" for name in names + [f"penrose_{i}" for i in range(1, 5)]]


def lipschitz(networks: Mapping[str, tuple[Invertible, Tensor]]) -> dict[str, float]:
    """The largest local Lipschitz constants found of each g and of its inverse, at a few inputs of g."""
    found: dict[str, float] = {}
    for name, (g, x) in networks.items():
        points = x[:LIPSCHITZ_IMAGES]
        with storing(g):
            space = InducedSpace(g)
            forward = local_lipschitz(space.encode, points)
            with torch.no_grad():
                latents = space.encode(points)
            inverse = local_lipschitz(space.decode, latents)
        found |= {
            f"linearity/lipschitz_{name}": float(forward.max()),
            f"linearity/lipschitz_{name}_inverse": float(inverse.max()),
        }
    return found


def spectrum(operator: Operator) -> dict[str, float]:
    """Numbers that describe the singular values of an operator."""
    singular = operator.singular_values()
    return {
        "spectrum/effective_rank": effective_rank(singular),
        "spectrum/energy_rank": float(energy_rank(singular)),
        "spectrum/stable_rank": stable_rank(singular),
        "spectrum/numerical_rank": float(numerical_rank(singular)),
        "spectrum/largest": float(singular[0]),
        "spectrum/condition": operator.condition(),
    }
