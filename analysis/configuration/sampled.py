"""Keys of sample scores: each family draws samples in its own way, by one application of an operator or many steps."""

from __future__ import annotations

from analysis.record.runs import Record

ENDINGS = ("_sampled", "_collapsed", "_auc")
"""Endings of the keys of sample metrics that do not name a step count."""


def sampled_key(record: Record, split: str, metric: str) -> str:
    """The key of a sample metric on a split (``quality`` or ``test``), the same for every family.

    In sweeps older than that key, it is the key of samples drawn by one application.

    >>> import analysis
    >>> from analysis.configuration.sampled import sampled_key
    >>> sampled_key(analysis.example(), "test", "classifier_fd")
    'test/classifier_fd_collapsed'
    """
    key, before = f"{split}/{metric}_sampled", f"{split}/{metric}_collapsed"
    if key not in record.metrics:
        return before
    runs = record.runs
    older = before in record.metrics and bool((runs[before].notna() & runs[key].isna()).any())
    return before if older else key


def stem(key: str) -> str:
    """The metric in ``quality/<metric>_sampled`` and the like; a text that is not a key is returned unchanged.

    >>> from analysis.configuration.sampled import stem
    >>> stem("quality/classifier_fd_collapsed"), stem("swd")
    ('classifier_fd', 'swd')
    """
    name = key.partition("/")[2] or key
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name
