"""A family: idempotent projectors trained on noisy images, which therefore remove noise."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linearizer_core import plugins
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality, capped_psnr
from linearizer_core.experiment.families import Idempotent


@dataclass(frozen=True)
class Noise:
    sigma: float = plugins.setting(0.3, "standard deviation of the noise on images in [-1, 1]", gt=0, le=2)


@plugins.family("denoiser")
class Denoiser(Idempotent):
    """f(x + σε) = x with f a projector; everything else is inherited from the idempotent family."""

    def __init__(self, settings: Noise) -> None:
        self.sigma = settings.sigma

    def losses(self, model: Any, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        terms = super().losses(model, images, config, draws)
        noisy = images + self.sigma * draws.normal(images)
        terms["denoising"] = (model(noisy) - images).square().mean()
        return terms

    @torch.no_grad()
    def evaluate(self, model: Any, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        found = super().evaluate(model, config, data, quality)
        noise = torch.randn(data.validation.shape, generator=torch.Generator().manual_seed(0))
        cleaned = model((data.validation + self.sigma * noise).to(model.device))
        found.summary["quality/denoised_psnr"] = capped_psnr(cleaned.cpu(), data.validation)
        return found

    def summary_keys(self, config: TrialConfig) -> list[str]:
        return [*super().summary_keys(config), "quality/denoised_psnr"]
