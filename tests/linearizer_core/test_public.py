"""The library's public face: its names and no others, each with a docstring whose example gives what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
import torch

import linearizer_core
from linearizer_core import InducedSpace, InjectiveLinearizer, LinearDiffusion, Linearizer
from linearizer_core.operators import LinearOperator

PACKAGES = ["linearizer_core", *(f"linearizer_core.{name}" for name in ("flows", "operators", "metrics", "models"))]
MAIN = (InducedSpace, InjectiveLinearizer, LinearDiffusion, LinearOperator, Linearizer)


def without_example(package: str) -> list[str]:
    """The public classes and functions of a package whose own docstring has no example."""
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    return [name for name, value in public.items() if callable(value) and ">>>" not in (value.__doc__ or "")]


def without_docstring(cls: type) -> list[str]:
    """The public methods and properties that a class defines, and neither it nor its base classes say what they do."""
    members = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
    found = {name: value for name, value in members.items() if callable(value) or isinstance(value, property)}
    return [name for name in found if not inspect.getdoc(getattr(cls, name))]


def examples() -> tuple[int, list[str]]:
    """How many examples the modules of the library have, and doctest's report of those that fail."""
    count, report = 0, []
    for info in pkgutil.walk_packages(linearizer_core.__path__, "linearizer_core."):
        if info.name.startswith("linearizer_core.experiment"):
            continue
        module = importlib.import_module(info.name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            runner = doctest.DocTestRunner(verbose=False)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                runner.run(test, out=report.append)
            count += runner.tries
    return count, report


def test_every_public_name_has_an_example_and_every_example_gives_what_it_says() -> None:
    assert {package: without_example(package) for package in PACKAGES} == {package: [] for package in PACKAGES}
    assert {cls.__name__: without_docstring(cls) for cls in MAIN} == {cls.__name__: [] for cls in MAIN}
    count, report = examples()
    assert not report, "".join(report)
    assert count > 200


def test_the_public_names_and_no_others_are_shown() -> None:
    for package in PACKAGES:
        module = importlib.import_module(package)
        assert len(set(module.__all__)) == len(module.__all__), package
        assert all(hasattr(module, name) for name in module.__all__), package
    assert dir(linearizer_core) == linearizer_core.__all__
    assert {"Linearizer", "InducedSpace", "flows", "operators", "metrics", "models"} <= set(dir(linearizer_core))


@pytest.mark.parametrize("module", ["linearizer_core", "linearizer_core.experiment.journal"])
def test_what_reads_a_record_is_imported_without_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
