"""The style family: several styles by one network and an operator per style (arXiv 2510.08570, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.data.stylise import STYLES
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    COUNTED,
    GRID_IMAGES,
    Evaluation,
    Quality,
    capped_psnr,
    in_batches,
    megaflops,
    timed,
)
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.linear import GRID_ROWS, WAY, linearity, linearity_keys, lipschitz
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.metrics.perceptual import distance
from linearizer_core.metrics.similarity import ssim
from linearizer_core.metrics.spectrum import effective_rank
from linearizer_core.models.base import Event
from linearizer_core.models.style import StyleTransfer
from linearizer_core.space import InducedSpace

TRIANGLE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5),
            (1 / 3, 1 / 3, 1 / 3))  # fmt: skip
"""Weights of three styles: corners, midpoints of the sides, centre."""


class Style(Family):
    """Image to image: a shared network with one operator per style, so that styles mix by linear algebra."""

    operators = ("diagonal", "lowrank", "dense", "conv")
    terms = ("transfer", "latent")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> StyleTransfer:
        """The model for images ``event``.

        Raises ``ValueError`` for an operator of another family, and for ``conv`` if latents are not images.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            g = build_flow(config.model.flow, event)
            learned = {style: core("style", config.model, event) for style in STYLES}
        return StyleTransfer(g, learned, event)

    def initialise(
        self, model: StyleTransfer, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        model.initialise(images)

    def losses(self, model: StyleTransfer, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The mean over styles of d(s(x), g⁻¹(A_s g(x))) for a batch ``(batch, *event)``, and of the term ``latent``.

        ``latent`` is ‖g(s(x)) - A_s g(x)‖² / ‖g(x) - g(0)‖², with 0 the grey image: it makes A_s correct for truly
        stylised images, so that f_s⁺ restores them. Without the denominator, smaller latents would reduce it too.

        Each style gets an equal share of the images, drawn for every step, so that every step trains all styles at the
        cost of one pass through g and one back. Raises ``ValueError`` for fewer images than styles.
        """
        styles, workers, weights = model.styles, draws.workers, config.train.loss
        order = draws.permutation(images)
        if len(order) < len(styles):
            raise ValueError(f"a batch needs at least one image for each of {len(styles)} styles, got {len(order)}")
        measure = distance(config.train.distance)
        # Shares are of the whole batch; this worker has some rows of each, or none.
        shares = order.tensor_split(len(styles))
        own = [workers.own(share) for share in shares]
        sizes = [len(rows) for rows in own]
        images = images[torch.cat(own)]
        latents = model.g(images)[0].split(sizes)
        styled = torch.cat([model.operator(style).apply(z) for style, z in zip(styles, latents, strict=True)])
        targets = [STYLES[style](x) if len(x) else x for style, x in zip(styles, images.split(sizes), strict=True)]
        terms: dict[str, Tensor] = {}

        def mean(errors: list[Tensor]) -> Tensor:
            """The mean over styles of this worker's part of the errors."""
            parts = zip(errors, sizes, shares, strict=True)
            found = [error * (size * workers.count / len(share)) for error, size, share in parts if size]
            return torch.stack(found).sum() / len(styles)

        if weights.transfer:
            made = model.g.inverse(styled)[0].split(sizes)
            terms["transfer"] = mean([measure(a, b) if len(a) else a.sum() for a, b in zip(made, targets, strict=True)])
        if weights.latent:
            length = (torch.cat(latents) - model.g(torch.zeros_like(images[:1]))[0]).square().sum(1)
            error = (model.g(torch.cat(targets))[0] - styled).square().sum(1) / length
            terms["latent"] = mean([each.mean() if len(each) else each.sum() for each in error.split(sizes)])
        return terms

    @torch.no_grad()
    def sample(self, model: StyleTransfer, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Images of the validation split, chosen by the generator, cycling through the styles.

        A style needs an image to be applied to. Raises ``DataError`` if the configured data set is missing.
        """
        images = load(config.data).validation
        chosen = torch.randint(len(images), (count,), generator=generator, device=generator.device)
        chosen_images = images[chosen.cpu()].to(model.device)
        made = torch.empty_like(chosen_images)
        for start, style in enumerate(model.styles):
            rows = chosen_images[start :: len(model.styles)]
            if len(rows):
                made[start :: len(model.styles)] = in_batches(model.transfer(style), rows)
        return made

    @torch.no_grad()
    def interim(self, model: StyleTransfer, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        images = data.validation[: config.evaluate.held_out].to(model.device)
        return {"quality/psnr_collapsed": _fidelity(images, _stylised(model, images))["psnr"]}

    @torch.no_grad()
    def evaluate(self, model: StyleTransfer, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        summary: dict[str, float] = {}
        for split, images in _held_out(config, data).items():
            images = images.to(model.device)
            found = _fidelity(images, _stylised(model, images))
            summary |= {f"{split}/{name}_collapsed": value for name, value in found.items()}
            summary[f"{split}/restored_psnr"] = _mean([_restored(model, style, images) for style in model.styles])
        images = _held_out(config, data)["quality"].to(model.device)
        transfer = model.transfer(model.styles[0])
        summary["cost/sample_ms_collapsed"] = timed(model.device, lambda: in_batches(transfer, images))[1]
        summary["cost/sample_mflop_collapsed"] = megaflops(transfer, images[:COUNTED])
        summary["cost/params"] = float(fitted_values(model))
        summary |= linearity(transfer, images, images) | lipschitz({"g": (model.g, images)})
        summary["linearity/inverse_psnr"] = _mean([_undone(model, style, images) for style in model.styles])
        singular = {style: model.operator(style).singular_values() for style in model.styles}
        summary["spectrum/effective_rank"] = _mean([effective_rank(values) for values in singular.values()])
        summary["spectrum/condition"] = _mean([float(values[0] / values[-1]) for values in singular.values()])
        spectra = {style: values.cpu() for style, values in singular.items()}
        return Evaluation(summary, grids=_pictures(model, images), spectra=spectra)

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        """The row that a style must improve on: the unchanged images."""
        splits = _held_out(config, data)
        summary = {
            f"{split}/{name}_collapsed": value
            for split, images in splits.items()
            for name, value in _fidelity(images, _unchanged(images)).items()
        }
        for split, images in splits.items():
            unrestored = [capped_psnr(function(images), images) for function in STYLES.values()]
            summary[f"{split}/restored_psnr"] = _mean(unrestored)
        return {"images unchanged": Evaluation(summary, grids={"samples": splits["quality"][:GRID_IMAGES]})}

    def metrics(self, config: TrialConfig) -> tuple[str, ...]:
        return ()  # held-out images are real, so stylised ones cannot be scored against them

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return ["quality/psnr_collapsed"]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        names = [f"psnr_{style}" for style in STYLES] + ["psnr", "ssim"]
        keys = [f"{split}/{name}_collapsed" for split in ("quality", "test") for name in names]
        keys += ["quality/restored_psnr", "test/restored_psnr"]
        keys += ["cost/sample_ms_collapsed", "cost/sample_mflop_collapsed", "cost/params"]
        keys += [*linearity_keys(), "linearity/inverse_psnr"]
        keys += ["linearity/lipschitz_g", "linearity/lipschitz_g_inverse"]
        return [*keys, "spectrum/effective_rank", "spectrum/condition"]


def _held_out(config: TrialConfig, data: ImageData) -> dict[str, Tensor]:
    """The held-out images used for measurements, by split."""
    count = config.evaluate.held_out
    return {"quality": data.validation[:count], "test": data.test[:count]}


def _stylised(model: StyleTransfer, images: Tensor) -> Callable[[str], Tensor]:
    """A function from a style to the model's images in it; images are encoded once for all styles."""
    space = InducedSpace(model.g)
    latents = in_batches(space.encode, images)

    def made(style: str) -> Tensor:
        operator = model.operator(style)
        return _shown(in_batches(lambda z: space.decode(operator.apply(z)), latents))

    return made


def _unchanged(images: Tensor) -> Callable[[str], Tensor]:
    """The unchanged images in place of each style."""
    return lambda _style: images


def _fidelity(images: Tensor, made: Callable[[str], Tensor]) -> dict[str, float]:
    """``psnr_<style>`` between the images ``made`` in each style and their targets, and the mean PSNR and SSIM."""
    each, alike = {}, []
    for style, function in STYLES.items():
        image, target = made(style), function(images)
        each[f"psnr_{style}"] = capped_psnr(image, target)
        alike.append(float(ssim(image, target).mean()))
    return each | {"psnr": _mean(list(each.values())), "ssim": _mean(alike)}


def _shown(images: Tensor) -> Tensor:
    """The images as a file would hold them, but NaN where they are not finite, which clamping would hide."""
    return images.masked_fill(~images.isfinite(), math.nan).clamp(-1, 1)


def _undone(model: StyleTransfer, style: str, images: Tensor) -> float:
    """PSNR between f⁺(f(x)) and x: whether a style applied by the model can be removed."""
    transfer = model.transfer(style)
    return capped_psnr(in_batches(transfer.pinv(), in_batches(transfer, images)), images)


def _restored(model: StyleTransfer, style: str, images: Tensor) -> float:
    """PSNR between f⁺(s(x)) and x for truly stylised images: whether a style applied by others can be removed."""
    return capped_psnr(_shown(in_batches(model.transfer(style).pinv(), STYLES[style](images))), images)


def _pictures(model: StyleTransfer, images: Tensor) -> dict[str, Tensor]:
    """Rows of eight images: styles above their targets, transitions between styles, and mixes of three styles."""
    styles = model.styles
    rows = images[:GRID_ROWS]
    made = torch.stack([rows] + [model(rows, style) for style in styles], 1)
    targets = torch.stack([rows] + [STYLES[style](rows) for style in styles], 1)
    pairs = zip(styles, styles[1:] + styles[:1], strict=True)
    ways = [
        torch.cat([model.mix({first: 1 - weight, then: weight})(image) for weight in WAY])
        for image, (first, then) in zip(images[: len(styles)].split(1), pairs, strict=False)
    ]
    mixed = [model.mix(dict(zip(styles, weights, strict=False)))(rows) for weights in TRIANGLE]
    return {
        "styles": torch.stack([made, targets], 1)[: GRID_ROWS // 2].flatten(0, 2).cpu(),
        "interpolation": torch.cat(ways).cpu(),
        "mixes": torch.stack([rows, *mixed], 1).flatten(0, 1).cpu(),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
