"""`lmer` against lme4 where groups are nested, crossed, or partly both (16 fits).

reference/nested_crossed.R simulates the data and fits; in it three optimisers agree to 1e-7 in
the criterion, and Newton steps bring its θ to about 1e-8. Each data set also has its nesting
written in every way there is: the numbers must not depend on how.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from course_lib import lmer, load

REFERENCE = Path(__file__).parents[1] / "reference"
FITS = json.loads((REFERENCE / "nested_crossed.json").read_text(encoding="utf-8"))["fits"]

# Criterion, absolute: flat at the optimum, so a θ that is off by 1e-5 costs far less than this.
CRITERION = 1e-6
# Fixed effects in units of |estimate| + standard error (one near zero has no relative accuracy
# of its own), and their standard errors: both move with θ, but less than θ itself.
FIXED = 1e-5
# Variances, relative; covariances relative to the product of the two standard deviations. They
# are quadratic in θ, which the search finds to about 1e-7 in these models (seen: up to 3e-7).
VARIANCE = 1e-5
# Variance estimated as zero, relative to σ²: what still counts as zero beside the residuals.
ZERO = 1e-8
# Modes and their errors in units of the effect's standard deviation; fitted values in units of
# σ. They follow θ.
MODE = 1e-5
# Two ways of writing the same model go through the same search, perhaps with the factors in
# another order: they differ by rounding, and by where the search then stops.
SAME = 1e-6


def frame(name):
    """Data set `course:NAME` or `reference:NAME`."""
    place, name = name.split(":")
    if place == "course":
        return load(name)
    return pd.read_csv(REFERENCE / "data" / f"{name}.csv")


@pytest.fixture(scope="module")
def fitted():
    """Fit each reference model once a worker."""
    fits = {}

    def fit(reference):
        if reference["name"] not in fits:
            data = frame(reference["data"])
            fits[reference["name"]] = lmer(reference["formula"], data, reference["reml"])
        return fits[reference["name"]]

    return fit


each_fit = pytest.mark.parametrize("reference", FITS, ids=lambda reference: reference["name"])


@each_fit
def test_second_optimizers_of_lme4_agree(reference):
    assert max(abs(gain) for gain in reference["agreement"].values()) < 1e-7


@each_fit
def test_criterion_and_counts(fitted, reference):
    fit = fitted(reference)
    assert fit.converged
    assert fit.deviance == pytest.approx(reference["criterion"], abs=CRITERION)
    assert (fit.npar, fit.nobs) == (reference["npar"], reference["nobs"])
    assert fit.ngroups == reference["ngroups"]
    assert fit.is_singular == reference["is_singular"]


@each_fit
def test_fixed_effects(fitted, reference):
    fit = fitted(reference)
    expected, errors = pd.Series(reference["fe_params"]), pd.Series(reference["bse_fe"])
    assert list(fit.fe_params.index) == list(fit.bse_fe.index) == list(expected.index)
    assert (np.abs(fit.fe_params - expected) < FIXED * (np.abs(expected) + errors)).all()
    np.testing.assert_allclose(fit.bse_fe, errors, rtol=FIXED)


@each_fit
def test_variances(fitted, reference):
    fit = fitted(reference)
    keys = ["group", "term1", "term2"]
    expected = pd.DataFrame(reference["varcorr"]).fillna({"term1": "", "term2": ""})
    found = fit.varcorr().set_index(keys)["vcov"]
    expected = expected.set_index(keys)["vcov"]
    assert sorted(found.index) == sorted(expected.index)
    for (group, term1, term2), value in expected.items():
        unit = value
        if term2:
            unit = np.sqrt(expected[group, term1, ""] * expected[group, term2, ""])
        near = max(VARIANCE * unit, ZERO * reference["scale"])
        assert found[group, term1, term2] == pytest.approx(value, abs=near)
    assert fit.scale == pytest.approx(reference["scale"], rel=VARIANCE)


@each_fit
def test_modes_of_all_levels(fitted, reference):
    fit = fitted(reference)
    group, terms = reference["modes_group"], reference["modes_terms"]
    spread = np.sqrt(np.diag(fit.cov_re[group]))
    for found, values in (
        (fit.random_effects[group], reference["modes"]),
        (fit.random_effects_se[group], reference["modes_se"]),
    ):
        expected = pd.DataFrame(values, reference["modes_levels"], terms)
        # levels that are numbers stay numbers in course_lib
        found = found.set_axis(found.index.astype(str))
        assert list(found.columns) == terms
        assert sorted(found.index) == sorted(expected.index)
        difference = found.loc[expected.index] - expected
        assert (difference.abs() < MODE * spread).all(axis=None)


@each_fit
def test_fitted_values(fitted, reference):
    near = MODE * reference["scale"] ** 0.5
    found = fitted(reference).fittedvalues[:10]
    np.testing.assert_allclose(found, reference["fitted_first10"], rtol=0, atol=near)


# Data set, fixed part, a random part, and the same with the nesting written otherwise. A column
# that is not in the data is made: `a_b` holds the ids of `b` within `a`.
WAYS = {
    "three_levels": (
        "reference:nested_three",
        "y ~ x",
        "(1 | region/school/room)",
        "(1 | region) + (1 | region:school) + (1 | region:school:room)",
        "(1 | region) + (1 | region_school) + (1 | region_school_room)",
    ),
    "three_levels_course": (
        "course:school_growth",
        "score ~ time",
        "(1 | school/class_number/student_id)",
        "(1 | school) + (1 | school:class_number) + (1 | school:class_number:student_id)",
        "(1 | school) + (1 | class_id) + (1 | student_id)",
    ),
    "nested_slopes_and_crossed": (
        "reference:nested_slopes",
        "y ~ x",
        "(x | site/plot) + (1 | year)",
        "(x | site) + (x | site:plot) + (1 | year)",
        "(1 | year) + (x | site_plot) + (x | site)",
    ),
    "partly_crossed": (
        "reference:pupils_teachers",
        "y ~ x",
        "(1 | school/pupil) + (1 | school:teacher)",
        "(1 | school) + (1 | school:pupil) + (1 | school:teacher)",
        "(1 | school) + (1 | school_pupil) + (1 | school_teacher)",
    ),
}


def with_ids(data):
    """Data with a column of unique ids for each nesting that `WAYS` uses."""
    data = data.copy()
    for name in (
        "region_school",
        "region_school_room",
        "site_plot",
        "school_pupil",
        "school_teacher",
    ):
        columns = name.split("_")
        if set(columns) <= set(data.columns):
            data[name] = data[columns].astype(str).agg("-".join, axis=1)
    return data


@pytest.mark.parametrize("reml", [True, False], ids=["reml", "ml"])
@pytest.mark.parametrize("name", WAYS)
def test_ways_of_writing_the_nesting(name, reml):
    source, fixed, *ways = WAYS[name]
    data = with_ids(frame(source))
    first, *others = (lmer(f"{fixed} + {way}", data, reml) for way in ways)
    for other in others:
        assert other.deviance == pytest.approx(first.deviance, abs=CRITERION)
        np.testing.assert_allclose(other.fe_params, first.fe_params, rtol=SAME)
        np.testing.assert_allclose(other.bse_fe, first.bse_fe, rtol=SAME)
        # The groups' names and order differ: by size they are the same.
        found, expected = (np.sort(fit.varcorr()["vcov"]) for fit in (other, first))
        np.testing.assert_allclose(found, expected, rtol=VARIANCE)
        assert sorted(other.ngroups.values()) == sorted(first.ngroups.values())
        near = MODE * first.scale**0.5
        np.testing.assert_allclose(other.fittedvalues, first.fittedvalues, rtol=0, atol=near)


@pytest.mark.parametrize(
    ("source", "right", "wrong"),
    [
        ("reference:nested_three", "(1 | region/school)", "(1 | region) + (1 | school)"),
        ("reference:nested_slopes", "(1 | site/plot)", "(1 | site) + (1 | plot)"),
        ("reference:pupils_teachers", "(1 | school/pupil)", "(1 | school) + (1 | pupil)"),
    ],
)
def test_numbers_used_anew_in_each_parent_are_not_crossed(source, right, wrong):
    data = frame(source)
    nested, crossed = (lmer(f"y ~ x + {random}", data) for random in (right, wrong))
    assert max(nested.ngroups.values()) > max(crossed.ngroups.values())
    assert nested.deviance < crossed.deviance - 10


def test_levels_are_joined_by_a_colon_inner_first():
    reference = next(fit for fit in FITS if fit["name"] == "three_levels_ml")
    fit = lmer(reference["formula"], frame(reference["data"]), reml=False)
    assert list(fit.random_effects) == ["room:school:region", "school:region", "region"]
    assert fit.random_effects["room:school:region"].index[0] == "c1:s1:r1"
    assert fit.random_effects["school:region"].index[0] == "s1:r1"
