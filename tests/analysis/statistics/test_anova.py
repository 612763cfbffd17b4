"""The analysis of variance against closed forms and regressions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.statistics.anova import repeated_anova, two_way_anova
from analysis.statistics.intervals import Array
from tests.analysis.statistics.rates import rng


def test_a_balanced_analysis_of_variance_has_its_closed_form() -> None:
    values = rng(11).normal(size=(3, 4, 5)) + np.arange(3)[:, None, None]
    a, b = (index.ravel() for index in np.indices((3, 4, 5))[:2])
    found = two_way_anova(values.ravel(), a, b)
    grand, rows, cols = values.mean(), values.mean(axis=(1, 2)), values.mean(axis=(0, 2))
    cells = values.mean(axis=2)
    ss_a, ss_b = 20 * np.square(rows - grand).sum(), 15 * np.square(cols - grand).sum()
    ss_ab = 5 * np.square(cells - rows[:, None] - cols + grand).sum()
    ss_e = np.square(values - cells[..., None]).sum()
    assert [float(e.squares) for e in (found.a, found.b, found.interaction, found.residual)] == pytest.approx(
        [ss_a, ss_b, ss_ab, ss_e]
    )
    assert [e.freedom for e in (found.a, found.b, found.interaction, found.residual)] == [2, 3, 6, 48]
    f = (ss_ab / 6) / (ss_e / 48)
    assert found.interaction.f == pytest.approx(f)
    assert found.interaction.p == pytest.approx(stats.f.sf(f, 6, 48))
    assert found.interaction.eta == pytest.approx(ss_ab / (ss_ab + ss_e))


def test_sums_of_squares_of_an_unbalanced_design_are_of_type_two() -> None:
    """The same as what regressions with and without the factor's indicators leave over."""
    random = rng(12)
    a, b = random.integers(3, size=40), random.integers(2, size=40)
    y = random.normal(size=40) + a - b
    found = two_way_anova(y, a, b)

    def left_over(*columns: Array) -> float:
        design = np.column_stack([np.ones(40), *columns])
        return float(np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum())

    in_a, in_b = [(a == level) * 1.0 for level in (1, 2)], [(b == 1) * 1.0]
    crossed = [first * in_b[0] for first in in_a]
    assert float(found.a.squares) == pytest.approx(left_over(*in_b) - left_over(*in_a, *in_b))
    assert float(found.b.squares) == pytest.approx(left_over(*in_a) - left_over(*in_a, *in_b))
    assert float(found.interaction.squares) == pytest.approx(
        left_over(*in_a, *in_b) - left_over(*in_a, *in_b, *crossed)
    )


def test_one_way_f_is_scipys_where_the_other_factor_does_nothing() -> None:
    groups = rng(13).normal(size=(3, 8)) + np.array([0.0, 1.0, 0.5])[:, None]
    centred = groups - groups[:, ::2].mean() + 0.0
    b = np.tile([0, 1], 12)
    a = np.repeat([0, 1, 2], 8)
    # Both values of b get the same data, so that b and the interaction have nothing to explain.
    doubled = np.repeat(centred[:, ::2], 2, axis=1).ravel()
    found = two_way_anova(doubled, a, b)
    assert float(found.b.squares) == pytest.approx(0.0, abs=1e-12)
    between = float(found.a.squares) / 2
    reference = stats.f_oneway(*doubled.reshape(3, 8))
    assert between / (float(found.residual.squares) / 21) == pytest.approx(reference.statistic)


