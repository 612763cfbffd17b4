"""A spec that has changed since its sweep was recorded: which trials stay, are new, or are no longer needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.configuration import config_hash
from linearizer_core.experiment.journal import ENDED, TrialState, state_of
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.experiment.state import remove_state
from linearizer_core.words import counted
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.search.drawn import Drawn, Learnt, Point
from sweeps.search.learning import learnt_from
from sweeps.search.longer import EPOCHS, comes_to_the_same, goes_on, reopen
from sweeps.spec.load import recorded
from sweeps.spec.model import Sweep
from sweeps.spec.space import point_of
from sweeps.spec.validation import InputError, Problem

MAY_CHANGE = (
    "search.storage",
    "budget.",
    "resources.",
    "tracking.",
    "storage",
    "data.root",
    "data.download",
    "labels.",
    "notify.",
)
"""Leaves that say where a sweep runs, what it may use and how it is shown; they do not change its trials."""

LENGTH = "search.trials"
"""The one leaf that can grow freely: the search continues as if it had been this long from the start."""

CODE = ("plugins", "function", "callbacks")
"""Leaves that name code; they cannot be axes."""

GROWS = (
    "search.seeds", "search.space.", "search.first", "search.learn_from", "search.confirm", "controls", EPOCHS,
)  # fmt: skip
"""Leaves whose change lets a sweep grow into a larger one that includes its trials."""


@dataclass(frozen=True)
class Growth:
    """A spec compared with the record of its sweep: nothing new, more of the same, or a sweep that has grown.

    ``changes`` are the leaves that differ, as ``key: before → now``. ``drawn`` is the start of the search. The lists
    name trials: ``kept`` are recorded and still needed; of these, ``longer`` are trained further from their saved state
    and ``anew`` from scratch. ``cancelled`` (not ended) and ``set_aside`` (ended) are no longer needed. ``not_begun``
    counts planned trials that are no longer needed. ``new`` counts the trials without a record.
    """

    before: Mapping[str, Any] | None = None
    changes: tuple[str, ...] = ()
    drawn: Drawn = field(default_factory=Drawn)
    kept: tuple[str, ...] = ()
    ended: int = 0
    longer: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    brought_back: tuple[str, ...] = ()
    not_begun: int = 0
    new: int = 0

    @property
    def missing(self) -> int:
        """How many trials still have to run or continue."""
        return self.new + len(self.kept) - self.ended

    def document(self) -> dict[str, Any] | None:
        """The comparison as JSON values; None if nothing is recorded."""
        if self.before is None:
            return None
        lists = ("changes", "kept", "longer", "anew", "cancelled", "set_aside", "brought_back")
        counts = ("ended", "new", "not_begun")
        return {name: list(getattr(self, name)) for name in lists} | {name: getattr(self, name) for name in counts}

    def fields(self) -> dict[str, Any]:
        """The fields for ``sweep.json``: the start of the search, and the history of changes to the spec."""
        grown = list((self.before or {}).get("grown") or ())
        if self.changes:
            grown.append({"time": time.time(), "changes": list(self.changes)})
        return {"drawn": None if self.drawn == Drawn() else self.drawn.as_json(), "grown": grown}


def growth_of(sweep: Sweep) -> Growth:
    """Compare a sweep's spec with the record in its folder.

    Raises ``InputError``, naming the difference, if the recorded trials cannot be part of the sweep, and if a sweep in
    ``search.learn_from`` does not exist.
    """
    paths = SweepPaths(sweep.folder)
    record = read_record(paths)
    if record is None:
        return Growth(drawn=Drawn(learnt=learnt_from(sweep)), new=sweep.trials)
    earlier = recorded(record, sweep.folder, to_run=False)
    known = Drawn.of_json(record.get("drawn"))
    changes = _changes(earlier, sweep)
    _check_changes(earlier, sweep, changes)
    other_grid = sweep.search.sampler == "grid" and any(key.startswith("search.space.") for key in changes)
    if sweep.configurations < earlier.configurations and not other_grid:
        message = f"{sweep.name} was launched with {earlier.configurations}; the number can only grow"
        raise InputError(sweep.source, [Problem(LENGTH, message)])
    trials = recorded_trials(paths)
    if not changes:
        return _compared(sweep, earlier, record, (), known, trials)
    same = not any(key.startswith(("search.learn_from", "search.space.")) for key in changes)
    drawn = taken_up(sweep, trials, known.following, known.learnt if same else learnt_from(sweep))
    if drawn.points and len(drawn.points) > sweep.configurations:
        has = counted(len(drawn.points), "configuration")
        message = f"the record has {has} of this space; the number can only grow"
        raise InputError(sweep.source, [Problem(LENGTH, message)])
    told = tuple(_told(key, *change) for key, change in changes.items())
    return _compared(sweep, earlier, record, told, drawn, trials)


def bring_back(growth: Growth, paths: SweepPaths) -> None:
    """Move back the journals that were set aside and are needed again, before the search is replayed."""
    for trial in growth.brought_back:
        (paths.superseded / f"{trial}.jsonl").replace(paths.journal(trial))


def set_right(growth: Growth, sweep: Sweep) -> None:
    """Set aside the trials that are no longer needed, and reopen those that must train longer.

    If interrupted, it can be repeated.
    """
    paths = SweepPaths(sweep.folder)
    for trial in (*growth.cancelled, *growth.set_aside):
        paths.superseded.mkdir(exist_ok=True)
        paths.journal(trial).replace(paths.superseded / f"{trial}.jsonl")
        remove_state(paths.training_state(trial))
    for trial in (*growth.longer, *growth.anew):
        reopen(paths, trial, sweep.base_leaves[EPOCHS])


def _changes(earlier: Sweep, sweep: Sweep) -> dict[str, tuple[Any, Any]]:
    """The leaves that differ, with both values, except those that may change; the number of trials may grow freely."""
    before, now = flatten(earlier.resolved), flatten(sweep.resolved)
    return {
        key: (before.get(key, "absent"), now.get(key, "absent"))
        for key in {**before, **now}
        if before.get(key) != now.get(key)
        and not key.startswith((*MAY_CHANGE, LENGTH))
        and not key.endswith(".default")
    }


def _check_changes(earlier: Sweep, sweep: Sweep, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise ``InputError`` for a change after which a recorded trial would not belong to this sweep."""
    axes = {*earlier.search.space, *sweep.search.space}
    wrong = {key: change for key, change in changes.items() if not key.startswith(GROWS) and key not in axes}
    if wrong:
        told = "; ".join(_told(key, *change) for key, change in wrong.items())
        leaf = next((key for key in wrong if key in sweep.base_leaves and key not in CODE), None)
        both = ", ".join(map(str, wrong[leaf])) if leaf else ""
        axis = f"search both values (search.space.{leaf}: {{choice: [{both}]}}), " if leaf else ""
        message = (
            f"{sweep.folder} holds a sweep of this name with another spec ({told}); its trials cannot be part of this "
            f"sweep. To go on, {axis}choose another name (--set name=…), or remove that folder"
        )
        raise InputError(sweep.source, [Problem("name", message)])
    if EPOCHS in changes and EPOCHS not in axes:
        epochs, fewer = changes[EPOCHS]
        if fewer < epochs:
            message = f"{sweep.name} was trained for {counted(epochs, 'epoch')}, not {fewer}; the number can only grow"
            raise InputError(sweep.source, [Problem(EPOCHS, message)])


