"""Files that dead launches left in a sweep's folder and that nobody needs; the next launch removes them."""

from __future__ import annotations

from contextlib import suppress

from linearizer_core.experiment.journal import ENDED, state_of
from linearizer_core.experiment.state import remove_state
from linearizer_core.files import remove_all_unfinished
from sweeps.record.paths import SweepPaths


def remove_leftovers(paths: SweepPaths) -> None:
    """Remove half-written files, and saved states of trials that have ended; nobody else may be writing there.

    Files that cannot be removed stay: they do no harm.
    """
    remove_all_unfinished(paths.root)
    for trial in {file.name.partition(".")[0] for file in paths.training_state("").parent.glob("*.*")}:
        state = state_of(paths.journal(trial))
        if state.state in ENDED and not state.extensible and not state.by_hand:
            with suppress(OSError):
                remove_state(paths.training_state(trial))
