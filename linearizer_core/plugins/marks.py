"""Decorators that give a function or class a name for use in configurations, and the registrations they create.

A decorator marks what it decorates and keeps no list: code that loads a module looks for the marks in it.
"""

from __future__ import annotations

import inspect
import keyword
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.settings import check_settings

Kind = Literal[
    "family", "operator", "flow", "conditioner", "metric", "data set", "sampler", "callback", "function",
]  # fmt: skip
Thing = TypeVar("Thing", bound=Callable[..., Any])


class Mark(Protocol):
    """A decorator that returns what it decorates."""

    def __call__(self, thing: Thing, /) -> Thing: ...


MARK = "_linsweep_registrations"


@dataclass(frozen=True)
class Registration:
    """A name and what it stands for: ``make`` is the function or class, ``settings`` the type of its settings.

    ``file`` and ``line`` are where it is defined. ``options`` are the decorator's.
    """

    kind: Kind
    name: str
    make: Callable[..., Any]
    settings: type[Any] | None
    file: str
    line: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The file and line."""
        return f"{self.file}:{self.line}"

    def call(self, section: Any = None, /, **given: Any) -> Any:
        """Call ``make`` with those given arguments that it takes, and with its settings from ``section``, if any."""
        if self.settings is not None and section is not None:
            given["settings"] = getattr(section, self.name)
        return self.make(**{name: value for name, value in given.items() if name in parameters(self.make)})


Names = Mapping[str, Registration]
"""Registrations of one kind, by name."""


def registrations(thing: Any) -> tuple[Registration, ...]:
    """The marks of a function or class itself; a subclass does not inherit those of its base."""
    found: tuple[Registration, ...] = getattr(thing, "__dict__", {}).get(MARK, ())
    return found


def table(*things: Any) -> dict[str, Registration]:
    """The registrations of marked functions and classes by name.

    >>> @data_set("stripes")
    ... def drawn():
    ...     ...
    >>> table(drawn)["stripes"].kind
    'data set'
    """
    return {each.name: each for thing in things for each in registrations(thing)}


def parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, or of a class's constructor."""
    return inspect.signature(make).parameters


def settings_of(make: Callable[..., Any], parameter: str = "settings") -> type[Any] | None:
    """The annotated type of a parameter; None if there is no such parameter.

    Raises ``PluginError`` if the parameter has no type, or one that a spec cannot express.
    """
    found = parameters(make).get(parameter)
    if found is None:
        return None
    if found.annotation is inspect.Parameter.empty:
        raise PluginError(f"{parameter} of {_called(make)} has no type; annotate it with a frozen dataclass")
    hint = found.annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, vars(sys.modules[make.__module__]))
        except NameError as error:
            raise PluginError(f"{parameter} of {_called(make)}: {error}; define the dataclass above it") from None
    check_settings(hint)
    return hint


def family(name: str | None = None) -> Mark:
    """A model and how it is trained and measured: a class that derives from ``Family``, or a function that returns one.

    A class's constructor may take ``settings`` and ``config``, the trial's configuration.

    >>> from linearizer_core.experiment.families import Idempotent
    >>> @family()
    ... class projector(Idempotent):
    ...     pass
    >>> table(projector)["projector"].make is projector
    True
    """
    return _decorator("family", name, _is_family)


def operator(name: str | None = None, *, family: str = "", ranked: bool = False) -> Mark:
    """The linear core of a family: a function of ``dim``, or of ``event``, the images' shape.

    It may also take ``rank``, ``flow`` (the ``FlowConfig``) and ``settings``.

    It returns the module that the family needs: a ``TimeOperator`` for ``diffusion``, an ``OperatorModule`` for
    ``style``, a projection for ``idempotent``. ``ranked`` says that ``model.operator.rank`` bounds its rank.

    >>> from linearizer_core import operators
    >>> @operator(family="style")
    ... def scales(dim: int):
    ...     return operators.diagonal(dim)
    >>> table(scales)["scales"].options["family"]
    'style'
    """

    def check(thing: Any) -> str | None:
        if not family:
            return "needs a family; write, for instance, @operator(family='style')"
        return _takes(thing, "event" if "event" in parameters(thing) else "dim")

    return _decorator("operator", name, check, family=family, ranked=ranked)


def flow(name: str | None = None) -> Mark:
    """An invertible network: a function of ``event`` that returns an ``Invertible`` from images to ``(batch, dim)``.

    ``event`` is ``(channels, height, width)``. It may also take ``config`` (the ``FlowConfig``) and ``settings``.

    >>> from linearizer_core import flows
    >>> @flow()
    ... def plain(event):
    ...     return flows.linear(event)
    >>> table(plain)["plain"].kind
    'flow'
    """
    return _decorator("flow", name, lambda thing: _takes(thing, "event"))


def conditioner(name: str | None = None, *, on: Literal["vectors", "images"] = "vectors") -> Mark:
    """The network inside couplings: a function of the channel counts ``inputs`` and ``outputs`` that returns a
    ``Conditioner``.

    It may also take ``width``, ``activation``, ``labelled`` and ``settings``. ``on`` says whether it maps
    ``(batch, inputs)`` or ``(batch, inputs, height, width)``.

    >>> from linearizer_core.flows.conditioners import MLP
    >>> @conditioner()
    ... def wide(inputs: int, outputs: int, width: int, activation: str):
    ...     return MLP(inputs, outputs, width=2 * width, activation=activation)
    >>> table(wide)["wide"].options["on"]
    'vectors'
    """

    def check(thing: Any) -> str | None:
        if on not in ("vectors", "images"):
            return f"on must be vectors or images, got {on!r}"
        return _takes(thing, "inputs", "outputs")

    return _decorator("conditioner", name, check, on=on)


