"""One configuration trained and evaluated without a cluster: ``python -m linearizer_core.training CONFIG.yaml``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml

from linearizer_core import data as datasets
from linearizer_core.checks import problems
from linearizer_core.config import TrialConfig, config_hash, from_mapping, to_mapping
from linearizer_core.journal import JournalError, TrialIdentity, outcome
from linearizer_core.nested import with_leaves
from linearizer_core.recipes import expand
from linearizer_core.trial import TrialFiles, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and evaluate one configuration; the exit code is 0, 1 where training failed, 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m linearizer_core.training",
        description="Train and evaluate one configuration, and write its journal and artifacts.",
    )
    parser.add_argument("config", type=Path, help="YAML file: the configuration of a trial, as in a sweep's spec")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a leaf")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the record (default: runs)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1 …")
    chosen = parser.parse_args(arguments)
    try:
        config = read(chosen.config, chosen.set)
        data = datasets.load(config.data)
        device = _device(chosen.device)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{chosen.config}: {error}", file=sys.stderr)
        return 2
    held_out = min(len(data.validation), len(data.test))
    wrong = problems(config, data.event, len(data.train), data.classes, held_out)
    for name, message in wrong.items():
        print(f"{chosen.config}: {name}: {message}", file=sys.stderr)
    if wrong:
        return 2
    try:
        return _train(chosen.config, config, chosen.out, device, data.checksum)
    except (JournalError, NotADirectoryError, PermissionError) as error:
        print(error, file=sys.stderr)
        return 2


def _device(name: str) -> str:
    """The device of a name; raises ``ValueError`` or ``RuntimeError`` where nothing can be computed on it."""
    device = torch.zeros((), device=name).device
    if device.type == "meta":
        raise ValueError("--device: meta computes nothing; use cpu or cuda")
    return str(device)


def _train(source: Path, config: TrialConfig, out: Path, device: str, checksum: str) -> int:
    values = to_mapping(config)
    digest = config_hash(values)
    name = f"{source.stem}-{digest[:6]}-s{config.seed}"
    files = TrialFiles(
        out / "journal" / f"{name}.jsonl", out / "artifacts" / name, out / "training" / f"{name}.pt", out / "cache"
    )
    if outcome(files.journal).state == "finished":
        print(f"{files.journal}: has finished already")
        return 0
    identity = TrialIdentity(source.stem, name, "search", None, 0, digest, config.seed)
    origin = {"packages": {"torch": torch.__version__}, "data_checksum": checksum}
    print(f"{name} on {device}, journal {files.journal}", flush=True)
    state = "failed"
    for result in run(config, identity, files, origin, device):
        state = result.pop("state", state)
        shown = {key: value for key, value in result.items() if key.startswith("quality/")}
        values_shown = "  ".join(f"{key.partition('/')[2]} {value:.4g}" for key, value in list(shown.items())[:6])
        print(f"epoch {result['epoch']}/{config.train.epochs}  {values_shown or result.get('reason', '')}", flush=True)
    return 0 if state == "finished" else 1


def read(path: Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """The configuration of a file, over its recipe, with ``key=value`` overrides.

    Raises ``ValueError`` naming the key that is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise ValueError("must be a mapping of keys to values")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {text}: must read key=value, such as train.lr=1e-4")
        try:
            values = with_leaves(values, {key: yaml.safe_load(value)})
        except yaml.YAMLError:
            raise ValueError(f"--set {key}: {value!r} is not a YAML value") from None
    config: TrialConfig = from_mapping(TrialConfig, expand(values))
    return config