def _told(key: str, before: Any, now: Any) -> str:
    """A change in words; lists of mappings, such as controls, are shown by name."""

    def shown(value: Any) -> Any:
        if isinstance(value, list):
            return (
                "["
                + ", ".join(str(each.get("name", each)) if isinstance(each, dict) else str(each) for each in value)
                + "]"
            )
        return value

    return f"{key}: {shown(before)} → {shown(now)}"


@dataclass(frozen=True)
class RecordedTrial:
    """A trial of the search or a control, from its journal; ``aside`` is true if that is set aside."""

    name: str
    kind: str
    number: int
    seed: int | None
    label: str | None
    hash: str
    config: Mapping[str, Any]
    overrides: Mapping[str, Any]
    state: TrialState
    aside: bool


def recorded_trials(paths: SweepPaths) -> list[RecordedTrial]:
    """The trials that have journals, including those set aside but not references."""
    return list(_trials(paths))


def _trials(paths: SweepPaths) -> Iterator[RecordedTrial]:
    for folder, aside in ((paths.journals, False), (paths.superseded, True)):
        for path in journal_files(folder):
            state = state_of(path)
            head = state.head
            if head is not None and head["kind"] != "reference" and head["number"] is not None:
                yield RecordedTrial(
                    path.stem, head["kind"], head["number"], head["seed"], head["label"],
                    head["config_hash"], head["config"], head["overrides"], state, aside,
                )  # fmt: skip