def metric(
    name: str | None = None,
    *,
    better: Literal["min", "max"] = "min",
    of: Literal["images", "classifier", "imagenet", "inception"] = "images",
    names: tuple[str, ...] = (),
) -> Mark:
    """A measure of generated images: a function of ``samples`` and ``real`` that returns a number.

    ``of`` says what the two are: images ``(count, channels, height, width)`` in [-1, 1], or features
    ``(count, features)`` of the data set's classifier, of a network trained on ImageNet, or of Inception. ``better`` is
    ``max`` if higher values are better. With ``names`` the function returns a mapping with a number for each of several
    names, which are computed together.

    >>> @metric(better="max")
    ... def contrast(samples, real):
    ...     return float(samples.std())
    >>> table(contrast)["contrast"].options["better"]
    'max'
    """

    def check(thing: Any) -> str | None:
        if better not in ("min", "max"):
            return f"better must be min or max, got {better!r}"
        if of not in ("images", "classifier", "imagenet", "inception"):
            return f"of must be images, classifier, imagenet or inception, got {of!r}"
        return _takes(thing, "samples", "real")

    return _decorator("metric", name, check, names, better=better, of=of)


def data_set(name: str | None = None, *, find: Callable[..., Any] | None = None) -> Mark:
    """A data set of your own: a function that returns ``images``, or ``(images, labels)``.

    ``images`` are a uint8 array or tensor ``(n, h, w)``, or with 1 or 3 channels last or first; ``labels`` ``(n,)`` are
    whole numbers from 0. They are split 80 / 10 / 10 % by the fixed shuffle. The function may take ``root`` (the path
    in ``data.root``), ``size`` and ``settings``. ``find`` returns the files that it would read.

    >>> import numpy as np
    >>> @data_set()
    ... def grey():
    ...     return np.zeros((100, 8, 8), np.uint8)
    >>> table(grey)["grey"].make().shape
    (100, 8, 8)
    """
    return _decorator("data set", name, _is_function, find=find)


def sampler(name: str | None = None) -> Mark:
    """A way to choose configurations: a function of ``seed`` that returns an Optuna sampler.

    >>> @sampler()
    ... def sobol(seed: int):
    ...     import optuna
    ...     return optuna.samplers.QMCSampler(seed=seed)
    >>> table(sobol)["sobol"].kind
    'sampler'
    """
    return _decorator("sampler", name, lambda thing: _takes(thing, "seed"))


def callback(name: str | None = None) -> Mark:
    """Code that runs during training: a class that derives from ``Callback``, instantiated for each trial.

    >>> from linearizer_core.experiment.callbacks import Callback
    >>> @callback()
    ... class norms(Callback):
    ...     def epoch(self, epoch, metrics, model):
    ...         return {"norm": float(sum(p.norm() for p in model.parameters()))}
    >>> table(norms)["norms"].kind
    'callback'
    """
    return _decorator("callback", name, _is_callback)


def _decorator(
    kind: Kind,
    name: str | None,
    check: Callable[[Any], str | None],
    names: tuple[str, ...] = (),
    **options: Any,
) -> Mark:
    word = f"@{kind.replace(' ', '_')}"
    if name is not None and not isinstance(name, str):
        raise PluginError(f"{word} above {_called(name)}: write {word}(), with parentheses")

    def mark(thing: Any) -> Any:
        wrong = "must decorate a function or class" if not callable(thing) else check(thing)
        if wrong:
            raise PluginError(f"{word} above {_called(thing)}: {wrong}")
        settings = settings_of(thing)
        code = getattr(thing, "__code__", None)
        line = code.co_firstlineno if code else _line_of(thing)
        file = code.co_filename if code else inspect.getfile(thing)
        made = tuple(
            Registration(kind, each, thing, settings, file, line, options)
            for each in names or (name or thing.__name__,)
        )
        for each in made:
            _check_name(word, each.name)
        setattr(thing, MARK, (*registrations(thing), *made))
        return thing

    return mark


def _line_of(cls: type[Any]) -> int:
    """The line of a class: that of its first method, if nothing better is known."""
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 1


def _check_name(word: str, name: str) -> None:
    # The name becomes a key of a spec, and part of the names of metrics.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or keyword.iskeyword(name):
        raise PluginError(
            f"{word}: {name!r} is not a valid name; use letters, digits, _ and -, beginning with a letter"
        )


def _takes(thing: Any, *needed: str) -> str | None:
    """What is wrong with a callable that must take certain keyword arguments."""
    known = parameters(thing)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        return "must name its parameters instead of taking **keywords"
    missing = [name for name in needed if name not in known]
    if missing:
        return f"must take {' and '.join(needed)}, but its parameters are {', '.join(known) or 'none'}"
    return None


def _is_function(thing: Any) -> str | None:
    return "must be a function that returns images, not a class" if isinstance(thing, type) else None


def _is_family(thing: Any) -> str | None:
    """What is wrong with a family. Compares names of bases, since the class itself is built on configurations."""
    if not isinstance(thing, type):
        return None
    missing = sorted(getattr(thing, "__abstractmethods__", ()))
    if not any(base.__name__ == "Family" for base in thing.__mro__[1:]):
        return "must be a class that derives from linearizer_core.experiment.families.Family"
    return f"must be a complete family; it lacks {', '.join(missing)}" if missing else None


def _is_callback(thing: Any) -> str | None:
    derives = isinstance(thing, type) and any(base.__name__ == "Callback" for base in thing.__mro__[1:])
    return None if derives else "must be a class that derives from linearizer_core.experiment.callbacks.Callback"


def _called(thing: Any) -> str:
    return getattr(thing, "__name__", None) or repr(thing)
