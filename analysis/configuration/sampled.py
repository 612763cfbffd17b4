"""The scores of samples as each family draws them: by one application of an operator, or by many steps."""

from __future__ import annotations

from analysis.record.runs import Record

ENDINGS = ("_sampled", "_collapsed", "_auc")
"""What keys of a sample's metric end with where no step count is named."""


def sampled_key(record: Record, split: str, metric: str) -> str:
    """The key of a metric of the samples on a split (``quality`` or ``test``), the same for every family.

    Where a sweep is from before there was that name, it is that of one application.

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
    """The metric in ``quality/<metric>_sampled`` and the like; what is no key is the metric itself.

    >>> from analysis.configuration.sampled import stem
    >>> stem("quality/classifier_fd_collapsed"), stem("swd")
    ('classifier_fd', 'swd')
    """
    name = key.partition("/")[2] or key
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name
