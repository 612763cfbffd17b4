"""Training in bfloat16 and compiled: what that changes and leaves alone, and what happens where it cannot be had."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from linearizer_core.experiment import trial
from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.data import load
from linearizer_core.experiment.journal import TrialIdentity
from linearizer_core.experiment.journal import read as events
from linearizer_core.experiment.training import Trainer, fit
from linearizer_core.flows import AffineCoupling
from linearizer_core.flows.conditioners import MLP, Conditioner, ConvNet, in_precision
from linearizer_core.flows.unet import UNet

FEW = DataConfig(images=512)
WHO = TrialIdentity("demo", "t000-s0", "search", None, 0, "0123456789ab", 0)


def config(family: str = "diffusion", flow: dict[str, Any] | None = None, **train: Any) -> TrialConfig:
    kind = {"idempotent": "projection", "style": "lowrank"}.get(family, "time_lowrank")
    return TrialConfig(
        family=family,  # type: ignore[arg-type]
        data=FEW,
        model=ModelConfig(
            flow=FlowConfig(**{"depth": 2, "width": 16, **(flow or {})}),
            operator=OperatorConfig(kind=kind, rank=8),  # type: ignore[arg-type]
        ),
        train=TrainConfig(**{"epochs": 4, "batch_size": 64, "lr": 3e-3, **train}),
        evaluate=EvaluateConfig(steps=(1, 4), samples=64, held_out=64, quality=("swd",), every=4),
    )


@pytest.mark.parametrize("activation", ["gelu", "swiglu", "polynorm", "star", "aptx"])
@pytest.mark.parametrize("kind", ["mlp", "conv", "unet"])
def test_only_the_layers_of_a_network_are_in_the_other_precision(kind: str, activation: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 8, "activation": activation, "labelled": True}
    networks: dict[str, Any] = {
        "mlp": lambda: MLP(4, 6, **options),
        "conv": lambda: ConvNet(4, 6, kernel=3, **options),
        "unet": lambda: UNet(4, 6, attention=True, **options),
    }
    network: Conditioner = networks[kind]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    x = torch.randn(5, 4) if kind == "mlp" else torch.randn(5, 4, 6, 6)
    label = torch.rand(5)
    exact = network(x, label)
    with in_precision([network], torch.bfloat16):
        coarse = network(x, label)
    assert coarse.dtype == exact.dtype == torch.float32
    error = float((coarse - exact).detach().norm() / exact.detach().norm())
    assert 1e-4 < error < 0.1  # bfloat16 has a relative spacing of 2⁻⁸
    assert torch.equal(network(x, label), exact)
    coarse.sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in network.parameters()
    )


def test_a_coupling_is_inverted_and_its_determinant_known_whatever_its_network_computes_in() -> None:
    torch.manual_seed(0)
    coupling = AffineCoupling(6, lambda inputs, outputs: MLP(inputs, outputs, width=16, activation="gelu"))
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    x = torch.randn(32, 6)
    networks = [module for module in coupling.modules() if isinstance(module, Conditioner)]
    with torch.no_grad(), in_precision(networks, torch.bfloat16):
        y, log_det = coupling(x)
        # The networks are given what they were given, bit by bit, for one half alone.
        first = coupling.first(x[:, :3])
        scale = 4 * first[:, :3].sigmoid() - 2
        torch.testing.assert_close(y[:, 3:], first[:, 3:] + x[:, 3:] * scale.exp())
        second = coupling.second(y[:, 3:])
        expected = scale.sum(1) + (4 * second[:, :3].sigmoid() - 2).sum(1)
        torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "flow"),
    [
        ("diffusion", {}),
        ("diffusion", {"conditioner": "unet", "width": 8, "depth": 1}),
        ("flow_matching", {}),
        ("flow_matching", {"conditioner": "conv"}),
        ("idempotent", {"coupling": "spline"}),
        ("style", {"conditioner": "conv"}),
    ],
)
def test_training_in_bfloat16_learns_and_evaluates_in_float32(family: str, flow: dict[str, Any]) -> None:
    coarse, exact = (config(family, flow, precision=precision) for precision in ("bfloat16", "float32"))
    data = load(FEW)
    trainer = Trainer(coarse, data)
    assert trainer.warnings == []
    found = [result.metrics for result in fit(trainer)]
    expected = [result.metrics for result in fit(Trainer(exact, data))]
    assert found != expected
    assert found[-1]["train/loss"] < found[0]["train/loss"]
    for metrics, reference in zip(found, expected, strict=True):
        assert metrics["train/loss"] == pytest.approx(reference["train/loss"], rel=0.05, abs=0.02)
    quality = trial.Quality(("swd",), data, None, "cpu")
    trainer.family.settle(trainer.averaged, data)
    summary = trainer.family.evaluate(trainer.averaged, coarse, data, quality).summary
    allowed = {"linearity/lipschitz_g_y", "linearity/lipschitz_g_y_inverse"}
    assert all(math.isfinite(value) for key, value in summary.items() if key not in allowed)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.averaged.parameters())
    if "linearity/roundtrip" in summary:
        assert summary["linearity/roundtrip"] < 1e-5


def test_recomputation_refuses_bfloat16() -> None:
    with pytest.raises(ValueError, match=r"train\.precision: .* use memory: store or precision: float32"):
        Trainer(config(flow={"memory": "recompute"}, precision="bfloat16"), load(FEW))


def test_without_a_compiler_training_goes_on_and_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    files = trial.TrialFiles(tmp_path / "a.jsonl", tmp_path / "artifacts", tmp_path / "a.pt", tmp_path / "cache")
    compiled = config(compile=True, epochs=1, loss=LossConfig(flow=1.0, likelihood=0.0))
    compiled = dataclasses.replace(compiled, evaluate=dataclasses.replace(compiled.evaluate, every=1))
    with inductor.patch({"cpp.cxx": ("/nowhere/g++",)}):
        (*_, last) = trial.run(compiled, WHO, files, {}, "cpu")
    assert last["state"] == "finished"
    found = list(events(files.journal))
    (said,) = (event["message"] for event in found if event["event"] == "warning")
    assert said.startswith("train.compile: compilation failed; training continues without it (")
    assert "/nowhere/g++" in said
    plain = dataclasses.replace(compiled, train=dataclasses.replace(compiled.train, compile=False))
    (metrics,) = (event["metrics"] for event in found if event["event"] == "epoch")
    metrics = {key: value for key, value in metrics.items() if not key.startswith("system/")}
    assert Trainer(plain, load(FEW)).train_epoch().metrics == metrics


@pytest.mark.slow
@pytest.mark.long
def test_compiled_losses_are_the_same_up_to_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    plain = config(flow={"depth": 1, "mixing": "p4"}, epochs=2, merge_every=3, dequantise=0.05)
    compiled = dataclasses.replace(plain, train=dataclasses.replace(plain.train, compile=True))
    trainer = Trainer(compiled, load(FEW))
    assert trainer.warnings == []
    found = [result.metrics for result in fit(trainer)]
    for metrics, expected in zip(found, (result.metrics for result in fit(Trainer(plain, load(FEW)))), strict=True):
        assert metrics == pytest.approx(expected, rel=1e-3, abs=1e-5)
