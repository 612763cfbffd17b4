"""A first spec, with comments: written by ``linsweep init`` from a data set, a family and a question."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.recipes import SHRUNK, UNLABELLED
from linearizer_core.files import named
from sweeps.spec.load import load
from sweeps.spec.validation import InputError, Problem, suggestion

NAMED = ("digits", "mnist", "fashion-mnist", "cifar10", "celeba")
FAMILIES: Mapping[str, str] = {
    "diffusion": "from noise to images by affine operators between the two ends of an invertible network",
    "idempotent": "a projector onto the images: reconstructions and samples",
    "style": "from image to image, one operator per style over a shared network",
}
QUESTIONS: Mapping[str, str] = {
    "depth-rank": "how do the depth of g and the rank of A affect quality? Every combination at three seeds",
    "rank": "which rank of A is enough? Each rank at five seeds",
    "best": "which configuration is best? A search over depth, rank and learning rate; the best again at fresh seeds",
}
SMALL = 256
"""The most numbers per image for which models train within minutes on a CPU, as on the digits."""


@dataclass(frozen=True)
class First:
    """The choices for a first spec; ``event`` holds the images' channels, height and width, if known."""

    name: str
    family: str
    question: str
    data: DataConfig
    event: tuple[int, int, int] | None = None
    images: int | None = None
    labelled: bool = True

    @property
    def small(self) -> bool:
        """Whether the images are as small as the digits or smaller."""
        return self.event is not None and self.dim <= SMALL

    @property
    def dim(self) -> int:
        """Numbers per image; if unknown, the least possible."""
        channels, height, width = self.event or (1, 32, 32)
        return channels * height * width


def write_first(path: Path, data: str, family: str, question: str, name: str | None = None) -> Path:
    """Write a first spec to a new file; ``data`` is the name of a data set, a folder of images or an archive.

    Raises ``InputError`` if the file exists, the family or question is unknown, or the images cannot be used.
    """
    for option, value, known in (("--family", family, FAMILIES), ("--question", question, QUESTIONS)):
        if value not in known:
            raise InputError(option, [Problem("", f"{value} is not known; {suggestion(value, known)}")])
    config = _data_of(data)
    first = First(name or _name_of(path), family, question, config)
    there = _is_there(config)
    first = _looked_at(first) if there else replace(first, data=replace(config, download=True))
    try:
        with named(path), path.open("x", encoding="utf-8") as file:
            file.write(text_of(first, path))
    except FileExistsError:
        raise InputError(
            str(path), [Problem("", "exists already and was left unchanged; choose another file")]
        ) from None
    except OSError as error:
        raise InputError(str(path), [Problem("", f"cannot be written: {error.strerror}")]) from None
    if there:
        try:
            load(str(path))
        except InputError:
            path.unlink()
            raise
    return path


def _name_of(path: Path) -> str:
    """The sweep's name, taken from the file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "first"


def _data_of(text: str) -> DataConfig:
    """The data set that a text names: a known one, an archive, or a folder of images."""
    if text in NAMED:
        return DataConfig(name=text)  # type: ignore[arg-type]  # one of them
    path = Path(text)
    if path.suffix == ".npz" and path.is_file():
        return DataConfig(name="npz", root=str(path.absolute()))
    if path.is_dir():
        return DataConfig(name="folder", root=str(path.absolute()), size=SHRUNK["folder"])
    message = f"{text} is not a data set ({', '.join(NAMED)}), a folder of images or an .npz file"
    raise InputError("--data", [Problem("", message)])


def _is_there(config: DataConfig) -> bool:
    """Whether a data set's files exist; raises ``InputError`` if the user's own images cannot be used."""
    try:
        datasets.locate(config)
    except datasets.DataError as error:
        if config.name in NAMED:
            return False
        raise InputError("--data", [Problem("", str(error))]) from None
    return True


def _looked_at(first: First) -> First:
    """The choices, completed with the size, number and labels of the images."""
    try:
        data = datasets.load(first.data)
    except datasets.DataError as error:
        raise InputError("--data", [Problem("", str(error))]) from None
    return replace(first, event=data.event, images=len(data.train), labelled=data.classes > 1)


def text_of(first: First, path: Path) -> str:
    """The spec in YAML, with a comment for each part."""
    parts = [_head(first, path), _data(first), _model(first), _train(first), _evaluate(first), _controls(first),
             _search(first), _end()]  # fmt: skip
    return "\n".join(filter(None, parts))


def _head(first: First, path: Path) -> str:
    question = QUESTIONS[first.question]
    return f"""\
# {question[0].upper()}{question[1:]}.
# linsweep plan {path} shows what it would do, linsweep launch {path} runs it, and linsweep schema KEY
# explains a key, such as train.lr. Keys that are not set here take the recipe's defaults.
name: {first.name}
family: {first.family}  # {FAMILIES[first.family]}"""


def _data(first: First) -> str:
    config = first.data
    root = f", root: {json.dumps(config.root, ensure_ascii=False)}" if config.root else ""
    size = f", size: {config.size}" if config.size else ""
    download = ", download: true" if config.download else ""
    notes = ["The images"]
    if config.size:
        notes.append("size: side in pixels after resizing")
    if config.download:
        notes.append("download: fetch files that are missing")
    return f"# {'; '.join(notes)}.\ndata: {{name: {config.name}{root}{size}{download}}}"


