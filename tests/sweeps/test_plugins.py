"""Plugins in sweeps: each example is launched, faults are told by file and line, and the record keeps the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

import linsweep as ls
from analysis.configuration.objective import own_direction
from linearizer_core.experiment.checkpoint import CheckpointError, load
from linearizer_core.experiment.data import load as load_data
from linearizer_core.experiment.journal import TrialState, state_of
from linearizer_core.plugins.loading import of_file
from sweeps.spec.load import load as load_spec
from sweeps.spec.validation import InputError
from tests.sweeps.offline import offline

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"

SMALL: dict[str, Any] = {
    "name": "own",
    "data": {"name": "digits", "images": 200},
    "model": {"flow": {"depth": 1, "width": 8}, "operator": {"kind": "affine", "rank": 2}},
    "train": {"epochs": 2, "batch_size": 100},
    "evaluate": {"quality": ["swd"], "samples": 32, "steps": [1, 2]},
    "search": {
        "sampler": "random",
        "trials": 1,
        "space": {"train.lr": {"float": [0.001, 0.002]}},
        "objective": {"quality/swd_collapsed": "min"},
    },
    "resources": {"retries": 0},
}
STYLE = {
    "family": "style",
    "model": {"flow": {"depth": 1, "width": 8}, "operator": {"kind": "tied", "tied": {"groups": 3}}},
    "search": {**SMALL["search"], "objective": {"quality/psnr_collapsed": "max"}},
}
DENOISER = {
    "family": "denoiser",
    "denoiser": {"sigma": 0.2},
    "model": {"flow": {"depth": 1, "width": 8}, "operator": {"kind": "projection", "rank": 4}},
}


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``spec(text=…, {key: value})`` writes a plugin, ``mine.py``, and a small spec that names it."""
    monkeypatch.chdir(tmp_path)

    def write(code: str, changes: Mapping[str, Any] | None = None, name: str = "spec.yaml") -> Path:
        (tmp_path / "mine.py").write_text(code)
        path = tmp_path / name
        path.write_text(yaml.safe_dump({**SMALL, "plugins": ["./mine.py"], **(changes or {})}, sort_keys=False))
        return path

    return write


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text()


def evaluated(**more: Any) -> dict[str, Any]:
    return {"evaluate": {**SMALL["evaluate"], **more}}


def trial(folder: Path, name: str = "t000-s0") -> TrialState:
    return state_of(folder / "journal" / f"{name}.jsonl")


def finished(path: Path) -> tuple[Path, TrialState]:
    """The folder of a launched spec, and its first trial, which has finished."""
    result = ls.launch(path, debug=True)
    found = trial(result.sweep.folder)
    assert found.state == "finished", found.reason
    return result.sweep.folder, found