def test_linear_factors_are_a_regression_with_a_product() -> None:
    random = rng(14)
    x, z = random.uniform(size=(2, 30))
    y = 1 + 2 * x - z + 3 * x * z + 0.1 * random.normal(size=30)
    found = two_way_anova(y, x, z, "linear")
    design = np.column_stack([np.ones(30), x, z, x * z])
    coefficients, rest, *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = rest[0] / 26
    t = coefficients[3] / math.sqrt(variance * np.linalg.inv(design.T @ design)[3, 3])
    assert found.interaction.f == pytest.approx(t**2)
    assert found.interaction.p == pytest.approx(2 * stats.t.sf(abs(t), 26))
    assert found.interaction.freedom == 1


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")  # by the pairs that are missing
@pytest.mark.parametrize("missing", [(), (3, 6)])
def test_units_that_seeds_repeat_are_statsmodels_regressions_of_means_and_of_values(missing: tuple[int, ...]) -> None:
    """Also with pairs of levels that nothing is there of: the main effects of the means, the interaction of values."""
    random = rng(15)
    a, b, seed = (index.ravel() for index in np.indices((3, 4, 5)))
    kept = ~np.isin(4 * a + b, missing)
    data = pd.DataFrame({"a": a, "b": b, "seed": seed, "y": random.normal(size=60) + a + 3.0 * seed})[kept]
    found = repeated_anova(data["y"].to_numpy(), data["a"], data["b"], data["seed"])
    means = data.groupby(["a", "b"], as_index=False)["y"].mean()
    of_means = anova_lm(ols("y ~ C(a) + C(b)", means).fit(), typ=2)
    additive, full = (ols(f"y ~ {model} + C(seed)", data).fit() for model in ("C(a) + C(b)", "C(a):C(b)"))
    of_values = anova_lm(additive, full)
    for effect, name in ((found.a, "C(a)"), (found.b, "C(b)")):
        assert float(effect.squares) == pytest.approx(5 * of_means.loc[name, "sum_sq"])
        assert effect.freedom == of_means.loc[name, "df"]
        assert (effect.f, effect.p) == pytest.approx((of_means.loc[name, "F"], of_means.loc[name, "PR(>F)"]))
    assert float(found.interaction.squares) == pytest.approx(of_values["ss_diff"][1])
    assert (found.interaction.f, found.interaction.p) == pytest.approx((of_values["F"][1], of_values["Pr(>F)"][1]))
    assert (found.interaction.freedom, found.residual.freedom) == (of_values["df_diff"][1], of_values["df_resid"][1])


def test_main_effects_without_an_error_of_their_own_have_no_test() -> None:
    """Three units of a two by two table: what the additive model leaves is nothing."""
    found = repeated_anova([1.0, 1.2, 2.0, 2.3, 5.0, 5.1], [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0], [0, 1, 0, 1, 0, 1])
    assert (found.a.f, found.b.p, found.interaction.f) == (None, None, None)


@pytest.mark.parametrize("value", [0.1, 1e30])
def test_values_that_are_all_equal_test_nothing(value: float) -> None:
    a, b, seed = (index.ravel() for index in np.indices((3, 4, 2)))
    for found in (repeated_anova([value] * 24, a, b, seed), two_way_anova([value] * 24, a, b)):
        assert found.interaction.p is not None
        assert math.isnan(found.interaction.p)


def test_what_cannot_be_analysed_is_told() -> None:
    with pytest.raises(ValueError, match="as many cells as values"):
        two_way_anova(np.arange(4.0), [0, 0, 1, 1], [0, 1, 0, 1])
    with pytest.raises(ValueError, match="as many cells as values"):
        repeated_anova(np.arange(4.0), [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0])
    with pytest.raises(ValueError, match="one level only"):
        repeated_anova(np.arange(4.0), [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1])
    with pytest.raises(ValueError, match="finite"):
        repeated_anova(np.array([1.0, math.nan]), [0, 1], [0, 1], [0, 0])
    with pytest.raises(ValueError, match="one level only"):
        two_way_anova(np.arange(4.0), [0, 0, 0, 0], [0, 1, 0, 1])
    with pytest.raises(ValueError, match="finite"):
        two_way_anova(np.array([1.0, math.nan, 0.0]), [0, 1, 1], [0, 1, 0])
