"""The models that the families train, without the training loop."""

from linearizer_core.models.affine_diffusion import AffineDiffusion, AffineOperators
from linearizer_core.models.base import Model
from linearizer_core.models.diffusion import Inversion, LinearDiffusion
from linearizer_core.models.dynamics import Dynamics, KoopmanAutoencoder
from linearizer_core.models.flow_matching import FlowMatching
from linearizer_core.models.idempotent import IdempotentLinearizer
from linearizer_core.models.inverse import InverseProblem, Measurement
from linearizer_core.models.mean_flow import MeanFlow
from linearizer_core.models.motion import Motion
from linearizer_core.models.nested import NestedIdempotent
from linearizer_core.models.regression import Regression
from linearizer_core.models.style import StyleTransfer
from linearizer_core.models.transport import Transport
from linearizer_core.models.velocity_networks import velocity_network

__all__ = [
    "AffineDiffusion",
    "AffineOperators",
    "Dynamics",
    "FlowMatching",
    "IdempotentLinearizer",
    "InverseProblem",
    "Inversion",
    "KoopmanAutoencoder",
    "LinearDiffusion",
    "MeanFlow",
    "Measurement",
    "Model",
    "Motion",
    "NestedIdempotent",
    "Regression",
    "StyleTransfer",
    "Transport",
    "velocity_network",
]
