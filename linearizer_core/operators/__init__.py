"""Linear and affine maps, the cores of Linearizers."""

from linearizer_core.operators.affine import AffineOperator
from linearizer_core.operators.base import SVD, DenseOperator, Eigen, LinearOperator
from linearizer_core.operators.build import (
    affine,
    convolution,
    dense,
    diagonal,
    identity_plus_low_rank,
    low_rank,
    projection,
    selection,
)
from linearizer_core.operators.convolutional import ConvolutionalOperator
from linearizer_core.operators.correlation import LearnedCorrelation
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.factored import (
    Factors,
    LowRankOperator,
    OrthogonalProjection,
    ScaledIdentityPlusLowRank,
)
from linearizer_core.operators.gaussians import AffineGaussians
from linearizer_core.operators.learned import (
    LearnedAffine,
    LearnedDense,
    LearnedDiagonal,
    LearnedIdentityPlusLowRank,
    LearnedKernels,
    LearnedLowRank,
)
from linearizer_core.operators.module import FixedOperator, OperatorModule
from linearizer_core.operators.projections import FrameProjection, NestedProjection, SpectrumProjection
from linearizer_core.operators.rank_one import P4, RankOnePerturbed
from linearizer_core.operators.rank_one_orthogonal import OrthogonalP4, ReflectedOrthogonal
from linearizer_core.operators.time_dependent import TimeDense, TimeDiagonal, TimeFactors, TimeLowRank, TimeOperator
from linearizer_core.operators.transitions import LearnedRotation, LearnedTransition, dynamic_modes

__all__ = [
    "P4",
    "SVD",
    "AffineGaussians",
    "AffineOperator",
    "ConvolutionalOperator",
    "DenseOperator",
    "DiagonalOperator",
    "Eigen",
    "Factors",
    "FixedOperator",
    "FrameProjection",
    "LearnedAffine",
    "LearnedCorrelation",
    "LearnedDense",
    "LearnedDiagonal",
    "LearnedIdentityPlusLowRank",
    "LearnedKernels",
    "LearnedLowRank",
    "LearnedRotation",
    "LearnedTransition",
    "LinearOperator",
    "LowRankOperator",
    "NestedProjection",
    "OperatorModule",
    "OrthogonalP4",
    "OrthogonalProjection",
    "RankOnePerturbed",
    "ReflectedOrthogonal",
    "ScaledIdentityPlusLowRank",
    "SpectrumProjection",
    "TimeDense",
    "TimeDiagonal",
    "TimeFactors",
    "TimeLowRank",
    "TimeOperator",
    "affine",
    "convolution",
    "dense",
    "diagonal",
    "dynamic_modes",
    "identity_plus_low_rank",
    "low_rank",
    "projection",
    "selection",
]
