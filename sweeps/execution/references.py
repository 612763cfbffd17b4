"""The references of a sweep: rows that need no model, measured in the same way as trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.artifacts import write_curves, write_grids
from linearizer_core.experiment.evaluation import Quality
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.journal import Journal, TrialIdentity, state_of
from linearizer_core.experiment.sample_metrics import measures
from linearizer_core.metrics.features import checksum
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Sweep


def reference_trials(sweep: Sweep, paths: SweepPaths, origin: Mapping[str, Any], console: Console) -> None:
    """Measure the references, and train the classifier that all trials need, before the first trial.

    A sweep of a user-defined function has neither.
    """
    if sweep.function is not None:
        return
    config = sweep.trial_config({}, 0)
    data = datasets.load(config.data)
    with console.status("training the feature classifier, measuring the references"):
        family = family_of(config)
        quality = Quality.cached(measures(family.metrics(config), config.evaluate), data, paths.cache, "cpu")
        if state_of(paths.journal("r000")).state == "finished":
            return
        features = {}
        if quality.classifier:
            accuracy = quality.classifier.accuracy(data.test, data.test_labels)
            features = {"classifier_accuracy": accuracy, "classifier_checksum": checksum(quality.classifier)}
        rows = family.references(config, data, quality)
        for number, (label, evaluation) in reversed(list(enumerate(rows.items()))):
            name = f"r{number:03d}"
            if state_of(paths.journal(name)).state == "finished":
                continue  # from a launch that died at a later reference
            journal = Journal(paths.journal(name))
            identity = TrialIdentity(sweep.name, name, "reference", label, number, "reference", None)
            settings = {"data": sweep.base["data"], "evaluate": sweep.base["evaluate"]}
            journal.trial(identity, settings, {**origin, **features})
            folder = paths.artifacts(name)
            for file in [*write_grids(folder, evaluation.grids), *write_curves(folder, evaluation.curves)]:
                journal.artifact(file)
            for metric, curve in evaluation.curves.items():
                journal.curve(metric, curve)
            journal.summary(evaluation.summary)
            journal.end("finished", 0)
