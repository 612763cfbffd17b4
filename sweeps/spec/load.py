"""Load a sweep's spec: one YAML file, validated completely before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from linearizer_core.experiment.function import refs_of
from linearizer_core.experiment.nested import flatten, with_leaves
from linearizer_core.experiment.recipes import expand, of_then
from linearizer_core.plugins.errors import PluginError, told
from linearizer_core.plugins.loading import FOLDER, ensure, files_of
from sweeps.spec.checks import check
from sweeps.spec.model import Sweep
from sweeps.spec.plugins import model_for, with_plugins
from sweeps.spec.space import Dimension
from sweeps.spec.validation import InputError, Problem, problems_of, suggestion, untagged, without
from sweeps.spec.yaml_text import document, parsed

Overrides = Mapping[str, Any] | Sequence[str]
"""Dotted leaf → value, or texts ``key=value`` with the value in YAML, as ``--set`` takes them; a single text is one."""


def shipped() -> dict[str, Path]:
    """The specs that ship with the package, by name."""
    return {path.stem: path for path in sorted(Path(str(files("sweeps") / "specs")).glob("*.yaml"))}


def load(spec: str, overrides: Overrides = (), profile: str | None = None) -> Sweep:
    """The sweep of a file, or of a shipped spec by name, with a profile and overrides applied.

    Raises ``InputError`` with all problems found.
    """
    overrides = _listed(overrides)
    path = shipped().get(spec, Path(spec))
    source = str(path) if spec not in shipped() else path.name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot be read ({error.strerror}); shipped specs: {suggestion(spec, shipped())}"
        raise InputError(source, [Problem("", message)]) from None
    except UnicodeDecodeError as error:
        raise InputError(source, [Problem("", f"is not UTF-8 text: {error.reason} at byte {error.start}")]) from None
    values, found = document(text, source)
    under, of_profile = _under(values, profile)
    folders = (path.parent, Path())
    sweep = _sweep(under, source, overrides, found, of_profile, folders)
    wrong = _profile_problems(values, sweep, overrides, folders) if profile is None else []
    if wrong:
        raise InputError(source, wrong)
    return sweep


def recorded(
    record: Mapping[str, Any],
    folder: Path,
    overrides: Overrides = (),
    *,
    to_run: bool = True,
    storage: str | None = None,
) -> Sweep:
    """The sweep of a sweep.json in its current folder, with overrides applied.

    Without ``to_run`` it is only looked at, perhaps on a machine without its data: whether it could run is not checked.
    ``storage`` is where it continues, if not where it is read from. Raises ``InputError`` with all problems found.
    """
    overrides = _listed(overrides)
    place = str(folder.parent)
    # A folder of that name, not a home folder.
    values = {**of_then(record["spec"]), "storage": storage or (f"./{place}" if place.startswith("~") else place)}
    source = str(folder / "sweep.json")
    try:
        ensure(refs_of(values), folder / FOLDER)
    except PluginError as error:
        raise InputError(source, [Problem("plugins", str(error))]) from None
    sweep = _sweep(values, source, overrides, [], [], (Path(),), to_run=to_run)
    elsewhere = any(text.partition("=")[0] in ("storage", "name") for text in overrides)
    return sweep if elsewhere or storage else replace(sweep, place=folder)


def _sweep(
    values: dict[str, Any],
    source: str,
    overrides: Overrides,
    found: list[Problem],
    of_profile: list[Problem],
    folders: Sequence[Path],
    *,
    to_run: bool = True,
) -> Sweep:
    """The validated sweep of a spec's values; ``found`` has the problems of its text, ``of_profile`` of its profile.

    Plugins are looked for in ``folders``. Their problems are reported alone: without the names that they register,
    nothing else can be checked.
    """
    values, more = _apply(values, overrides)
    values, wrong = with_plugins(values, folders)
    if wrong:
        raise InputError(source, wrong)
    more = of_profile + more
    if "seed" in values:
        more.append(Problem("seed", "is not a key of a sweep; list seeds in search.seeds"))
        values = without(values, ["seed"])
    values = _expanded(values)
    kind = model_for(values)
    try:
        model = kind.model_validate(values)
    except ValidationError as error:
        found += more + problems_of(error, kind)
        raise InputError(source, found + _beyond(values, error, found)) from None
    sweep = Sweep(model, source)
    found += more + (_checked(sweep) if to_run else [])
    if found:
        raise InputError(source, found)
    return _typed(sweep)


def _expanded(values: dict[str, Any]) -> dict[str, Any]:
    """A spec's values on top of its recipe's; a function has no recipe."""
    return values if "function" in values else expand(values)


def _checked(sweep: Sweep) -> list[Problem]:
    """The problems that ``check`` finds, and the error that a plugin raises in it."""
    try:
        with told(files_of(sweep.plugins)):
            return check(sweep)
    except PluginError as error:
        return [Problem("plugins", str(error))]


def _typed(sweep: Sweep) -> Sweep:
    """The sweep with every listed value in its leaf's type: YAML reads 1e-3 as text and 1 as an integer."""

    def typed(name: str, value: Any) -> Any:
        return flatten(sweep.resolve({name: value}))[name]

    def typed_dimension(name: str, dimension: Dimension) -> Dimension:
        when = {
            other: tuple(typed(other, v) for v in wanted) if isinstance(wanted, tuple) else typed(other, wanted)
            for other, wanted in dimension.when.items()
        }
        lists = {
            kind: tuple(typed(name, value) for value in listed)
            for kind, listed in (("choice", dimension.choice), ("grid", dimension.grid))
            if listed is not None
        }
        default = None if dimension.default is None else typed(name, dimension.default)
        return dimension.model_copy(update={"when": when, "default": default, **lists})

    space = {name: typed_dimension(name, dimension) for name, dimension in sweep.search.space.items()}
    controls = tuple(
        control.model_copy(update={"set": {name: typed(name, value) for name, value in control.set.items()}})
        for control in sweep.model.controls
    )
    first = tuple({name: typed(name, value) for name, value in point.items()} for point in sweep.search.first)
    search = sweep.search.model_copy(update={"space": space, "first": first})
    return Sweep(sweep.model.model_copy(update={"search": search, "controls": controls}), sweep.source)


