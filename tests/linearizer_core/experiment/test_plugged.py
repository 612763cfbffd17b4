"""Names of configurations: each stands for something, and a plugin adds to those of the configurations that name it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from linearizer_core.experiment import cores, families, networks, sample_metrics
from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    OperatorConfig,
    TrialConfig,
    config_hash,
    from_mapping,
    to_mapping,
)
from linearizer_core.experiment.data import named
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.plugged import configuration_of, trial_config
from linearizer_core.plugins import PluginError
from linearizer_core.plugins.loading import ensure, keep, loaded, of_file
from linearizer_core.plugins.marks import Names

NAMED: list[tuple[type[Any], str, Names, set[str]]] = [
    (TrialConfig, "family", families.BUILT_IN, set()),
    (DataConfig, "name", named.BUILT_IN, set()),
    (FlowConfig, "kind", networks.BUILT_IN, set()),
    (OperatorConfig, "kind", cores.BUILT_IN, {"affine"}),  # which its family makes itself
    (EvaluateConfig, "quality", sample_metrics.BUILT_IN, set()),
]

METRIC = """from dataclasses import dataclass
from typing import Literal

from linearizer_core import plugins


@dataclass(frozen=True)
class Settings:
    power: int = plugins.setting(2, "exponent", ge=1, le=3)
    how: Literal["mean", "max"] = "mean"
    weights: tuple[float, ...] = (1.0, 0.5)


@plugins.metric(better="max")
def mine(samples, real, settings: Settings):
    return 1.0
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(METRIC)
    return path


@pytest.mark.parametrize(("section", "field", "table", "besides"), NAMED)
def test_every_name_stands_for_something(section: type[Any], field: str, table: Names, besides: set[str]) -> None:
    hint = get_type_hints(section)[field]
    names = get_args(get_args(hint)[0]) if field == "quality" else get_args(hint)
    assert set(names) == set(table) | besides
    assert all(name == each.name for name, each in table.items())


def test_an_operator_is_of_the_family_that_takes_it() -> None:
    for name in families.BUILT_IN:
        config = from_mapping(TrialConfig, {"family": name, "model": {"operator": {"kind": "time_dense"}}})
        taken = set(family_of(config).operators) - {"affine"}
        of_models = {
            "flow_matching": "diffusion", "koopman": "dynamics", "mean_flow": "diffusion", "regression": "inverse",
        }.get(name, name)  # fmt: skip
        assert taken == set(cores.known(of_models, config.model.operator))


def test_settings_are_fields_with_their_types_and_bounds(plugin: Path) -> None:
    ref = of_file(plugin).ref
    values = {"plugins": [ref], "evaluate": {"quality": ["swd", "mine"], "mine": {"power": 3, "weights": [2.0]}}}
    config = trial_config(values)
    assert config.evaluate.mine.power == 3  # type: ignore[attr-defined]
    assert to_mapping(config)["evaluate"]["mine"] == {"power": 3, "how": "mean", "weights": [2.0]}
    assert trial_config(to_mapping(config)) == config
    for wrong in ({"power": 4}, {"power": 1.5}, {"how": "median"}, {"weights": ["a"]}, {"none": 1}):
        with pytest.raises(ValueError, match=r"Settings"):
            trial_config({"plugins": [ref], "evaluate": {"mine": wrong}})


def test_a_configuration_without_the_plugin_knows_nothing_of_it(plugin: Path) -> None:
    ref = of_file(plugin).ref
    assert configuration_of([]) is TrialConfig
    assert "mine" not in to_mapping(TrialConfig().evaluate)
    with pytest.raises(ValueError, match=r"EvaluateConfig\.quality cannot be"):
        trial_config({"evaluate": {"quality": ["mine"]}})
    assert trial_config({"plugins": [ref], "evaluate": {"quality": ["mine"]}}).evaluate.quality == ("mine",)


def test_the_hash_knows_the_code_and_the_settings_and_is_as_before_without_any(plugin: Path) -> None:
    plain = to_mapping(TrialConfig())
    before = {name: value for name, value in plain.items() if name not in ("plugins", "callbacks")}
    assert config_hash(plain) == config_hash(before)
    hashes = {config_hash(plain)}
    for code, power in ((METRIC, 2), (METRIC, 3), (f"{METRIC}# changed\n", 2)):
        plugin.write_text(code)
        hashes.add(config_hash(to_mapping(trial_config(
            {"plugins": [of_file(plugin).ref], "evaluate": {"mine": {"power": power}}}
        ))))  # fmt: skip
    assert len(hashes) == 4


def test_code_is_run_once_and_kept_by_its_digest(plugin: Path, tmp_path: Path) -> None:
    first = of_file(plugin)
    assert of_file(plugin) is first
    keep([first.ref], tmp_path / "kept")
    assert (tmp_path / "kept" / first.digest / "mine.py").read_text() == METRIC
    ensure([first.ref], tmp_path / "nowhere")  # it is here
    gone = "mine.py@0123456789ab"
    with pytest.raises(PluginError, match=rf"plugin {gone}: its code is missing at .*0123456789ab/mine\.py"):
        ensure([gone], tmp_path / "kept")
    (tmp_path / "kept" / "0123456789ab").mkdir()
    (tmp_path / "kept" / "0123456789ab" / "mine.py").write_text("x = 1\n")
    with pytest.raises(PluginError, match=r"mine\.py was changed: its digest is now"):
        ensure([gone], tmp_path / "kept")
    with pytest.raises(PluginError, match=f"needs the plugin {gone}, not loaded here"):
        loaded([gone])


def test_a_subclass_does_not_take_its_base_s_name(tmp_path: Path) -> None:
    path = tmp_path / "sub.py"
    path.write_text("from linearizer_core.experiment.families import Style\n\n\nclass Other(Style):\n    pass\n")
    assert of_file(path).registrations == ()
