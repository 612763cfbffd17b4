"""Display names and units of axes and metrics.

A spec's ``labels`` replace the names below; units are facts of the record and stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.configuration.words import short_names
from analysis.record.runs import Record

QUALITY = re.compile(r"(?P<split>quality|test)/(?P<metric>.+)_(?P<how>k\d+|collapsed|sampled|auc|infinite)")
"""Matches keys of sample scores: the split, the metric, and how the samples were drawn or the score extrapolated."""


@dataclass(frozen=True)
class Label:
    """A display name and a unit, which may be empty.

    >>> str(Label("training time", "s")), str(Label("parameters"))
    ('training time (s)', 'parameters')
    """

    name: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


METRICS: Mapping[str, Label] = {
    "classifier_fd": Label("classifier FD"),
    "classifier_kid": Label("classifier KID"),
    "imagenet_fd": Label("ImageNet FD"),
    "imagenet_kid": Label("ImageNet KID"),
    "inception_fid": Label("Inception FID"),
    "inception_kid": Label("Inception KID"),
    "swd": Label("sliced W2"),
    "ssim": Label("SSIM"),
    "bits_per_dim": Label("NLL", "bits/dim"),
    "inversion_images": Label("inverted images"),
    "lipschitz_g_x": Label("Lipschitz constant of g_x"),
    "lipschitz_g_x_inverse": Label("Lipschitz constant of g_x⁻¹"),
    "lipschitz_g_y": Label("Lipschitz constant of g_y"),
    "lipschitz_g_y_inverse": Label("Lipschitz constant of g_y⁻¹"),
    "noise_ks": Label("noise KS distance"),
    "noise_active_ks": Label("active noise KS distance"),
    "noise_direction_ks": Label("KS distance per direction"),
    "params": Label("parameters"),
    "train_seconds": Label("training time", "s"),
    "evaluate_seconds": Label("evaluation time", "s"),
    "gpu_seconds": Label("GPU time", "s"),
    "peak_memory_mb": Label("peak memory", "MB"),
    "sample_ms": Label("sampling", "ms"),
    "sample_mflop": Label("sampling", "MFLOP"),
}
"""Labels by the part of a metric's key after the slash, without how samples were drawn; others are shown by key."""

DRAWN_WORDS = {
    "k": "{} at k={}", "c": "collapsed {}", "s": "sampled {}", "a": "area under {}", "i": "{} at n → ∞",
}  # fmt: skip
"""Templates for a metric and how samples were drawn, by the first letter of that part of the key."""
DRAWN = re.compile(r"(?P<metric>.+)_(?P<how>k\d+|collapsed|sampled|auc|infinite)")


def label_of(record: Record, key: str) -> Label:
    """The display name and unit of an axis or a metric.

    >>> import analysis
    >>> record = analysis.example()
    >>> for key in ("model.flow.depth", "quality/classifier_fd_collapsed", "test/swd_collapsed", "cost/train_seconds"):
    ...     print(label_of(record, key))
    depth
    collapsed classifier FD
    collapsed sliced W2 on test
    training time (s)
    """
    given = given_label(record, key)
    if "/" not in key:
        return Label(given or short_names(record.axes).get(key) or key)
    section, _, rest = key.partition("/")
    match = DRAWN.fullmatch(rest)
    known = metric_label(record, rest if match is None else match["metric"])
    if given:
        return Label(given, known.unit)
    words = known.name if match is None else DRAWN_WORDS[match["how"][0]].format(known.name, match["how"][1:])
    return Label(f"{words} on test" if section == "test" else words, known.unit)


def metric_label(record: Record, metric: str) -> Label:
    """The label of a metric as named in ``evaluate.quality``, or of the part of another key after the slash."""
    words = metric.replace("psnr", "PSNR").replace("_", " ")
    known = METRICS.get(metric, Label(words, "dB" if metric.endswith("psnr") else ""))
    return Label(given_label(record, metric) or known.name, known.unit)


def how_words(how: str) -> str:
    """How samples were drawn, in words, from the end of a key: ``k100`` gives ``k=100``."""
    return "n → ∞" if how == "infinite" else re.sub(r"^k(?=\d)", "k=", how)


def given_label(record: Record, key: str) -> str:
    """The name of a key in the ``labels`` of the first sweep that has one; empty if none has."""
    return next((sweep.labels[key] for sweep in record.sweeps if key in sweep.labels), "")


def axis_labels(record: Record) -> dict[str, str]:
    """The display names of the searched axes, by their dotted names."""
    return {axis: str(label_of(record, axis)) for axis in record.axes}


def joined_labels(record: Record, keys: Sequence[str]) -> str:
    """Display names joined as ``depth and rank``."""
    return " and ".join(str(label_of(record, key)) for key in keys)