def taken_up(sweep: Sweep, trials: list[RecordedTrial], following: int, learnt: tuple[Learnt, ...]) -> Drawn:
    """The start of a grown search: every recorded configuration that it still needs.

    Raises ``InputError`` if one of them lies at a point of the space but would be a different configuration now.
    """
    points: dict[int, Point] = {}
    differing: dict[str, str] = {}
    for trial in sorted(trials, key=lambda each: (each.number, each.name)):
        if trial.kind != "search":
            continue
        following = max(following, trial.number + 1)
        _check_defaults(sweep, trial)
        point = point_of(sweep.search.space, {**sweep.base_leaves, **_defaults(sweep), **flatten(trial.config)})
        if point is None or trial.number in points:
            continue
        wrong = _unlike(sweep, point, trial)
        if not wrong:
            points[trial.number] = point
        # With another value of a former axis it lies outside this space.
        differing |= {} if set(wrong) & set(trial.overrides) else wrong
    if differing:
        told = "; ".join(f"{key}: {change}" for key, change in differing.items())
        message = (
            f"{sweep.folder} holds trials of this space with other values ({told}); restore these, search them as "
            "axes, or give this sweep another name (--set name=…)"
        )
        raise InputError(sweep.source, [Problem("name", message)])
    return Drawn(points, following, _control_numbers(sweep, trials), learnt)


def _check_defaults(sweep: Sweep, trial: RecordedTrial) -> None:
    """Raise ``InputError`` if an axis's default is not the value in trials that did not search it."""
    for name, default in _defaults(sweep).items():
        had = flatten(trial.config).get(name, default)
        if had != default and name not in trial.overrides:
            message = f"must be the value in recorded trials: {had} in {trial.name}, not {default}"
            raise InputError(sweep.source, [Problem(f"search.space.{name}.default", message)])


def _defaults(sweep: Sweep) -> dict[str, Any]:
    return {name: dimension.default for name, dimension in sweep.search.space.items() if dimension.default is not None}


def _unlike(sweep: Sweep, overrides: Point, trial: RecordedTrial) -> dict[str, str]:
    """The leaves in which a recorded trial differs from what the spec makes of its point: leaf → ``before → now``."""
    now = sweep.resolve(overrides)
    epochs = flatten(now)[EPOCHS]
    if config_hash(now) in (trial.hash, config_hash(with_leaves(trial.config, {EPOCHS: epochs}))):
        return {}
    before, after = flatten(trial.config), flatten(now)
    return {
        key: f"{before.get(key, 'absent')} → {value}"
        for key, value in after.items()
        if before.get(key) != value and key not in ("seed", "data.root", "data.download", EPOCHS)
    }


