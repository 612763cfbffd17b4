"""The outcomes of trials as a schedule learns them from journals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from linearizer_core.experiment.journal import ENDED, Journal, Outcome, TrialIdentity, TrialState, state_of
from linearizer_core.experiment.nested import flatten
from sweeps.record.paths import SweepPaths
from sweeps.search.halving import Competitors, Halving, why_stopped
from sweeps.search.longer import comes_to_the_same, is_longer
from sweeps.search.reuse import FinishedTrials, reuse
from sweeps.search.schedule import PlannedTrial, ReplayError


def as_planned(planned: PlannedTrial) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A trial's planned configuration, without provenance."""
    return planned.config, {}


@dataclass(frozen=True)
class RecordedOutcomes:
    """The recorded outcomes of trials: of earlier launches and, in ``finished``, of other sweeps.

    Every look-up also gives early stopping the values that the trial had reached. ``described`` returns the
    configuration and provenance for the first line of a trial's journal.
    """

    paths: SweepPaths
    halving: Halving | None
    objective: str
    finished: FinishedTrials | None = None
    described: Callable[[PlannedTrial], tuple[Mapping[str, Any], Mapping[str, Any]]] = as_planned

    def look_up(self, planned: PlannedTrial, competitors: Competitors) -> Outcome | None:
        """The outcome of a trial; None if nothing is recorded.

        Raises ``ReplayError`` if the record belongs to another configuration.
        """
        path = self.paths.journal(planned.identity.trial)
        result = state_of(path)
        head = result.head
        if head is None:
            return self._reuse(planned, competitors)
        if head["config_hash"] != planned.identity.config_hash:
            if not is_longer(head["config"], planned.config):
                before, now = flatten(head["config"]), flatten(planned.config)
                changed = ", ".join(f"{k}: {before.get(k)} → {v}" for k, v in now.items() if before.get(k) != v)
                raise ReplayError(
                    f"{path} belongs to another configuration than the search gives now ({changed}): it was recorded "
                    "with other versions of the packages; give the sweep a new name, or remove its folder"
                )
            if not comes_to_the_same(result):
                return None
        if self.halving is not None and planned.identity.kind == "search":
            rungs = self._measured(result)
            if result.state not in ENDED and rungs and max(rungs) > max(result.saved, result.epoch - 1):
                # The launch may have died between this evaluation and the decision on it. If the trial trained on or
                # saved its state after it, it was told to go on.
                del rungs[max(rungs)]
            self.halving.record(planned.identity.trial, rungs)
        return result.outcome

    def of_duplicate(self, planned: PlannedTrial, duplicate: str) -> Outcome:
        """The outcome of a trial from that of its duplicate in the same search."""
        result = state_of(self.paths.journal(planned.identity.trial))
        head = result.head
        if result.state not in ENDED or head is None or head["config_hash"] != planned.identity.config_hash:
            result = reuse(self.paths, planned, self.paths.journal(duplicate))
        if self.halving is not None:
            self.halving.record(planned.identity.trial, self._measured(result))
        return result.outcome

    def of_decided(self, trial: PlannedTrial | TrialIdentity, reason: str) -> Outcome:
        """The outcome of a trial whose configuration was decided without it: none of its results count.

        Its journal records this, as its first entry if the trial has not begun.
        """
        identity = trial.identity if isinstance(trial, PlannedTrial) else trial
        path = self.paths.journal(identity.trial)
        before = state_of(path)
        if (before.state, before.reason, before.epoch) != ("stopped", reason, 0):
            journal = Journal(path)
            if isinstance(trial, PlannedTrial) and not before.begun:
                journal.trial(identity, *self.described(trial))
            journal.end("stopped", 0, reason)
        if self.halving is not None:
            self.halving.forget(identity.trial)
        return state_of(path).outcome

    def _reuse(self, planned: PlannedTrial, competitors: Competitors) -> Outcome | None:
        source = self.finished.find(planned) if self.finished else None
        if source is None:
            return None
        stopped = None
        if self.halving is not None and planned.identity.kind == "search":
            # Stop it as if it ran here: reuse must not change the table.
            for epoch, value in sorted(self._measured(state_of(source)).items()):
                rung = self.halving.decide(planned.identity.trial, epoch, value, competitors)
                if rung is not None:
                    stopped = epoch, why_stopped(rung)
                    break
        return reuse(self.paths, planned, source, stopped).outcome

    def _measured(self, result: TrialState) -> dict[int, float]:
        return {epoch: each[self.objective] for epoch, each in result.rungs.items() if self.objective in each}
