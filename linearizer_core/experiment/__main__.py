"""One configuration trained and evaluated without a cluster: ``python -m linearizer_core.experiment CONFIG.yaml``.

Started by ``torchrun``, its processes are the workers of one trial.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import torch
import yaml

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.checks import problems, worker_problems
from linearizer_core.experiment.configuration import TrialConfig, config_hash, from_mapping, to_mapping
from linearizer_core.experiment.journal import TrialIdentity, state_of
from linearizer_core.experiment.nested import with_leaves
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.trial import TrialFiles, run
from linearizer_core.experiment.workers import Workers, joined

RENDEZVOUS_SECONDS = 1800.0
"""How long workers wait for each other: while one of them trains a classifier or writes a large state."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and evaluate one configuration; the exit code is 0, 1 where training failed, 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m linearizer_core.experiment",
        description="Train and evaluate one configuration, and write its journal and artifacts.",
    )
    parser.add_argument("config", type=Path, help="YAML file: the configuration of a trial, as in a sweep's spec")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a leaf")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the record (default: runs)")
    parser.add_argument(
        "--device", default=_default_device(), help="cpu, cuda, cuda:1 …; of several workers each its own"
    )
    chosen = parser.parse_args(arguments)
    workers = _workers()
    said = sys.stderr if workers.leads else None
    try:
        config = read(chosen.config, chosen.set)
        data = datasets.load(config.data)
        device = _device(chosen.device)
    except (ValueError, OSError, RuntimeError) as error:
        _say(f"{chosen.config}: {error}", said)
        return 2
    held_out = min(len(data.validation), len(data.test))
    wrong = problems(config, data.event, len(data.train), data.classes, held_out)
    wrong |= worker_problems(config, workers.count)
    for name, message in wrong.items():
        _say(f"{chosen.config}: {name}: {message}", said)
    if wrong:
        return 2
    try:
        with joined(workers, None, device, RENDEZVOUS_SECONDS):
            return _train(chosen.config, config, chosen.out, device, data.checksum, workers)
    except (NotADirectoryError, PermissionError) as error:
        _say(str(error), said)
        return 2


def _say(text: str, stream: TextIO | None) -> None:
    """Print, where there is something to print on: of several workers only one speaks."""
    if stream is not None:
        print(text, file=stream, flush=True)


def _workers() -> Workers:
    """The processes that ``torchrun`` has started, as the environment tells; otherwise this one alone."""
    return Workers(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def _default_device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _device(name: str) -> str:
    """The device of a name; raises ``ValueError`` or ``RuntimeError`` where nothing can be computed on it."""
    device = torch.zeros((), device=name).device
    if device.type == "meta":
        raise ValueError("--device: meta computes nothing; use cpu or cuda")
    return str(device)


def _train(source: Path, config: TrialConfig, out: Path, device: str, checksum: str, workers: Workers) -> int:
    values = to_mapping(config)
    digest = config_hash(values)
    name = f"{source.stem}-{digest[:6]}-s{config.seed}"
    files = TrialFiles(
        out / "journal" / f"{name}.jsonl", out / "artifacts" / name, out / "training" / f"{name}.pt", out / "cache"
    )
    said = sys.stdout if workers.leads else None
    if workers.led(lambda: _other_images(files.journal, checksum)):
        _say(
            f"{files.journal}: is of a run on other images, by their checksum; give this one another --out",
            sys.stderr if workers.leads else None,
        )
        return 2
    if workers.led(lambda: state_of(files.journal).state == "finished"):
        _say(f"{files.journal}: has finished already", said)
        return 0
    identity = TrialIdentity(source.stem, name, "search", None, 0, digest, config.seed)
    origin = {"packages": {"torch": torch.__version__}, "data_checksum": checksum}
    among = f", {workers.count} workers" if workers.count > 1 else ""
    _say(f"{name} on {device}{among}, journal {files.journal}", said)
    state = "failed"
    for result in run(config, identity, files, origin, device, workers=workers):
        state = result.pop("state", state)
        shown = {key: value for key, value in result.items() if key.startswith("quality/")}
        values_shown = "  ".join(f"{key.partition('/')[2]} {value:.4g}" for key, value in list(shown.items())[:6])
        _say(f"epoch {result['epoch']}/{config.train.epochs}  {values_shown or result.get('reason', '')}", said)
    return 0 if state == "finished" else 1


def _other_images(journal: Path, checksum: str) -> bool:
    """Whether a journal is of a run on other images than those of a checksum."""
    origins = [attempt.event["provenance"] for attempt in state_of(journal).attempts]
    return any(origin.get("data_checksum", checksum) != checksum for origin in origins)


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


if __name__ == "__main__":
    raise SystemExit(main())
