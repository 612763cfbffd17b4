"""The core stands alone: it needs none of the libraries that the sweeps and the analysis are built on."""

from __future__ import annotations

from typing import Any

ABSENT = {"ray", "mlflow", "optuna", "pandas", "pydantic", "typer", "matplotlib", "sweeps", "analysis"}


def test_importing_all_of_the_core_loads_none_of_the_sweep_libraries(other_process: dict[str, Any]) -> None:
    some = {"linearizer_core.experiment.training", "linearizer_core.flows.couplings"}
    assert some <= set(other_process["submodules"])
    assert {"torch", "linearizer_core"} <= set(other_process["loaded"])
    assert not ABSENT & set(other_process["loaded"])
