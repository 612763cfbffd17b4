"""What the tests of the core share: one thread, small models that are really nonlinear, a classifier."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import linearizer_core
from linearizer_core.experiment.classifier import cached_classifier
from linearizer_core.experiment.configuration import DataConfig, EvaluateConfig, FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.evaluation import Quality
from linearizer_core.experiment.families.diffusion import build_diffusion
from linearizer_core.flows import Coupling, Invertible
from linearizer_core.metrics.features import Classifier
from linearizer_core.models.diffusion import LinearDiffusion

torch.set_num_threads(1)

OTHER_PROCESS = """
import importlib, json, pkgutil, sys
import linearizer_core
submodules = [module.name for module in pkgutil.walk_packages(linearizer_core.__path__, "linearizer_core.")]
for name in submodules:
    importlib.import_module(name)
loaded = sorted({name.split(".")[0] for name in sys.modules})

from linearizer_core.experiment.configuration import DataConfig, FlowConfig, ModelConfig, TrainConfig, TrialConfig
from linearizer_core.experiment.data import load
from linearizer_core.experiment.classifier import classifier_of
from linearizer_core.metrics.features import checksum
from linearizer_core.experiment.training import Trainer
import torch
data = load(DataConfig())
classifier = checksum(classifier_of(load(DataConfig(images=64))))
torch.set_num_threads(1)
model = ModelConfig(flow=FlowConfig(depth=1, width=8))
trainer = Trainer(TrialConfig(model=model, train=TrainConfig(epochs=1, batch_size=256), seed=5), data)
trainer.train_epoch()
print(json.dumps({
    "submodules": submodules, "loaded": loaded,
    "data": data.checksum, "classifier": classifier, "weights": checksum(trainer.averaged),
}))
"""


def _randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter, a coupling's networks further: their last layers start at zero."""
    generator = torch.Generator().manual_seed(seed)
    inside = {id(p) for m in module.modules() if isinstance(m, Coupling) for p in m.parameters()}
    with torch.no_grad():
        for p in module.parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
            p.add_((0.2 if id(p) in inside else 0.1) * noise)
    return module


@pytest.fixture(scope="session")
def randomise() -> Callable[..., nn.Module]:
    """``randomise(module, seed)`` moves every parameter of a module and returns it."""
    return _randomise


def _check_invertible(g: Invertible, x: Tensor, label: Tensor) -> None:
    y, log_det = g(x, label)
    back, back_log_det = g.inverse(y, label)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-10)
    other = x.reshape(y.shape)
    torch.testing.assert_close(g(g.inverse(other, label)[0], label)[0], other, rtol=0, atol=1e-10)
    for way, start, stated in ((g.forward, x, log_det), (g.inverse, y.detach(), back_log_det)):
        for row, mark, value in zip(start, label, stated, strict=True):
            jacobian = torch.autograd.functional.jacobian(
                lambda v, way=way, mark=mark: way(v[None], mark[None])[0][0], row
            )
            expected = torch.linalg.slogdet(jacobian.reshape(row.numel(), row.numel())).logabsdet
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)


@pytest.fixture(scope="session")
def check_invertible() -> Callable[[Invertible, Tensor, Tensor], None]:
    """``check_invertible(g, x, label)``: round trips both ways, and log-determinants against autograd's Jacobians."""
    return _check_invertible


@pytest.fixture(scope="session")
def curvature() -> Callable[[Invertible, Tensor, Tensor], float]:
    """``curvature(g, u, v)``: how far g - g(0) is from additive at u and v, relative to its size."""

    def measure(g: Invertible, u: Tensor, v: Tensor) -> float:
        origin = g(torch.zeros_like(u))[0]
        together = g(u + v)[0] - origin
        return float(((together - g(u)[0] - g(v)[0] + 2 * origin).norm() / together.norm()).detach())

    return measure


@pytest.fixture(scope="session")
def diffusion() -> Callable[..., LinearDiffusion]:
    """``diffusion(kind, …)`` builds a small diffusion model with all parameters randomised."""

    def build(
        kind: str = "time_lowrank",
        *,
        flow: str = "coupling",
        conditioner: str = "mlp",
        rank: int = 3,
        end: float = 0.9,
        event: tuple[int, int, int] = (1, 4, 4),
        dtype: torch.dtype = torch.float64,
        randomised: bool = True,
    ) -> LinearDiffusion:
        model = ModelConfig(
            flow=FlowConfig(
                kind=flow,  # type: ignore[arg-type]
                frame="pixels",
                mixing="lu",
                conditioner=conditioner,  # type: ignore[arg-type]
                depth=2,
                width=16,
            ),
            noise_flow="same",
            operator=OperatorConfig(kind=kind, rank=rank),  # type: ignore[arg-type]
        )
        built = build_diffusion(model, EvaluateConfig(end=end), event, seed=3).to(dtype)
        return _randomise(built, 4) if randomised else built  # type: ignore[return-value]

    return build


class Sinh(Invertible):
    """g(x) = sinh(x): a nonlinear invertible map with everything about its induced space in closed form."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.sinh(), x.cosh().log().sum(1)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y.asinh(), -(1 + y.square()).sqrt().log().sum(1)


@pytest.fixture
def sinh() -> Invertible:
    """A nonlinear invertible map on flat vectors in closed form."""
    return Sinh()


@pytest.fixture(scope="session")
def digits() -> ImageData:
    """The digits."""
    return load(DataConfig())


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data sets: the environment's LINEARIZER_DATA, or one beside the repository."""
    named = os.environ.get("LINEARIZER_DATA")
    root = Path(named) if named else Path(linearizer_core.__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"not found: {root}")
    return root


@pytest.fixture(scope="session")
def classifier_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the session's classifier is cached."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def classifier(digits: ImageData, classifier_cache: Path) -> Classifier:
    """The digits' classifier, trained once a session."""
    return cached_classifier(digits, classifier_cache)


@pytest.fixture(scope="session")
def quality(digits: ImageData, classifier: Classifier) -> Quality:
    """Both quality metrics on the digits."""
    return Quality(("swd", "classifier_fd"), digits, classifier, torch.device("cpu"))


@pytest.fixture(scope="session")
def other_process() -> dict[str, Any]:
    """What another process finds: the modules that the core loads, and checksums of what it computes."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(linearizer_core.__file__).parents[1]),
        "PYTHONHASHSEED": "17",
    }
    command = [sys.executable, "-c", OTHER_PROCESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