def _control_numbers(sweep: Sweep, trials: list[RecordedTrial]) -> dict[str, int]:
    """The number of each control: the one it is recorded under, or the next free one."""
    recorded_as = {(trial.label, trial.number): trial for trial in trials if trial.kind == "control"}
    following = 1 + max((number for _, number in recorded_as), default=-1)
    numbers: dict[str, int] = {}
    for control in sweep.model.controls:
        alike = [
            number
            for (label, number), trial in recorded_as.items()
            if label == control.name and not _unlike(sweep, control.set, trial)
        ]
        if alike:
            numbers[control.name] = alike[0]
        else:
            numbers[control.name], following = following, following + 1
    return numbers


def _compared(
    sweep: Sweep,
    earlier: Sweep,
    record: Mapping[str, Any],
    changes: tuple[str, ...],
    drawn: Drawn,
    trials: list[RecordedTrial],
) -> Growth:
    """Decide what happens to each recorded trial."""
    found: dict[str, list[str]] = {
        name: [] for name in ("kept", "longer", "anew", "cancelled", "set_aside", "brought_back")
    }
    there = {trial.name for trial in trials if not trial.aside}
    ended = 0
    for trial in trials:
        asked = _asked(sweep, drawn, trial)
        if trial.aside and (not asked or trial.kind == "confirm" or trial.name in there):
            continue
        if not asked:
            found["set_aside" if trial.state.state in ENDED else "cancelled"].append(trial.name)
            continue
        found["kept"].append(trial.name)
        if trial.aside:
            found["brought_back"].append(trial.name)
        epochs = flatten(trial.config).get(EPOCHS)
        longer = EPOCHS not in sweep.search.space and epochs != _epochs(sweep, trial)
        if longer and not comes_to_the_same(trial.state) and trial.state.state in ENDED:
            found["longer" if goes_on(trial.config) and trial.state.extensible else "anew"].append(trial.name)
        elif trial.state.state in ENDED:
            ended += 1
    new = max(0, sweep.trials - len(found["kept"]))
    lists = {name: tuple(names) for name, names in found.items()}
    return Growth(record, changes, drawn, ended=ended, new=new, not_begun=_not_begun(sweep, earlier, trials), **lists)


def _epochs(sweep: Sweep, trial: RecordedTrial) -> Any:
    """How many epochs a trial must train for now; a control may set this itself."""
    control = next((each for each in sweep.model.controls if each.name == trial.label), None)
    return (control.set if control else {}).get(EPOCHS, sweep.base_leaves[EPOCHS])


def _asked(sweep: Sweep, drawn: Drawn, trial: RecordedTrial) -> bool:
    """Whether the sweep needs a recorded trial; which confirmations it needs is known only after the search."""
    if trial.kind == "confirm":
        return True
    if trial.seed not in sweep.search.all_seeds:
        return False
    if trial.kind == "control":
        numbers = drawn.controls
        return numbers is None or numbers.get(str(trial.label)) == trial.number
    return trial.number >= drawn.following or trial.number in drawn.points


def _not_begun(sweep: Sweep, earlier: Sweep, trials: list[RecordedTrial]) -> int:
    """How many planned trials of the search have not begun and are no longer needed."""
    seeds = earlier.search.first_seeds
    left = set(seeds) - set(sweep.search.all_seeds)
    begun = {(trial.number, trial.seed) for trial in trials if trial.kind == "search"}
    numbers = {number for number, _ in begun}
    half_begun = sum((number, seed) not in begun for number in numbers for seed in left)
    if earlier.search.sampler != "grid":
        return half_begun + max(0, earlier.configurations - len(numbers)) * len(left)
    done = {config_hash(trial.config) for trial in trials if trial.kind == "search"}
    points = [point for point in earlier.grid() if config_hash(earlier.resolve(point)) not in done]
    out = sum(point_of(sweep.search.space, flatten(earlier.resolve(point))) is None for point in points)
    return half_begun + out * len(seeds) + (len(points) - out) * len(left)
