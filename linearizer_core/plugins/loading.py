"""Plugins from files and installed packages, identified by a digest of their code and imported once per process."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from linearizer_core.files import write_whole
from linearizer_core.plugins.errors import PluginError, located
from linearizer_core.plugins.marks import Registration, registrations

GROUP = "linsweep.plugins"
"""Entry-point group under which installed packages offer plugins."""
FOLDER = "plugins"
"""The folder within a sweep's folder that holds the code of its plugins."""
MODULES = "linsweep_plugins"
"""Prefix of the module names of plugin files. The digest follows, so that two files of one name are two modules."""


@dataclass(frozen=True)
class Plugin:
    """Code that registers names: a file, or the entry point of an installed package, with the digest of its contents.

    ``source`` is the text of a file, and None for a package, which must be installed wherever it is needed.
    """

    name: str
    digest: str
    module: ModuleType
    files: tuple[str, ...]
    source: bytes | None = None

    @property
    def ref(self) -> str:
        """The plugin's name in a configuration: ``mine.py@3f2a91c0b7de``."""
        return f"{self.name}@{self.digest}"

    @cached_property
    def registrations(self) -> tuple[Registration, ...]:
        """Every name that its module registers, in order of definition."""
        package = self.module.__name__.partition(".")[0]
        found: list[Registration] = []
        for thing in vars(self.module).values():
            own = str(getattr(thing, "__module__", "")).partition(".")[0] == package
            found += [each for each in registrations(thing) if own and each not in found]
        return tuple(found)


_LOADED: dict[str, Plugin] = {}
"""Plugins by ``ref``, hence by digest: code runs once, and a configuration is affected only by plugins that it names.

"""


def of_file(path: Path) -> Plugin:
    """The plugin in a Python file; raises ``PluginError`` naming the wrong file and line."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(f"{path}: cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(source).hexdigest()[:12]
    ref = f"{path.name}@{digest}"
    if ref not in _LOADED:
        module = _run(path, source, f"{MODULES}.{path.stem}_{digest}")
        _LOADED[ref] = Plugin(path.name, digest, module, (str(path),), source)
    return _LOADED[ref]


def _run(path: Path, source: bytes, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules.setdefault(MODULES, ModuleType(MODULES))
    sys.modules[name] = module  # before it runs: dataclasses look up their annotations there
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except SyntaxError as error:
        del sys.modules[name]
        place = error.lineno if error.filename == str(path) else None
        raise PluginError(f"{path}:{place or 1}: not valid Python: {error.msg}") from None
    except Exception as error:
        del sys.modules[name]
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = "; install it, or turn a plugin of several files into a package with an entry point"
        raise PluginError(f"{located(error, frozenset({str(path)}))}{hint}") from error
    return module


def of_entry_point(name: str) -> Plugin:
    """The plugin that an installed package offers under a name; raises ``PluginError`` if there is none."""
    offered = {each.name: each for each in metadata.entry_points(group=GROUP)}
    if name not in offered:
        known = f"; installed: {', '.join(sorted(offered))}" if offered else "; no installed package offers plugins"
        raise PluginError(f"{name}: there is no file and no installed plugin of this name{known}")
    value = offered[name].value
    try:
        module = import_module(value)
    except Exception as error:
        raise PluginError(f"{name}: {value} cannot be imported: {type(error).__name__}: {error}") from error
    files = _files_of(module)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    plugin = Plugin(name, digest.hexdigest()[:12], module, tuple(map(str, files)))
    return _LOADED.setdefault(plugin.ref, plugin)


def _files_of(module: ModuleType) -> list[Path]:
    """The Python files of the package that contains a module, or the file of the module alone."""
    top = sys.modules[module.__name__.partition(".")[0]]
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    if not folders:
        return [Path(str(module.__file__))]
    return sorted(file for folder in folders for file in folder.rglob("*.py"))


def of_text(text: str, folders: Sequence[Path]) -> Plugin:
    """The plugin that a spec names: a file, looked for in ``folders`` in turn, or an installed plugin's name.

    A plugin that is already loaded can be named by its ``ref``. Raises ``PluginError`` if nothing is found.
    """
    if text in _LOADED:
        return _LOADED[text]
    path = Path(text).expanduser()
    if path.suffix != ".py" and len(path.parts) == 1 and not text.startswith("."):
        return of_entry_point(text)
    places = [folder / path for folder in folders] if not path.is_absolute() else [path]
    for place in places:
        if place.is_file():
            return of_file(place.resolve())
    if path.suffix != ".py":
        raise PluginError(
            f"{text}: a plugin must be a Python file, such as ./mine.py, or the name of an installed plugin"
        )
    raise PluginError(f"{text}: no such file in {' or '.join(str(folder.absolute()) for folder in folders)}")


def ensure(refs: Iterable[str], folder: Path | None = None) -> None:
    """Load every plugin of a configuration, from the copies that ``keep`` wrote into a folder.

    Raises ``PluginError`` if one is missing, or if another version of it is installed.
    """
    for ref in refs:
        if ref in _LOADED:
            continue
        name, _, digest = ref.rpartition("@")
        if not name.endswith(".py"):
            found = of_entry_point(name)
            if found.digest != digest:
                raise PluginError(
                    f"plugin {name}: its code has changed: {found.digest} is installed, but {digest} is needed; "
                    "install that version"
                )
            continue
        path = None if folder is None else kept(folder, ref)
        if path is None or not path.is_file():
            where = "" if path is None else f" at {path}"
            raise PluginError(f"plugin {ref}: its code is missing{where}; pass its file, or put it there")
        copy = of_file(path)
        if copy.digest != digest:
            raise PluginError(f"plugin {ref}: {path} was changed: its digest is now {copy.digest}")


def keep(refs: Iterable[str], folder: Path) -> None:
    """Write the code of those loaded plugins that are files into a folder, where ``ensure`` finds it."""
    for ref in refs:
        plugin = _LOADED[ref]
        path = kept(folder, ref)
        if plugin.source is not None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, plugin.source)


def kept(folder: Path, ref: str) -> Path:
    """The path of a plugin's code within a folder."""
    name, _, digest = ref.rpartition("@")
    return folder / digest / name


def loaded(refs: Iterable[str]) -> list[Plugin]:
    """The plugins of a configuration; raises ``PluginError`` if one has not been loaded."""
    refs = list(refs)
    missing = [ref for ref in refs if ref not in _LOADED]
    if missing:
        raise PluginError(f"needs the plugin{'s' if len(missing) > 1 else ''} {', '.join(missing)}, not loaded here")
    return [_LOADED[ref] for ref in refs]


def files_of(refs: Iterable[str]) -> frozenset[str]:
    """The files of some plugins, by whose lines errors are located."""
    return frozenset(file for ref in refs if ref in _LOADED for file in _LOADED[ref].files)