def _listed(overrides: Overrides) -> Overrides:
    """The overrides as a list; a single text is one override, not a sequence of letters."""
    return [overrides] if isinstance(overrides, str) else overrides


def _apply(values: dict[str, Any], overrides: Overrides) -> tuple[dict[str, Any], list[Problem]]:
    """The values with overrides applied; a key in the space may contain dots."""
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            values = _with(values, key, value)
        return values, []
    found = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            found.append(Problem(f"--set {text}", "must read key=value, such as train.lr=1e-4"))
            continue
        try:
            leaf = parsed(value)
        except ValueError as error:
            found.append(Problem(f"--set {key}", f"{value!r} is not a YAML value: {error}"))
            continue
        values = _with(values, key, leaf)
    return values, found


def _with(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The values with one leaf set; keys in the space contain dots themselves."""
    prefix = "search.space."
    if not key.startswith(prefix):
        return with_leaves(values, {key: value})
    search = values.get("search")
    search = dict(search) if isinstance(search, dict) else {}
    space = search.get("space")
    search["space"] = {**(space if isinstance(space, dict) else {}), key.removeprefix(prefix): value}
    return {**values, "search": search}


def _under(values: dict[str, Any], profile: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """The values with a profile's leaves set, and its name appended to the sweep's."""
    if profile is None:
        return values, []
    profiles = values.get("profiles")
    known = profiles if isinstance(profiles, dict) else {}
    if profile not in known:
        hint = suggestion(profile, map(str, known)) if known else "the spec has none"
        return values, [Problem("profiles", f"there is no profile {profile}; {hint}")]
    if "name" in values:
        values = {**values, "name": f"{values['name']}-{profile}"}
    # A profile that is not a mapping is reported when the whole spec is validated.
    leaves = known[profile] if isinstance(known[profile], dict) else {}
    for key, value in leaves.items():
        values = _with(values, str(key), value)
    return values, []


def _profile_problems(
    values: dict[str, Any], sweep: Sweep, overrides: Overrides, folders: Sequence[Path]
) -> list[Problem]:
    """The problems with the profiles that were not chosen.

    A profile with other data than the spec is only checked as far as possible without them: they may be elsewhere.
    """
    found = []
    for name in map(str, sweep.model.profiles):
        under, problems = with_plugins(_apply(_under(values, name)[0], overrides)[0], folders)
        if not problems:
            under, kind = _expanded(under), model_for(under)
            try:
                other = Sweep(kind.model_validate(under), sweep.source)
                problems = _checked(other) if other.base.get("data") == sweep.base.get("data") else []
            except ValidationError as error:
                problems = problems_of(error, kind)
        found += [Problem(f"profiles.{name}.{problem.key}", problem.message) for problem in problems]
    return found


def _beyond(values: dict[str, Any], error: ValidationError, reported: Sequence[Problem]) -> list[Problem]:
    """The further problems that ``check`` finds in an invalid spec once its invalid parts are removed."""
    given = isinstance(values.get("search"), dict)
    for _ in range(4):
        for detail in error.errors(include_url=False):
            # A dimension with a part removed cannot be checked: remove all of it.
            place = untagged(detail["loc"])
            values = without(values, place[:3] if place[:2] == ("search", "space") else place)
        values = {"name": "unnamed", **values}
        search = values.get("search")
        values["search"] = search = dict(search) if isinstance(search, dict) else {"trials": 1}
        if not search.get("space"):
            search["space"] = {"train.epochs": {"int": [1, 2]}}
        try:
            model = model_for(values).model_validate(values)
        except ValidationError as next_error:
            error = next_error
            continue
        keys = {problem.key for problem in reported}
        beyond = [problem for problem in _checked(Sweep(model, "")) if problem.key not in keys]
        # The search was made up here: ignore its problems.
        return beyond if given else [problem for problem in beyond if not problem.key.startswith("search")]
    return []