def _model(first: First) -> str:
    if first.family == "style":
        flow = f"frame: pixels, depth: 4, conditioner: conv, width: {32 if first.small else 64}, mixing: lu"
    elif first.small:
        flow = "depth: 4, width: 128"
    else:
        flow = "frame: principal, coordinates: 256, mixing: permutation, depth: 8, width: 256"
    operator = {"diffusion": "rank: 16", "idempotent": "kind: projection, rank: 16",
                "style": "kind: lowrank, rank: 16"}[first.family]  # fmt: skip
    lines = [
        "model:",
        "  # g, the invertible network: number of blocks, and width of the networks inside them.",
        f"  flow: {{{flow}}}",
        "  # A, the linear core.",
        f"  operator: {{{operator}}}",
    ]
    if first.family == "diffusion":
        by = "cluster" if first.data.name in UNLABELLED and not first.labelled else "label"
        lines += ["  # One A per label (by: label), per cluster of the images (by: cluster), or one for all (by: one).",
                  f"  operators: {{by: {by}}}"]  # fmt: skip
    return "\n".join(lines)


def _train(first: First) -> str:
    epochs, batch, rate = (120, 128, "3.0e-3") if first.small else (30, 256, "1.0e-3")
    if first.images is not None:
        while batch > 16 and batch > first.images // 4:
            batch //= 2
    noise = ", dequantise: 0.05" if first.family == "diffusion" and not first.small else ""
    return f"# epochs: passes over the training images; batch_size: images per step; lr: peak learning rate.\n" \
           f"train: {{epochs: {epochs}, batch_size: {batch}, lr: {rate}{noise}}}"  # fmt: skip


def _epochs(first: First) -> int:
    return 120 if first.small else 30


def _metric(first: First) -> str:
    return "classifier_fd" if first.labelled else "swd"


def _evaluate(first: First) -> str:
    every = _epochs(first) // 2 if first.question == "best" else _epochs(first)
    if first.family == "style":
        return f"# every: epochs between two evaluations during training.\nevaluate: {{every: {every}}}"
    # The other metrics use features of a classifier, which is trained on labels.
    quality = ["swd", "classifier_fd", "precision", "recall"] if first.labelled else ["swd"]
    steps = "steps: [1, 10, 100], " if first.family == "diffusion" else ""
    return f"""\
# Quality of samples against held-out images: distances and, with labels, precision and recall.
# every: epochs between two evaluations during training.
evaluate: {{{steps}quality: [{", ".join(quality)}], every: {every}}}"""


def _controls(first: First) -> str:
    lines = ["# Controls: configurations that should do worse, trained beside the search for comparison.", "controls:"]
    if first.family == "diffusion":
        lines += ["  - {name: g = identity, set: {model.flow.kind: identity}}",
                  "  - {name: the means alone, set: {model.operator.rank: 0, model.operator.shared: all}}",
                  "  # An ordinary network of equal size, sampled in steps; its metrics are those at k=1, 10 and 100.",
                  "  - {name: flow matching, set: {family: flow_matching}}"]  # fmt: skip
    else:
        lines += ["  - {name: g linear, set: {model.flow.kind: linear}}"]
    return "\n".join(lines)


def _search(first: First) -> str:
    ranks = [rank for rank in (1, 2, 4, 8, 16, 32, 64, 128) if rank <= first.dim]
    depths = [1, 2, 4, 6] if first.small else [2, 4, 8, 16]
    objective = "quality/psnr_collapsed: max" if first.family == "style" else f"quality/{_metric(first)}_sampled: min"
    lines = ["search:"]
    if first.question == "best":
        lines += [
            "  sampler: tpe  # Optuna's sampler: tpe, random, gp, nsga2 or grid",
            "  trials: 24  # number of configurations",
            "  space:  # keys and their ranges",
            f"    model.flow.depth: {{int: [{depths[0]}, {depths[-1]}]}}",
            f"    model.operator.rank: {{int: [1, {ranks[-1]}], log: true}}",
            "    train.lr: {float: [5.0e-4, 5.0e-3], log: true}",
            f"  objective: {{{objective}}}  # what to optimise",
            "  # Half-way through training, the better half of the trials goes on.",
            f"  stop_early: {{scheduler: asha, grace_epochs: {_epochs(first) // 2}, reduction: 2}}",
            "  seeds: [0]  # every configuration runs at each seed",
            "  confirm: {top: 2, seeds: [1, 2, 3]}  # run the best again, at fresh seeds",
        ]
        return "\n".join(lines)
    lines += ["  sampler: grid  # every combination", "  space:  # keys and their values"]
    if first.question == "depth-rank":
        lines.append(f"    model.flow.depth: {{grid: {depths}}}")
        ranks = ranks[::2]
    seeds = [0, 1, 2] if first.question == "depth-rank" else [0, 1, 2, 3, 4]
    lines += [f"    model.operator.rank: {{grid: {ranks}}}", f"  objective: {{{objective}}}  # what to optimise",
              f"  seeds: {seeds}  # every configuration runs at each seed, which gives the error bars"]  # fmt: skip
    return "\n".join(lines)


def _end() -> str:
    return """\
# Resources of one trial; as many trials run at once as fit. gpus_per_worker: 0.5 lets two trials share a GPU.
resources: {workers: 1, gpus_per_worker: 0, cpus_per_worker: 1}
# Hard caps over all launches, such as {hours: 12}; null: no cap.
budget: {hours: null}
# Folder of the sweep's record; on a cluster, a folder that all nodes can reach.
storage: ./runs
"""
