"""A data set: vertical and horizontal stripes."""

from dataclasses import dataclass

import numpy as np

from linearizer_core import plugins


@dataclass(frozen=True)
class Stripes:
    period: int = plugins.setting(4, "pixels from one stripe to the next", ge=2, le=8)
    count: int = plugins.setting(1000, "images", ge=100)


@plugins.data_set()
def stripes(settings: Stripes) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 8, 8) as bytes, and a label for each direction of the stripes."""
    draw = np.random.default_rng(0)
    phase = draw.integers(0, settings.period, (settings.count, 1))
    lit = (np.arange(8) + phase) % settings.period < settings.period / 2
    images = np.where(lit[:, :, None], 200, 40) + draw.integers(-30, 31, (settings.count, 8, 8))
    labels = np.arange(settings.count) % 2
    images[labels == 1] = images[labels == 1].transpose(0, 2, 1)
    return images.astype(np.uint8), labels
