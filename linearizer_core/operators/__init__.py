"""Linear maps A, the cores of Linearizers."""

from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.low_rank import Factors, ScaledIdentityPlusLowRank
from linearizer_core.operators.time_dependent import TimeDense, TimeLowRank, TimeOperator

__all__ = [
    "DenseOperator",
    "Factors",
    "LinearOperator",
    "ScaledIdentityPlusLowRank",
    "TimeDense",
    "TimeLowRank",
    "TimeOperator",
]
