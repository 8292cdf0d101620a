"""Leaving out groups: against lme4, against direct refits, and bad input."""

import warnings

import numpy as np
import pandas as pd
import pytest
from diagnostics_values import SLOPE, THETA, VALUES, by_formula
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import load
from course_lib.diagnostics import (
    icc,
    influence,
    r2,
    residual_frame,
)
from course_lib.errors import CourseError
from course_lib.mixed.result import lmer

# ---- influence -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VALUES["influence"], ids=by_formula)
def test_influence_agrees_with_lme4(case):
    fit = lmer(case["formula"], load(case["data"]), case["reml"])
    table = influence(fit, case["by"])
    assert table.index.astype(str).tolist() == case["levels"]
    np.testing.assert_allclose(table.cooks_distance, case["cooks"], rtol=THETA, atol=1e-9)
    # lme4's own refits start at the full fit and stop a little earlier
    np.testing.assert_allclose(
        table.cooks_distance, case["cooks_lme4"], rtol=2 * THETA, atol=1e-7
    )
    fixed = table.filter(like="fixed: ").to_numpy()
    np.testing.assert_allclose(fixed, case["fixed"], rtol=0, atol=THETA * fit.bse_fe.max())
    ours = table.filter(like="vcov: ").to_numpy()
    theirs = np.array(case["variances"])
    expected = [f"vcov: {part}" for part in case["parts"]]
    names = [column.replace("Intercept", "(Intercept)") for column in table.columns[2:]]
    names = [name.replace(",", "") for name in names if name.startswith("vcov")]
    assert [part.replace(" NA", "") for part in expected] == names
    # a variance moves by twice the relative change of θ; a covariance with its two sd
    vcov = fit.varcorr().vcov.to_numpy()
    sizes = np.where(fit.varcorr().term2 == "", vcov, np.sqrt(np.abs(vcov[0] * vcov[1])))
    assert (np.abs(ours - theirs) <= 2 * THETA * sizes).all()


def test_cooks_distances_of_the_first_subjects(sleep_fit):
    table = influence(sleep_fit)
    assert table.cooks_distance.round(4).tolist()[:3] == [0.0821, 0.1320, 0.0982]
    assert (table.n_rows == 10).all()


@pytest.mark.parametrize("by", ["batch", "cask:batch"])
def test_subtracting_is_the_same_as_fitting_without_the_rows(by):
    data = load("pastes")
    formula = "strength ~ 1 + (1 | batch/cask)"
    fit = lmer(formula, data)
    table = influence(fit, by)
    level = table.cooks_distance.idxmax()
    key = data.batch if by == "batch" else data.cask + ":" + data.batch
    without = lmer(formula, data[key != level])
    change = without.varcorr().vcov.to_numpy() - fit.varcorr().vcov.to_numpy()
    ours = table.loc[level].filter(like="vcov").to_numpy()
    assert (np.abs(ours - change) <= 2 * THETA * fit.varcorr().vcov).all()
    change = without.fe_params["Intercept"] - fit.fe_params["Intercept"]
    # fixed effects depend on θ only where the remaining design is unbalanced
    assert table.loc[level, "fixed: Intercept"] == pytest.approx(change, abs=1e-6)


def test_influence_of_a_singular_fit_does_not_stay_in_its_corner():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 6)})
    # the noise of group 0 drowns the differences between the others
    data["y"] = data.g + rng.standard_normal(48) * np.where(data.g == 0, 40, 0.5)
    fit = lmer("y ~ 1 + (1 | g)", data)
    assert fit.is_singular
    without = lmer("y ~ 1 + (1 | g)", data[data.g > 0])
    change = influence(fit)["vcov: g Intercept"]
    assert change[0] == pytest.approx(without.cov_re["g"].iloc[0, 0], rel=THETA)
    assert change[0] > 1
    assert change[1:].max() < 1e-6


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-100, 100))
def test_diagnostics_do_not_depend_on_units(log_y, log_x, shift):
    data = load("sleepstudy")
    fit = lmer(SLOPE, data)
    moved = data.assign(
        Reaction=data.Reaction * 10**log_y, Days=(data.Days + shift) * 10**log_x
    )
    other = lmer(SLOPE, moved)
    pairs = [
        (influence(f)["cooks_distance"], icc(f), r2(f), residual_frame(f)["resid_std"])
        for f in (fit, other)
    ]
    for one, two in zip(*pairs, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=THETA)


def test_unknown_group_is_refused(sleep_fit):
    with pytest.raises(CourseError, match="by: must name a grouping.*'subject'.*'Subject'"):
        influence(sleep_fit, "subject")
    with pytest.raises(CourseError, match="by: must name a grouping factor"):
        influence(sleep_fit, 3)
    crossed = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load("penicillin"))
    with pytest.raises(CourseError, match="by: .*None.*plate, sample"):
        influence(crossed)


def test_too_few_groups_are_refused(sleep):
    subjects = sleep.Subject.unique()
    two = lmer("Reaction ~ 1 + (1 | Subject)", sleep[sleep.Subject.isin(subjects[:2])])
    with pytest.raises(CourseError, match="by: must have at least three groups.*2 groups"):
        influence(two)
    quadratic = "Reaction ~ Days + I(Days**2) + (1 | Subject)"
    three = lmer(quadratic, sleep[sleep.Subject.isin(subjects[:3])])
    with pytest.raises(CourseError, match="3 groups in 'Subject' for 3 fixed effects"):
        influence(three)
    with pytest.raises(CourseError, match="fit: must have a fixed effect"):
        influence(lmer("Reaction ~ 0 + (1 | Subject)", sleep))


def test_coefficient_that_one_group_tells_is_refused(sleep):
    subject = sleep.Subject.unique()[4]
    treated = sleep.assign(
        treated=((sleep.Subject == subject) & (sleep.Days > 4)).astype(float)
    )
    fit = lmer("Reaction ~ Days + treated + (1 | Subject)", treated)
    with pytest.raises(CourseError, match=f"by: .*'treated'.*group {subject} of 'Subject'"):
        influence(fit)


def test_unfinished_refit_is_announced(sleep_fit, monkeypatch):
    from dataclasses import replace
    from importlib import import_module

    module = import_module("course_lib.diagnostics.influence")

    real = module.estimate

    def unfinished(standardised, reml, start):
        found = real(standardised, reml, start)
        return replace(found, optimum=replace(found.optimum, converged=False))

    monkeypatch.setattr(module, "estimate", unfinished)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        influence(sleep_fit)
    assert "without 308, 309" in str(caught[0].message)
