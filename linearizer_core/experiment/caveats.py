"""What the metrics of a configuration cannot tell on a data set of this size, said before anything is trained."""

from __future__ import annotations

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.metrics import imagenet, inception
from linearizer_core.metrics.features import FEATURES
from linearizer_core.metrics.neighbours import NEIGHBOURS

FEW_NEIGHBOURS = 20 * NEIGHBOURS
"""With fewer images, each changes a share by more than a hundredth, and balls reach across the set."""

ONE_BY_ONE = ("style", "inverse", "regression", "dynamics", "koopman")
"""Families whose metrics compare image by image."""


def caveats(config: TrialConfig, data: ImageData) -> list[str]:
    """One sentence, with numbers, for each metric for which there are too few held-out images; none if there are
    enough.

    What counts is the smaller of the two held-out splits, or the number of samples if that is smaller.
    """
    if config.family in ONE_BY_ONE:
        return []
    held_out = min(len(data.validation), len(data.test))
    count = min(held_out, config.evaluate.samples)
    which = f"{held_out} held-out images" if held_out <= count else f"{count} samples"
    found = []
    distances = {
        "classifier": ("classifier_fd", FEATURES),
        "imagenet": ("imagenet_fd", imagenet.FEATURES),
        "inception": ("inception_fid", inception.FEATURES),
    }
    for network, (metric, features) in distances.items():
        if metric in config.evaluate.quality and count <= features:
            found.append(
                f"{metric}: {which} have a covariance of rank {count - 1} in {features} features, so the distance is "
                f"biased upwards, the more so the fewer there are; compare it only with its floor, real against real, "
                f"or use {network}_kid, which is unbiased"
            )
    balls = [name for name in config.evaluate.quality if name in ("precision", "recall", "density", "coverage")]
    if balls and count < FEW_NEIGHBOURS:
        found.append(
            f"{', '.join(balls)}: {which} with balls up to the {NEIGHBOURS}th neighbour: each image is "
            f"{100 / count:.1f} % of a share, and the balls cover much of the set; use at least {FEW_NEIGHBOURS}"
        )
    few = [
        name for name in config.evaluate.quality if name in ("swd", "classifier_kid", "imagenet_kid", "inception_kid")
    ]
    if few and count < 30:
        found.append(f"{', '.join(few)}: {which} leave a standard error of about {100 * count**-0.5:.0f} %")
    return found