KINDS: dict[str, dict[str, Any]] = {
    "metric": evaluated(quality=["swd", "sharpness"], sharpness={"radius": 2}),
    "data_set": {"data": {"name": "stripes", "stripes": {"period": 3}}},
    "flow": {"model": {"flow": {"kind": "skewed"}, "operator": {"kind": "affine", "rank": 2}}},
    "conditioner": {"model": {"flow": {"depth": 1, "width": 8, "conditioner": "residual", "frame": "pixels"},
                              "operator": {"kind": "affine", "rank": 2}}},
    "operator": STYLE,
    "family": DENOISER,
    "sampler": {"search": {**SMALL["search"], "sampler": "even", "even": {"kind": "halton"}}},
    "callback": {"callbacks": ["weights"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_of_each_kind_is_carried_out(kind: str, spec: Callable[..., Path]) -> None:
    folder, found = finished(spec(example(kind), KINDS[kind]))
    assert found.head is not None
    plugin = of_file((folder.parents[1] / "mine.py").resolve())
    assert found.head["config"]["plugins"] == [plugin.ref]
    assert (folder / "plugins" / plugin.digest / "mine.py").read_text() == example(kind)
    checkpoint = folder / "artifacts" / "t000-s0" / "checkpoint"
    model, config = load(checkpoint)
    if kind == "metric":
        assert {"quality/sharpness_collapsed", "test/sharpness_sampled", "quality/sharpness_k2"} <= set(found.metrics)
        assert found.metrics["quality/sharpness_collapsed"] > 0
    elif kind == "data_set":
        data = load_data(config.data)
        assert (data.classes, data.event, len(data.train)) == (2, (1, 8, 8), 800)
        # One label runs along the rows, and the other across them.
        columns = data.validation[data.validation_labels == 1][:, 0].std(1).mean()
        rows = data.validation[data.validation_labels == 0][:, 0].std(1).mean()
        assert rows > 2 * columns
    elif kind == "flow":
        assert any("log_tail" in name for name in model.state_dict())
    elif kind == "conditioner":
        assert any("direct.weight" in name for name in model.state_dict())
    elif kind == "operator":
        values = [value for name, value in model.state_dict().items() if name.endswith("values")]
        assert {tuple(value.shape) for value in values} == {(3,)}
    elif kind == "family":
        assert found.metrics["quality/denoised_psnr"] > 5
        assert "train/denoising" in found.epochs[1]["metrics"]
    elif kind == "sampler":
        assert found.head["overrides"]["train.lr"] == _halton()
    else:
        largest = max(float(value.detach().abs().max()) for _, value in model.named_parameters())
        assert found.metrics["weights/largest"] == pytest.approx(largest)
        assert [found.epochs[epoch]["metrics"]["train/weights/norm"] > 0 for epoch in (1, 2)] == [True, True]
        assert "weights" in found.artifacts
        assert (folder / "artifacts" / "t000-s0" / "weights" / "largest.txt").read_text().count("\n") == 9


def _halton() -> float:
    """The first point of the sampler's sequence in the space, by Optuna itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(qmc_type="halton", scramble=True, seed=0)
    study = optuna.create_study(sampler=sampler)
    return study.ask().suggest_float("train.lr", 0.001, 0.002)


def test_the_page_shows_what_the_examples_are(spec: Callable[..., Path], tmp_path: Path) -> None:
    page = (EXAMPLES.parent / "plugins.md").read_text()
    fragment, function = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    shown, part = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown in example("metric")
    assert part.partition("...")[0].strip() in example("objective")
    search = {**SMALL["search"], **fragment["search"]}
    spec("")
    (tmp_path / "metric.py").write_text(shown)
    (tmp_path / "page.yaml").write_text(yaml.safe_dump({**SMALL, **fragment, "search": search}))
    assert load_spec(str(tmp_path / "page.yaml")).search.objective == {"quality/sharpness_collapsed": "max"}
    (tmp_path / "objective.py").write_text(example("objective"))
    (tmp_path / "function.yaml").write_text(yaml.safe_dump(function))
    assert load_spec(str(tmp_path / "function.yaml")).trials == 90


def test_settings_are_searched_validated_and_told(spec: Callable[..., Path]) -> None:
    search = {
        **SMALL["search"],
        "trials": 2,
        "sampler": "grid",
        "space": {"evaluate.sharpness.radius": {"grid": [1, 3]}},
    }
    path = spec(example("metric"), {**evaluated(quality=["swd", "sharpness"]), "search": search})
    key = ls.schema("evaluate.sharpness.radius", spec=path).keys[0]
    assert (key.type, key.bounds, key.default) == ("whole number", "≥ 1, ≤ 4", 1)
    assert "metric sharpness" in str(ls.plan(path)._repr_html_())
    result = ls.launch(path, debug=True)
    hashes = {trial(result.sweep.folder, name).identity.config_hash for name in ("t000-s0", "t001-s0")}  # type: ignore[union-attr]
    assert len(hashes) == 2
    runs = result.record.runs.query("kind == 'search'")
    assert sorted(runs["evaluate.sharpness.radius"]) == [1, 3]
    ways = [own_direction(result.record, f"test/{name}_sampled") for name in ("sharpness", "swd")]
    assert ways == ["max", "min"]
    with pytest.raises(ls.LinsweepError, match=re.escape("evaluate.sharpness.radius: must be less than or equal to 4")):
        ls.plan(path, set={"evaluate.sharpness.radius": 5})
    with pytest.raises(ls.LinsweepError, match=r"evaluate\.sharpness\.raduis: unknown key; did you mean .*radius"):
        ls.plan(path, set={"evaluate.sharpness.raduis": 2})


def test_a_changed_plugin_is_another_configuration(spec: Callable[..., Path]) -> None:
    path = spec(example("metric"), evaluated(quality=["swd", "sharpness"]))
    folder, found = finished(path)
    (folder.parents[1] / "mine.py").write_text(example("metric") + "\n# another\n")
    with pytest.raises(InputError, match=r"holds a sweep of this name with another spec \(plugins: .*mine\.py@"):
        ls.launch(path, debug=True)
    other = ls.launch(path, set={"name": "other"}, debug=True)
    again = trial(other.sweep.folder)
    assert again.identity is not None
    assert found.identity is not None
    assert again.identity.config_hash != found.identity.config_hash
    assert again.reused_from is None
    (folder.parents[1] / "mine.py").unlink()
    assert ls.resume("own", debug=True).state == "finished"  # by the code that it began with


def test_a_metric_that_is_better_the_larger_it_is_is_searched_so(spec: Callable[..., Path]) -> None:
    changes = evaluated(quality=["sharpness"])
    for way in ("max", "min"):
        search = {**SMALL["search"], "objective": {"quality/sharpness_collapsed": way}}
        path = spec(example("metric"), {**changes, "search": search})
        if way == "max":
            assert load_spec(str(path)).search.objective == {"quality/sharpness_collapsed": "max"}
        else:
            with pytest.raises(InputError, match="higher is better: write max, not min"):
                load_spec(str(path))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which no plugin has been loaded."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_another_process_takes_the_code_from_the_record(spec: Callable[..., Path]) -> None:
    folder, _ = finished(spec(example("flow"), KINDS["flow"]))
    place = folder.parents[1]
    (place / "mine.py").unlink()
    sampled = python(place, "-m", "linsweep", "sample", "own/t000-s0", "-n", "2", "--out", "made")
    assert sampled.returncode == 0, sampled.stderr
    assert (place / "made" / "own-t000-s0-seed0.npz").is_file()
    again = python(place, "-m", "linsweep", "reproduce", "own/t000-s0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "agrees with its record" in again.stdout
    code = "import sys; from linearizer_core.experiment.checkpoint import load; load(sys.argv[1])"
    bare = python(place, "-c", code, str(folder / "artifacts" / "t000-s0" / "checkpoint"))
    assert re.search(r"CheckpointError: .*config\.json: .*needs the plugin mine\.py@[0-9a-f]{12}", bare.stderr)


def test_a_checkpoint_takes_its_plugin_by_hand_and_no_other(spec: Callable[..., Path], tmp_path: Path) -> None:
    folder, _ = finished(spec(example("flow"), KINDS["flow"]))
    checkpoint = folder / "artifacts" / "t000-s0" / "checkpoint"
    config = json.loads((checkpoint / "config.json").read_text())
    config["config"]["plugins"] = ["mine.py@000000000000"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"needs the plugin mine\.py@000000000000, not loaded here"):
        load(checkpoint, plugins=[tmp_path / "mine.py"])


@pytest.mark.slow
def test_one_trial_alone_takes_plugins(spec: Callable[..., Path], tmp_path: Path) -> None:
    spec(example("data_set"))
    config = {key: SMALL[key] for key in ("model", "train", "evaluate")}
    (tmp_path / "trial.yaml").write_text(
        yaml.safe_dump({**config, "plugins": ["mine.py"], "data": {"name": "stripes"}})
    )
    done = python(tmp_path, "-m", "linearizer_core.experiment", "trial.yaml", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    (journal,) = (tmp_path / "runs" / "journal").iterdir()
    assert state_of(journal).state == "finished"
    wrong = python(tmp_path, "-m", "linearizer_core.experiment", "trial.yaml", "--set", "plugins=[gone.py]")
    assert wrong.returncode == 2
    assert re.search(r"trial\.yaml: gone\.py: no such file in", wrong.stderr)


def plugin(decorator: str, *lines: str, before: str = "") -> str:
    """A plugin whose decorator stands in line 4, or that many lines further down."""
    return f"{before}from linearizer_core import plugins\n\n\n{decorator}\n" + "\n".join(lines) + "\n"


def metric(value: str) -> str:
    return plugin("@plugins.metric()", "def mine(samples, real):", f"    return {value}")


SETTINGS = "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass S:\n    a: {}\n\n\n"
OF_MINE = evaluated(quality=["swd", "mine"])
MINE = {"data": {"name": "mine"}}

BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "syntax": ("x = (\n", {}, r"mine\.py:1: not valid Python: '\(' was never closed"),
    "import": (
        "import torch\nimport nothing_of_this_name\n",
        {},
        r"mine\.py:2: ModuleNotFoundError: No module named 'nothing_of_this_name'; install it, or turn a plugin of",
    ),
    "raises": ("def f():\n    return 1 / 0\n\n\nf()\n", {}, r"mine\.py:2: ZeroDivisionError: division by zero"),
    "taken": (
        metric("1.0").replace("mine", "swd"),
        {},
        r"mine\.py:4: metric swd: there already is a metric of this name; .* such as @metric\(name='my_swd'\)",
    ),
    "taken sampler": (
        plugin("@plugins.sampler()", "def tpe(seed):", "    return 1"),
        {},
        r"mine\.py:4: sampler tpe: a sampler or a key of search already has this name",
    ),
    "wrong type": (
        plugin("@plugins.family()", "class mine:", "    pass"),
        {},
        r"mine\.py:4: @family above mine: must be a class that derives from .*Family",
    ),
    "wrong parameters": (
        plugin("@plugins.metric()", "def mine(images):", "    return 1"),
        {},
        r"mine\.py:4: @metric above mine: must take samples and real, but its parameters are images",
    ),
    "brackets": (
        plugin("@plugins.data_set", "def mine():", "    return 1"),
        {},
        r"mine\.py:4: @data_set above mine: write @data_set\(\), with parentheses",
    ),
    "no type": (
        plugin("@plugins.data_set()", "def mine(settings):", "    return 1"),
        {},
        r"mine\.py:4: settings of mine has no type; annotate it with a frozen dataclass",
    ),
    "no default": (
        plugin("@plugins.data_set()", "def mine(settings: S):", "    return 1", before=SETTINGS.format("int")),
        {},
        r"mine\.py:12: settings S\.a: has no default; give one, such as a = setting",
    ),
    "unsayable": (
        plugin("@plugins.data_set()", "def mine(settings: S):", "    return 1", before=SETTINGS.format("dict = None")),
        {},
        r"mine\.py:12: settings S\.a: type dict is not supported; use bool, int, float, str",
    ),
    "shape": (
        plugin("@plugins.data_set()", "def mine():", "    return np.zeros((100, 8))", before="import numpy as np\n"),
        MINE,
        r"data: mine: images of .*mine\.py:5 must be uint8 of shape \(n, h, w\).*, got float64 of shape \(100, 8\)",
    ),
    "data raises": (
        plugin("@plugins.data_set()", "def mine():", "    return open('gone')"),
        MINE,
        r"mine\.py:6: FileNotFoundError: .*gone",
    ),
    "nan": (
        metric("float('nan')"),
        OF_MINE,
        r"evaluate\.quality: .*mine\.py:4: metric mine must return a finite number for finite images, got nan",
    ),
    "no number": (metric("'good'"), OF_MINE, r"mine\.py:4: metric mine must return a finite number .* got str"),
    "metric raises": (metric("samples @ 1"), OF_MINE, r"evaluate\.quality: .*mine\.py:6: TypeError: "),
    "log-determinant": (
        example("flow").replace("inner.cosh().log()", "inner.cosh().log() + 1.0"),
        KINDS["flow"],
        r"model\.flow\.kind: .*mine\.py:\d+: flow skewed: its log-determinant is .*, but that of its Jacobian",
    ),
    "inverse": (
        example("flow").replace("- self.shift).sinh()", "+ 0.5 - self.shift).sinh()"),
        KINDS["flow"],
        r"flow skewed: its inverse does not return the images: they differ by up to",
    ),
    "operator": (
        plugin("@plugins.operator(family='style')", "def tied(dim):", "    return 3"),
        {**STYLE, "model": {"operator": {"kind": "tied"}}},
        r"mine\.py:4: operator tied of style must return a OperatorModule, got int",
    ),
    "sampler": (
        plugin("@plugins.sampler()", "def mine(seed):", "    return 3"),
        {"search": {**SMALL["search"], "sampler": "mine"}},
        r"search\.sampler: .*mine\.py:4: sampler mine must return an Optuna sampler, got int",
    ),
    "callback": ("x = 1\n", {"callbacks": ["gone"]}, r"callbacks: there is no callback gone; .*no plugin of this spec"),
    "no list": ("x = 1\n", {"plugins": {"a": 1}}, r"plugins: must be a list of Python files or installed"),
    "gone": ("x = 1\n", {"plugins": ["./gone.py"]}, r"plugins\[0\]: \./gone\.py: no such file in /"),
    "not installed": (
        "x = 1\n",
        {"plugins": ["gone"]},
        r"plugins\[0\]: gone: there is no file and no installed plugin",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_plugin_that_is_wrong_is_told_in_one_message_before_anything_starts(
    fault: str, spec: Callable[..., Path], tmp_path: Path
) -> None:
    code, changes, message = BAD[fault]
    with pytest.raises(ls.LinsweepError, match=message) as caught:
        ls.launch(spec(code, changes), debug=True)
    assert len(caught.value.problems) == 1, str(caught.value)  # type: ignore[attr-defined]
    assert not (tmp_path / "runs").exists()


def test_what_plugin_code_raises_in_a_trial_is_told_by_its_file_and_line(spec: Callable[..., Path]) -> None:
    code = example("callback").replace('        return {"norm"', "        metrics['gone']\n        return {\"norm\"")
    result = ls.launch(spec(code, {"callbacks": ["weights"]}), debug=True)
    found = trial(result.sweep.folder)
    line = 1 + code.splitlines().index("        metrics['gone']")
    assert found.state == "failed"
    assert found.reason is not None
    assert found.reason.endswith(f"mine.py:{line}: KeyError: 'gone'")


def test_two_specs_with_plugins_of_one_name_know_nothing_of_each_other(spec: Callable[..., Path]) -> None:
    one = metric("1.0").replace("metric()", "metric(better='max')")
    first = load_spec(str(spec(one, OF_MINE)))
    second = load_spec(str(spec(metric("2.0"), OF_MINE)))
    found = []
    for sweep in (first, second):
        config = sweep.trial_config({}, 0)
        registered = config.evaluate.plugged["metric"]["mine"]
        found.append((registered.make(torch.zeros(1), torch.zeros(1)), registered.options["better"]))
    assert found == [(1.0, "max"), (2.0, "min")]
    with pytest.raises(InputError, match=r"evaluate\.quality\[1\]: must be .*, got 'mine'"):
        load_spec(str(spec(one, {**OF_MINE, "plugins": []})))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that offers a plugin by an entry point."""
    site = tmp_path / "site"
    package, info = site / "stripes_of_mine", site / "stripes_of_mine-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "drawn.py").write_text(example("data_set"))
    (package / "offered.py").write_text("from stripes_of_mine.drawn import stripes\n\n__all__ = ['stripes']\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stripes-of-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[linsweep.plugins]\nmy-stripes = stripes_of_mine.offered\n")
    monkeypatch.syspath_prepend(str(site))
    yield package
    for name in [name for name in sys.modules if name.startswith("stripes_of_mine")]:
        del sys.modules[name]


def test_an_installed_package_offers_plugins_by_an_entry_point(installed: Path, spec: Callable[..., Path]) -> None:
    path = spec("", {"plugins": ["my-stripes"], "data": {"name": "stripes"}})
    folder, found = finished(path)
    assert found.head is not None
    (ref,) = found.head["config"]["plugins"]
    assert re.fullmatch(r"my-stripes@[0-9a-f]{12}", ref)
    assert not (folder / "plugins").exists()  # it is installed wherever it is needed
    with pytest.raises(ls.LinsweepError, match=r"gone: there is no file.*installed: my-stripes"):
        ls.plan(path, set={"plugins": ["gone"]})


@pytest.mark.slow
def test_plugins_reach_every_worker_of_a_trial(spec: Callable[..., Path]) -> None:
    code = "from torch import Tensor\nfrom torch.nn.functional import avg_pool2d\n" + example("data_set")
    code += example("metric").partition("from linearizer_core import plugins\n")[2]
    changes = {
        **evaluated(quality=["swd", "sharpness"]),
        "data": {"name": "stripes"},
        "resources": {"workers": 2, "retries": 0},
    }
    result = ls.launch(spec(code, changes))
    found = trial(result.sweep.folder)
    assert found.state == "finished", found.reason
    assert found.metrics["quality/sharpness_collapsed"] > 0
