"""The inverse family: images restored from measurements by the pseudo-inverse of a Linearizer."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.data.degrade import DEGRADATIONS
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    COUNTED,
    Evaluation,
    Quality,
    capped_psnr,
    in_batches,
    megaflops,
    sampling_noise,
    timed,
)
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.linear import (
    GRID_ROWS,
    SPECTRUM_KEYS,
    linearity,
    linearity_keys,
    lipschitz,
    spectrum,
)
from linearizer_core.experiment.families.restoration import (
    fidelity,
    fidelity_keys,
    measurement,
    pairs,
    restoration_references,
    shown,
)
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.metrics.linearity import relative_error
from linearizer_core.metrics.perceptual import distance
from linearizer_core.models.base import Event
from linearizer_core.models.inverse import InverseProblem

DRAWN = 8
"""Number of posterior samples drawn per image to see how they differ."""
CONTROLS = ("random", "swapped")
"""Controls: f⁺ with random directions of A, and f⁺ of another image's measurement."""


class Inverse(Family):
    """Images and their measurements as two spaces with a linear map from one to the other."""

    operators = ("correlation",)
    terms = ("likelihood", "latent", "restoration")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> InverseProblem:
        """The model for images ``event``; raises ``ValueError`` for an operator of another family."""
        measured = DEGRADATIONS[config.data.degraded].shape(event)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            g_x, g_y = build_flow(config.model.flow, event), build_flow(config.model.flow, measured)
            learned = core("inverse", config.model, event, math.prod(measured))
        return InverseProblem(g_x, g_y, learned, event, measurement(config))

    def initialise(
        self, model: InverseProblem, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        model.initialise(images, generator)

    def losses(self, model: InverseProblem, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The loss terms for a batch ``(batch, *event)`` of images, with measurements y whose noise is drawn each time.

        They are -log p(x, y) per dimension of both, ‖g_y(y) - A g_x(x)‖² per dimension of y, and d(x, f⁺(y)).
        """
        weights, measured = config.train.loss, model.measure(images, draws.normal)
        terms: dict[str, Tensor] = {}
        if weights.likelihood:
            dims = images[0].numel() + measured[0].numel()
            terms["likelihood"] = -model.log_likelihood(images, measured).mean() / dims
        if weights.latent:
            error = model.g_y(measured)[0] - model.correlation(model.g_x(images)[0])
            terms["latent"] = error.square().mean()
        if weights.restoration:
            terms["restoration"] = distance(config.train.distance)(model.restore(measured), images)
        return terms

    @torch.no_grad()
    def sample(self, model: InverseProblem, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Samples of p(x | y) for images of the validation split chosen by the generator, ``(count, *event)``.

        Raises ``DataError`` if the configured data set is missing.
        """
        images = load(config.data).validation
        chosen = torch.randint(len(images), (count,), generator=generator, device=generator.device)
        measured = model.measure.drawn(images[chosen.cpu()].to(model.device, model.dtype), generator)
        return in_batches(model.sample, measured, model.noise(count, generator).flatten(1))

    @torch.no_grad()
    def interim(
        self, model: InverseProblem, config: TrialConfig, data: ImageData, quality: Quality
    ) -> dict[str, float]:
        images, measured = (each.to(model.device) for each in pairs(config, data)["quality"])
        return {"quality/psnr_collapsed": capped_psnr(shown(in_batches(model.restore, measured)), images)}

    @torch.no_grad()
    def evaluate(self, model: InverseProblem, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        summary: dict[str, float] = {}
        held_out = {split: tuple(each.to(model.device) for each in both) for split, both in pairs(config, data).items()}
        for split, (images, measured) in held_out.items():
            made, milliseconds = timed(model.device, partial(in_batches, model.restore, measured))
            summary |= fidelity(split, "collapsed", made, images)
            summary |= fidelity(split, "mean", in_batches(model.mean, measured), images)
            noise = model.noise(len(images), sampling_noise(config)).flatten(1)
            summary |= fidelity(split, "posterior", in_batches(model.sample, measured, noise), images)
            # Whether the restored image would give the same measurement as the original: by the real degradation, and
            # by f.
            clean = model.measure(images)
            summary[f"{split}/psnr_remeasured"] = capped_psnr(model.measure(shown(made)), clean)
            summary[f"{split}/psnr_forward"] = capped_psnr(in_batches(model, images), clean)
            summary |= {f"{split}/psnr_{name}": each for name, each in _controls(model, images, measured).items()}
        for name in CONTROLS:
            summary[f"controls/{name}"] = 10 ** ((summary["test/psnr_collapsed"] - summary[f"test/psnr_{name}"]) / 10)
        images, measured = held_out["quality"]
        summary["cost/sample_ms_collapsed"] = milliseconds
        summary["cost/sample_mflop_collapsed"] = megaflops(model.restore, measured[:COUNTED])
        summary["cost/params"] = float(fitted_values(model))
        f = model.linearizer()
        summary |= linearity(f, images, measured) | lipschitz(
            {"g_x": (model.g_x, images), "g_y": (model.g_y, measured)}
        )
        projected = in_batches(model, in_batches(model.back_project, images.flip(0), measured))
        summary["linearity/back_projection"] = relative_error(projected, in_batches(f.range_projection(), measured))
        summary["sampling/spread"] = float(_several(model, measured[: GRID_ROWS * DRAWN], config).std(0).mean())
        summary["spectrum/information"] = float(model.correlation.information())
        summary |= spectrum(f.operator)
        spectra = {"A": f.operator.singular_values().cpu()}
        return Evaluation(summary, grids=_pictures(model, config, images, measured), spectra=spectra)

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        return restoration_references(config, data)

    def metrics(self, config: TrialConfig) -> tuple[str, ...]:
        return ()  # each restored image is compared with its original

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return ["quality/psnr_collapsed"]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        keys = fidelity_keys("collapsed", "mean", "posterior")
        keys += [
            f"{split}/psnr_{name}" for split in ("quality", "test") for name in ("remeasured", "forward", *CONTROLS)
        ]
        keys += [f"controls/{name}" for name in CONTROLS]
        keys += ["cost/sample_ms_collapsed", "cost/sample_mflop_collapsed", "cost/params"]
        keys += [*linearity_keys(), "linearity/back_projection", "sampling/spread"]
        keys += [f"linearity/lipschitz_{g}{end}" for g in ("g_x", "g_y") for end in ("", "_inverse")]
        return [*keys, *SPECTRUM_KEYS, "spectrum/information"]


def _controls(model: InverseProblem, images: Tensor, measured: Tensor) -> dict[str, float]:
    """PSNR of restorations that should be bad, by the name of the control."""
    u, values, v = model.correlation.parts()
    random = torch.randn(v.shape, generator=torch.Generator().manual_seed(0), dtype=v.dtype).to(v.device)
    directions = torch.linalg.qr(random)[0]
    turned = in_batches(lambda y: model.g_x.inverse((model.g_y(y)[0] @ u / values) @ directions.T)[0], measured)
    others = in_batches(model.restore, measured.roll(1, 0))
    return {"random": capped_psnr(shown(turned), images), "swapped": capped_psnr(shown(others), images)}


def _several(model: InverseProblem, measured: Tensor, config: TrialConfig) -> Tensor:
    """Posterior samples for each measured image, ``(DRAWN, batch, *event)``."""
    generator = sampling_noise(config)
    drawn = [model.sample(measured, model.noise(len(measured), generator).flatten(1)) for _ in range(DRAWN)]
    return shown(torch.stack(drawn))


def _pictures(model: InverseProblem, config: TrialConfig, images: Tensor, measured: Tensor) -> dict[str, Tensor]:
    """One row per image: the original, the measurement, f⁺, f*, and posterior samples."""
    images, measured = images[:GRID_ROWS], measured[:GRID_ROWS]
    filled = DEGRADATIONS[config.data.degraded].filled(measured, model.event)
    several = _several(model, measured, config)[: DRAWN - 4]
    columns = [images, filled, model.restore(measured), model.mean(measured), *several]
    return {"restoration": shown(torch.stack(columns, 1)).flatten(0, 1).cpu()}
