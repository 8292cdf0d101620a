"""A column is a number or a category, whatever its storage type."""

import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.mixed.result import lmer
from course_lib.mixed.typed_frame import typed_frame


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"team": np.repeat(np.arange(12), 10), "age": rng.integers(1, 120, 120)}
    )
    frame["dose"] = rng.integers(0, 100, 120)
    frame["arm"] = rng.choice(["lo", "mid", "top"], 120)
    frame["ward"] = rng.choice(["1", "2", "10"], 120)
    frame["y"] = 0.1 * frame.age + (frame.arm == "mid") + rng.normal(size=12)[frame.team]
    frame["y"] += rng.normal(size=120)
    return frame


ARITHMETIC = [
    "y ~ age * dose + (1 | team)",
    "y ~ I(age**2) + (1 | team)",
    "y ~ age + (0 + I(age + dose) | team)",
    "I(y + age * dose) ~ dose + (1 | team)",
    "y ~ C(dose > 50) + poly(age, 2) + (1 | team)",
]


@pytest.mark.parametrize("formula", ARITHMETIC)
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "Int8", "UInt16", "float32", "Int64"]
)
def test_storage_of_numbers_does_not_matter(data, formula, dtype):
    stored = data.astype({"age": dtype, "dose": dtype})
    expected, fit = lmer(formula, data), lmer(formula, stored)
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-8)
    assert list(fit.fe_params.index) == list(expected.fe_params.index)
    np.testing.assert_allclose(fit.predict(stored), expected.fittedvalues, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(data), expected.fittedvalues, rtol=1e-8)
    np.testing.assert_allclose(expected.predict(stored), expected.fittedvalues, rtol=1e-8)


TEXT = ["string", "category", object]


@pytest.mark.parametrize(
    "formula",
    ["y ~ ward + (1 | team)", "y ~ age * ward + (1 | team)", "y ~ arm + (arm | team)"],
)
@pytest.mark.parametrize("dtype", TEXT)
def test_storage_of_text_does_not_matter(data, formula, dtype):
    stored = data.astype({"arm": dtype, "ward": dtype})
    expected, fit = lmer(formula, data), lmer(formula, stored)
    assert list(fit.fe_params.index) == list(expected.fe_params.index)
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-8)
    for rows in (stored, data, stored.iloc[::-1].head(3)):
        predicted = fit.predict(rows)
        np.testing.assert_allclose(predicted, expected.fittedvalues.loc[rows.index], rtol=1e-8)


@pytest.mark.parametrize("dtype", ["boolean", object])
def test_storage_of_truth_values_does_not_matter(data, dtype):
    data = data.assign(old=data["age"] > data["age"].median())
    stored = data.astype({"old": dtype})
    expected, fit = (lmer("y ~ old + (1 | team)", rows) for rows in (data, stored))
    assert list(fit.fe_params.index) == list(expected.fe_params.index)
    np.testing.assert_allclose(fit.predict(stored), expected.fittedvalues, rtol=1e-8)


@pytest.mark.parametrize(
    "formula",
    ["y ~ arm + (1 | team)", "y ~ age * arm + (1 | team)", "y ~ age + (0 + arm | team)"],
)
def test_categories_that_a_filter_has_emptied_are_dropped(data, formula):
    ordered = pd.CategoricalDtype(["top", "none", "mid", "lo"])
    kept = data.astype({"arm": ordered}).query("arm != 'mid'")
    clean = kept.assign(arm=kept["arm"].cat.remove_unused_categories())
    fit, expected = lmer(formula, kept), lmer(formula, clean)
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-8)
    assert list(fit.fe_params.index) == list(expected.fe_params.index)


@pytest.mark.parametrize("filters", ["error", "default", "ignore"])
@pytest.mark.parametrize("dtype", TEXT)
def test_a_level_that_the_fit_has_not_seen_is_refused(data, filters, dtype):
    """Also under Python's default warning filters."""
    stored = data.astype({"arm": dtype})
    fit = lmer("y ~ age + arm + (1 | team)", stored)
    rows = data.head(4).assign(arm=["lo", "new", "mid", "top"]).astype({"arm": dtype})
    with warnings.catch_warnings():
        warnings.simplefilter(filters)
        with pytest.raises(CourseError, match=r"newdata: .*levels that the fit has seen.*new"):
            fit.predict(rows)


REFUSED = {
    "decimals": ([Decimal(k) for k in range(120)], "numbers held as objects", "to_numeric"),
    "mixed": ([1, "a"] * 60, "numbers held as objects", "to_numeric"),
    "lists": ([[1]] * 120, "objects of type list", "astype"),
    "complex": (np.arange(120) + 1j, "complex numbers", "numpy.real"),
    "durations": (pd.to_timedelta(np.arange(120), "h"), "time differences", "total_seconds"),
    "dates": (pd.date_range("2020-01-01", periods=120), "the dates", "dt.days"),
    "zoned": (pd.date_range("2020", periods=120, tz="Europe/Paris"), "the dates", "dt.days"),
    "periods": (pd.period_range("2020-01", periods=120, freq="M"), "period", "astype"),
    "intervals": (pd.interval_range(0, 120), "interval", "astype"),
}


@pytest.mark.parametrize(
    "formula", ["y ~ z + (1 | team)", "y ~ age + (z | team)", "z ~ age + (1 | team)"]
)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_neither_is_refused_with_the_line_that_converts_it(data, kind, formula):
    values, what, advice = REFUSED[kind]
    with pytest.raises(CourseError, match=f"formula: .*{what}.*'z'.*{advice}"):
        lmer(formula, data.assign(z=values))


def test_what_becomes_of_a_column():
    rows = pd.DataFrame({"n": pd.array([1, 2], "Int8"), "b": [True, False], "s": ["b", "a"]})
    typed = typed_frame("data", rows, ["n", "b", "s"])
    assert [str(dtype) for dtype in typed.dtypes] == ["float64", "bool", "object"]
    assert str(typed_frame("data", rows, ["n"], {"n"})["n"].dtype) == "int64"
