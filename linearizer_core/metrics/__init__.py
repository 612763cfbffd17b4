"""Sample quality, linearity and spectra."""

from linearizer_core.metrics.gaussianity import gaussianity
from linearizer_core.metrics.harmonics import harmonics
from linearizer_core.metrics.linearity import additivity, homogeneity, idempotency, penrose, relative_error, roundtrip
from linearizer_core.metrics.lipschitz import local_lipschitz
from linearizer_core.metrics.neighbours import neighbour_radii, neighbourhood
from linearizer_core.metrics.perceptual import gradient_ssim
from linearizer_core.metrics.pullback import pullback_metric
from linearizer_core.metrics.quality import frechet_distance, kernel_distance, psnr, sliced_wasserstein
from linearizer_core.metrics.similarity import ssim
from linearizer_core.metrics.spectrum import effective_rank, energy_rank, numerical_rank, stable_rank
from linearizer_core.metrics.uncertainty import bootstrap_deviation, extrapolated

__all__ = [
    "additivity",
    "bootstrap_deviation",
    "effective_rank",
    "energy_rank",
    "extrapolated",
    "frechet_distance",
    "gaussianity",
    "gradient_ssim",
    "harmonics",
    "homogeneity",
    "idempotency",
    "kernel_distance",
    "local_lipschitz",
    "neighbour_radii",
    "neighbourhood",
    "numerical_rank",
    "penrose",
    "psnr",
    "pullback_metric",
    "relative_error",
    "roundtrip",
    "sliced_wasserstein",
    "ssim",
    "stable_rank",
]
