"""Train and evaluate one configuration without a cluster: ``python -m linearizer_core.experiment CONFIG.yaml``.

When started by ``torchrun``, its processes are the workers of one trial.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.checks import problems, worker_problems
from linearizer_core.experiment.configuration import TrialConfig, config_hash, to_mapping
from linearizer_core.experiment.journal import TrialIdentity, state_of
from linearizer_core.experiment.nested import with_leaves
from linearizer_core.experiment.plugged import trial_config
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.rehearsal import rehearsed
from linearizer_core.experiment.trial import Trial, TrialFiles, run, run_together
from linearizer_core.experiment.workers import Workers, joined
from linearizer_core.plugins.loading import of_text

RENDEZVOUS_SECONDS = 1800.0
"""How long workers wait for each other, for instance while one of them trains a classifier or writes a large state."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and evaluate one configuration; the exit code is 0, 1 if training failed, or 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m linearizer_core.experiment",
        description="Train and evaluate one configuration, and write its journal and artifacts.",
    )
    parser.add_argument("config", type=Path, help="YAML file with a trial's configuration, as in a sweep's spec")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the record (default: runs)")
    parser.add_argument(
        "--device", default=_default_device(), help="cpu, cuda, cuda:1 …; with several workers, each gets its own"
    )
    parser.add_argument(
        "--seeds", type=_seeds, metavar="0,1,2", help="train the configuration with these seeds, all together"
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
    seeds = chosen.seeds or [config.seed]
    if len(seeds) > 1 and workers.count > 1:
        wrong["--seeds"] = f"several seeds train together in one process, but there are {workers.count} workers"
    wrong = wrong or rehearsed(config)
    for name, message in wrong.items():
        _say(f"{chosen.config}: {name}: {message}", said)
    if wrong:
        return 2
    try:
        with joined(workers, None, device, RENDEZVOUS_SECONDS):
            configs = [replace(config, seed=seed) for seed in seeds]
            return _train(chosen.config, configs, chosen.out, device, data.checksum, workers)
    except (NotADirectoryError, PermissionError) as error:
        _say(str(error), said)
        return 2


def _seeds(text: str) -> list[int]:
    """The different seeds in a list such as 0,1,2."""
    try:
        seeds = [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be seeds such as 0,1,2, got {text!r}") from None
    if min(seeds) < 0 or max(seeds) >= 2**63 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"must be different seeds from 0 to 2^63 - 1, got {text!r}")
    return seeds


def _say(text: str, stream: TextIO | None) -> None:
    """Print to the stream, if there is one: of several workers only the leader prints."""
    if stream is not None:
        print(text, file=stream, flush=True)


def _workers() -> Workers:
    """This process among those started by ``torchrun``, according to the environment; otherwise alone."""
    return Workers(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def _default_device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _device(name: str) -> str:
    """The device of a name; raises ``ValueError`` or ``RuntimeError`` if it cannot compute anything."""
    device = torch.zeros((), device=name).device
    if device.type == "meta":
        raise ValueError("--device: meta computes nothing; use cpu or cuda")
    return str(device)


def _train(
    source: Path, configs: Sequence[TrialConfig], out: Path, device: str, checksum: str, workers: Workers
) -> int:
    said, complaints = (sys.stdout, sys.stderr) if workers.leads else (None, None)
    trials = []
    for trial in (_trial(source, config, out) for config in configs):
        journal = trial.files.journal
        if workers.led(partial(_other_images, journal, checksum)):
            _say(
                f"{journal} belongs to a run on different images (their checksums differ); choose another --out",
                complaints,
            )
            return 2
        if workers.led(partial(state_of, journal)).state == "finished":
            _say(f"{journal}: has finished already", said)
        else:
            trials.append(trial)
    origin = {"packages": {"torch": torch.__version__}, "data_checksum": checksum}
    among = f", {workers.count} workers" if workers.count > 1 else ""
    for trial in trials:
        _say(f"{trial.identity.trial} on {device}{among}, journal {trial.files.journal}", said)
    ended = set()
    for identity, result in _results(trials, origin, device, workers):
        if result.pop("state", None) == "finished":
            ended.add(identity.trial)
        shown = {key: value for key, value in result.items() if key.startswith("quality/")}
        values_shown = "  ".join(f"{key.partition('/')[2]} {value:.4g}" for key, value in list(shown.items())[:6])
        told = f"epoch {result['epoch']}/{configs[0].train.epochs}  {values_shown or result.get('reason', '')}"
        _say(f"{identity.trial}  {told}" if len(configs) > 1 else told, said)
    return 0 if len(ended) == len(trials) else 1


def _trial(source: Path, config: TrialConfig, out: Path) -> Trial:
    digest = config_hash(to_mapping(config))
    name = f"{source.stem}-{digest[:6]}-s{config.seed}"
    files = TrialFiles(
        out / "journal" / f"{name}.jsonl", out / "artifacts" / name, out / "training" / f"{name}.pt", out / "cache"
    )
    return Trial(config, TrialIdentity(source.stem, name, "search", None, 0, digest, config.seed), files)


def _results(
    trials: Sequence[Trial], origin: Mapping[str, Any], device: str, workers: Workers
) -> Iterator[tuple[TrialIdentity, dict[str, Any]]]:
    """The results of one trial, possibly shared by workers, or of several trials that train together."""
    if len(trials) > 1:
        yield from run_together(trials, origin, device)
    for trial in trials if len(trials) == 1 else ():
        for result in run(trial.config, trial.identity, trial.files, origin, device, workers=workers):
            yield trial.identity, result


def _other_images(journal: Path, checksum: str) -> bool:
    """Whether a journal belongs to a run on images with another checksum."""
    origins = [attempt.event["provenance"] for attempt in state_of(journal).attempts]
    return any(origin.get("data_checksum", checksum) != checksum for origin in origins)


def read(path: Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """The configuration in a file, merged over its recipe and overridden by ``key=value`` items.

    Raises ``ValueError`` naming the key that is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise ValueError("must be a mapping of keys to values")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {text}: must be key=value, such as train.lr=1e-4")
        try:
            values = with_leaves(values, {key: yaml.safe_load(value)})
        except yaml.YAMLError:
            raise ValueError(f"--set {key}: {value!r} is not a YAML value") from None
    values = dict(values)
    plugins = values.get("plugins", [])
    if not isinstance(plugins, list):
        raise ValueError(f"plugins must be a list of files or names, got {plugins!r}")
    values["plugins"] = [of_text(str(text), (path.parent, Path())).ref for text in plugins]
    return trial_config(expand(values))


if __name__ == "__main__":
    raise SystemExit(main())
