"""Edges where a wrong number would be silent: invariances, counts, refusals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import compare_models, exact_rlrt, load
from course_lib.errors import CourseError
from course_lib.mixed.compare import _eigenvalues
from course_lib.mixed.result import lmer

FORMULAS = [
    "y ~ x * arm + (1 | team)",
    "y ~ k + I(k**2) + (arm | team)",
    "y ~ C(k) + (x | team) + (1 | site)",
    "log(y + 20) ~ poly(x, 2) + arm + (1 | site/team)",
]
NUMBERS = st.sampled_from(["int8", "uint8", "int32", "Int16", "float32", "Float64"])
TEXTS = st.sampled_from(["string", "category", "object"])


def made():
    rng = np.random.default_rng(11)
    data = pd.DataFrame({"team": np.repeat(np.arange(12), 8), "x": rng.normal(size=96)})
    data["site"], data["k"] = data.team // 3, rng.integers(0, 4, 96) + 10
    data["arm"] = rng.choice(["lo", "mid", "top"], 96)
    data["y"] = data.x + (data.arm == "mid") + rng.normal(size=12)[data.team]
    data["y"] += rng.normal(size=96)
    return data


DATA = made()


def same_fit(fit, expected, rows):
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-7)
    np.testing.assert_allclose(fit.fe_params, expected.fe_params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit.predict(rows), expected.fittedvalues[rows.index], atol=1e-5)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FORMULAS), NUMBERS, NUMBERS, TEXTS)
def test_storage_types_do_not_matter(formula, k, team, arm):
    stored = DATA.astype({"k": k, "team": team, "site": team, "arm": arm})
    expected = lmer(formula, DATA)
    same_fit(lmer(formula, stored), expected, stored)
    same_fit(lmer(formula, stored), expected, DATA)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FORMULAS), st.randoms(use_true_random=False), st.integers(1, 20))
def test_a_subset_predicted_first_on_a_fresh_fit(formula, rng, size):
    order = list(range(96))
    rng.shuffle(order)
    expected, fit = lmer(formula, DATA), lmer(formula, DATA.iloc[order])
    some = DATA.iloc[order[:size]]
    np.testing.assert_allclose(fit.predict(some), expected.fittedvalues[some.index], atol=1e-5)
    same_fit(fit, expected, DATA)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["α", "größe", "年龄", "_x", "X1", "Θ_2", "body weight", "x.cm", "scale"])
)
def test_the_name_of_a_column_does_not_matter(name):
    renamed = DATA.rename(columns={"x": name})
    quoted = name if name.isidentifier() else f"`{name}`"
    fit = lmer(f"y ~ {quoted} * arm + ({quoted} | team)", renamed)
    expected = lmer("y ~ x * arm + (x | team)", DATA)
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-9)
    np.testing.assert_allclose(fit.fe_params, expected.fe_params, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["category", "object", "string"])
def test_combinations_of_groups_without_rows_are_no_groups(dtype):
    data = DATA.assign(a=DATA.team.map(str), b=DATA.site.map(str)).astype(
        {"a": dtype, "b": dtype}
    )
    fit = lmer("y ~ x + (1 | a:b)", data)
    assert fit.ngroups == {"a:b": 12}  # not 12 × 4
    same_fit(fit, lmer("y ~ x + (1 | team)", DATA), data)


def test_eigenvalues_of_the_exact_test_with_an_unbalanced_group_covariate():
    data = DATA.drop(index=[0, 1, 2, 9, 30]).assign(w=lambda d: np.sqrt(d.team))
    fit = lmer("y ~ w + (1 | team)", data)
    Z = (fit.frame.factors[0].codes[:, None] == np.arange(12)).astype(float)
    X = fit.frame.X
    M = np.eye(len(X)) - X @ np.linalg.solve(X.T @ X, X.T)
    np.testing.assert_allclose(
        np.sort(_eigenvalues(fit)), np.linalg.eigvalsh(Z.T @ M @ Z), atol=1e-9
    )
    assert 0 <= exact_rlrt(fit, n_sim=200, rng=np.random.default_rng(1)).pvalue <= 1


def test_reml_fits_with_other_fixed_parts_of_equal_determinant_are_not_compared():
    turned = DATA.assign(v=DATA.x.iloc[::-1].to_numpy())
    assert np.isclose(np.linalg.norm(turned.v), np.linalg.norm(turned.x))
    one, other = (lmer(f"y ~ 0 + {name} + (1 | team)", turned) for name in ("x", "v"))
    dets = [np.linalg.slogdet(fit.frame.X.T @ fit.frame.X)[1] for fit in (one, other)]
    assert dets[0] == pytest.approx(dets[1], abs=1e-12)
    table = compare_models({"x": one, "v": other})
    assert list(table["criterion"]) == ["ML", "ML"]  # refitted: REML cannot compare them
    with pytest.raises(CourseError, match="same fixed part"):
        compare_models({"x": one, "v": other}, refit=False)


@pytest.mark.parametrize(
    "formula", ["y ~ nil + (1 | team)", "y ~ x + (nil | team)", "y ~ x:nil + (1 | team)"]
)
def test_a_predictor_of_zeros_is_refused(formula):
    with pytest.raises(CourseError, match="formula: .*nil"):
        lmer(formula, DATA.assign(nil=0.0))


def test_a_slope_that_is_zero_in_one_category_is_refused():
    data = DATA.assign(x=DATA.x.where(DATA.arm != "mid", 0.0))
    with pytest.raises(CourseError, match="formula: .*mid"):
        lmer("y ~ arm:x + (1 | team)", data)


def test_prediction_is_missing_where_a_transformation_is_undefined():
    fit = lmer("y ~ log(x + 20) + (1 | team)", DATA)
    predicted = fit.predict(DATA.head(2).assign(x=[-21.0, 0.0]))
    assert list(predicted.isna()) == [True, False]


def test_as_many_predictors_as_rows_are_refused():
    data = DATA.head(16)
    wide = data.assign(**{f"p{k}": np.cos(k * np.arange(16)) for k in range(16)})
    formula = "y ~ " + " + ".join(f"p{k}" for k in range(16)) + " + (1 | team)"
    with pytest.raises(CourseError, match="data: must have more rows than fixed effects"):
        lmer(formula, wide)


def test_factors_stand_by_their_number_of_coefficients():
    fit = lmer("y ~ x + (1 | site) + (x | team)", DATA)
    assert list(fit.random_effects) == ["team", "site"]
    fit = lmer("y ~ x + (1 | seat) + (x | team)", DATA.assign(seat=DATA.index % 8))
    assert list(fit.random_effects) == ["team", "seat"]  # 12 × 2 before 8
    fit = lmer("diameter ~ 1 + (1 | sample) + (1 | plate)", load("penicillin"))
    assert list(fit.random_effects) == ["plate", "sample"]
