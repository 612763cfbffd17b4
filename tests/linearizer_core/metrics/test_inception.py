"""Inception's features through a stand-in for its package, and through the package where it is installed."""

from __future__ import annotations

import hashlib
import pickle
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from linearizer_core.metrics import inception
from linearizer_core.metrics.inception import FILES, InceptionFeatures, missing, read_weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch hub's empty folder of checkpoints."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def named_by_digest(path: Path) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"weights-{digest[:8]}.pth"))


class StandIn(nn.Module):
    """Its features are each channel's sum of levels; it keeps what it was given."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        assert features_list == ["2048"]
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor]:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        self.seen.append(x)
        return (x.sum((2, 3)).float(),)


@pytest.fixture
def stand_in(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts a stand-in in the package's place and gives the file of its weights, of which there are none."""
    package = ModuleType("torch_fidelity")
    package.__spec__ = ModuleSpec("torch_fidelity", None)
    package.FeatureExtractorInceptionV3 = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    torch.save({}, hub / "part")
    path = named_by_digest(hub / "part")
    monkeypatch.setattr(inception, "FILES", ("absent-00000000.pth", path.name))
    return path


def test_what_is_missing_is_said(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    reason = missing()
    assert reason is not None
    assert "pip install torch-fidelity" in reason
    assert FILES[0] in reason
    assert str(hub) in reason
    with pytest.raises(ValueError, match="pip install torch-fidelity"):
        InceptionFeatures()


@pytest.mark.parametrize("name", FILES)
def test_weights_are_found_by_either_name(name: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "find_spec", lambda name: ModuleSpec(name, None))
    reason = missing()
    assert reason is not None
    assert "pip install" not in reason
    assert str(hub) in reason
    (hub / name).write_bytes(b"")
    assert missing() is None
    with pytest.raises(ValueError, match=f"{name} is damaged: its SHA-256 starts with e3b0c442"):
        InceptionFeatures()


def test_what_the_network_sees_are_the_levels_of_a_file(stand_in: Path) -> None:
    """-1 is 0, 1 is 255, and beyond them no more; in between the nearest level."""
    inception_features = InceptionFeatures()
    values = torch.tensor([-1.0, 1.0, -7.0, 7.0, 0.01, -1 + 2 * 0.6 / 255])
    levels = torch.tensor([0.0, 255.0, 0.0, 255.0, 129.0, 1.0])
    features = inception_features.features(values.view(6, 1, 1, 1))
    assert torch.equal(features, levels[:, None].expand(6, 3))


def test_every_file_comes_back_as_it_was(stand_in: Path) -> None:
    levels = torch.arange(256, dtype=torch.float64)
    images = (2 * levels / 255 - 1).float().view(256, 1, 1, 1)
    assert torch.equal(InceptionFeatures().features(images)[:, 0].double(), levels)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batches_and_colours(stand_in: Path, batch: int) -> None:
    images = 2 * torch.rand(7, 3, 5, 4, generator=torch.Generator().manual_seed(0)) - 1
    expected = ((images + 1) * 127.5).round().sum((2, 3))
    torch.testing.assert_close(InceptionFeatures("cpu").features(images, batch), expected)
    assert torch.equal(InceptionFeatures().features(images), InceptionFeatures().features(images.flip(2)))


class Harm:
    """What unpickling it would do is to make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_weights_that_would_run_code_are_not_read(
    stand_in: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"weight": Harm(tmp_path / "harm")}, hub / "part")
    path = named_by_digest(hub / "part")
    monkeypatch.setattr(inception, "FILES", (path.name,))
    with pytest.raises(pickle.UnpicklingError):
        InceptionFeatures()
    assert not (tmp_path / "harm").exists()


def test_weights_are_the_tensors_of_the_file(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3)}, tmp_path / "part")
    assert torch.equal(read_weights(named_by_digest(tmp_path / "part"))["a"], torch.arange(3))


def test_features_are_those_of_torch_fidelity(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, on images that the network resizes."""
    package = pytest.importorskip("torch_fidelity")
    extractor = package.FeatureExtractorInceptionV3
    torch.save({}, hub / "none")
    torch.manual_seed(0)
    with monkeypatch.context() as random:
        random.setattr(extractor, "load_state_dict", lambda *_: None)
        original = extractor("original", ["2048"], str(hub / "none"))
    torch.save(original.state_dict(), hub / "part")
    monkeypatch.setattr(inception, "FILES", (named_by_digest(hub / "part").name,))
    levels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = InceptionFeatures().features(levels.float() / 127.5 - 1)
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features, original(levels)[0])
    assert not torch.allclose(features[0], features[1])
