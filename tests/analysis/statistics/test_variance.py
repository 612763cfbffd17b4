"""Variance components: closed forms, another library, and simulation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.variance import REST, variance_components

Array = np.ndarray[Any, np.dtype[np.float64]]
TRUE = {"init": 4.0, "order": 1.0, "split": 0.25}


def draw(rng: np.random.Generator, levels: dict[str, Array]) -> Array:
    """Values with random effects of the sources, and a rest of variance 0.5."""
    n = len(next(iter(levels.values())))
    values = 10 + np.sqrt(0.5) * rng.normal(size=n)
    for name, of in levels.items():
        values = values + np.sqrt(TRUE[name]) * rng.normal(size=int(of.max()) + 1)[of.astype(int)]
    return values


def test_of_a_balanced_design_they_are_those_of_the_analysis_of_variance() -> None:
    """Two crossed factors without repeats: (MS_a - MS_e) / b, and MS_e (Searle et al., section 4.3)."""
    a, b = (each.ravel().astype(float) for each in np.meshgrid(range(5), range(7), indexing="ij"))
    y = np.random.default_rng(0).normal(size=35) + 2 * a + b
    table = y.reshape(5, 7)
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - columns[None, :] + table.mean()
    error = np.square(rest).sum() / 24
    found = variance_components(y, {"a": a, "b": b})
    assert found["a"].variance == pytest.approx(rows.var(ddof=1) - error / 7)
    assert found["b"].variance == pytest.approx(columns.var(ddof=1) - error / 5)
    assert found[REST].variance == pytest.approx(error)
    assert found["a"].levels == 5


def test_they_are_near_the_truth_and_as_sure_as_they_say_in_unbalanced_designs() -> None:
    rng = np.random.default_rng(1)
    levels = {name: rng.integers(8, size=60).astype(float) for name in TRUE}
    found = [variance_components(draw(rng, levels), levels) for _ in range(200)]
    for name, true in {**TRUE, REST: 0.5}.items():
        values = np.array([each[name].variance for each in found])
        assert values.mean() == pytest.approx(true, abs=0.05 * true + 3 * values.std() / np.sqrt(len(values))), name
        told = np.sqrt(np.mean([each[name].error ** 2 for each in found]))
        assert 0.85 < told / values.std() < 1.2, name


def test_groups_have_means_of_their_own() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(4.0), 15)
    levels = {name: rng.integers(5, size=60).astype(float) for name in TRUE}
    values = draw(rng, levels)
    plain, shifted = (variance_components(y, levels, groups) for y in (values, values + 100 * groups))
    for name, component in plain.items():
        assert shifted[name].variance == pytest.approx(component.variance, abs=1e-6)


def test_they_agree_with_restricted_maximum_likelihood() -> None:
    """Of statsmodels."""
    import statsmodels.formula.api as formulas

    rng = np.random.default_rng(3)
    levels = {"init": rng.integers(25, size=200).astype(float), "order": rng.integers(25, size=200).astype(float)}
    values = draw(rng, levels)
    frame = pd.DataFrame(levels | {"y": values, "one": 1})
    model = formulas.mixedlm(
        "y ~ 1", frame, groups="one", vc_formula={name: f"0 + C({name})" for name in levels}, re_formula="0"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model.fit(reml=True)
    reference = dict(zip(sorted(levels), fitted.vcomp, strict=True))
    found = variance_components(values, levels)
    assert found[REST].variance == pytest.approx(fitted.scale, rel=1e-3)
    for name, variance in reference.items():
        assert found[name].variance == pytest.approx(variance, rel=1e-2)


def test_what_would_be_below_zero_is_zero() -> None:
    found = variance_components(np.array([1.0, -1.0, -1.0, 1.0]), {"a": np.array([0.0, 0.0, 1.0, 1.0])})
    assert found["a"].variance == 0
    assert found[REST].variance == pytest.approx(4 / 3)  # that of all values
    assert (found["a"].share, found[REST].share) == (0, 1)
    for same in (np.ones(4), np.full(4, 0.1), np.zeros(4)):
        flat = variance_components(same, {"a": np.array([0.0, 0.0, 1.0, 1.0])})
        assert flat["a"].variance == flat[REST].variance == 0
        assert np.isnan(flat["a"].share)


def test_what_cannot_be_told_apart_is_refused() -> None:
    a = np.array([0.0, 0.0, 1.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="to separate a, b and the rest"):
        variance_components(np.arange(5.0), {"a": a, "b": a})
    with pytest.raises(ValueError, match="to separate a and the rest"):
        variance_components(np.arange(5.0), {"a": np.arange(5.0)})
    with pytest.raises(ValueError, match="finite"):
        variance_components(np.array([1.0, np.nan]), {"a": np.array([0.0, 1.0])})
