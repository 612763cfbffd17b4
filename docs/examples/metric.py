"""A metric: the sharpness of images."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import avg_pool2d

from linearizer_core import plugins


@dataclass(frozen=True)
class Blur:
    radius: int = plugins.setting(1, "pixels on each side that are averaged", ge=1, le=4)


@plugins.metric(better="max")
def sharpness(samples: Tensor, real: Tensor, settings: Blur) -> float:
    """The energy that a blur removes from the samples, relative to what it removes from real images."""

    def lost(images: Tensor) -> Tensor:
        blurred = avg_pool2d(images, 2 * settings.radius + 1, 1, settings.radius)
        return (images - blurred).square().mean()

    return float(lost(samples) / lost(real))
