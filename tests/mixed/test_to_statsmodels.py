"""`to_statsmodels` gives statsmodels' own result object at our optimum."""

import numpy as np
import pytest

from course_lib import CourseError, lmer, load

CASES = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    ("orthodont", "distance ~ age + (age | Subject)"),
    ("oxboys", "height ~ age + (age | Subject)"),
    ("pastes", "strength ~ 1 + (1 | batch/cask)"),
]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "formula"), CASES)
def test_same_likelihood_and_estimates(name, formula, reml):
    fit = lmer(formula, load(name), reml)
    theirs = fit.to_statsmodels()
    # Rounding only: nothing is optimised; their likelihood is coded independently of ours.
    assert theirs.llf == pytest.approx(fit.llf, abs=1e-6)
    np.testing.assert_allclose(theirs.fe_params, fit.fe_params, rtol=1e-8)
    np.testing.assert_allclose(theirs.bse_fe, fit.bse_fe, rtol=1e-6)
    assert theirs.scale == pytest.approx(fit.scale, rel=1e-8)
    outer = list(fit.cov_re.values())[-1]
    np.testing.assert_allclose(
        theirs.cov_re, outer, rtol=1e-7, atol=1e-9 * outer.to_numpy().max()
    )


def test_nested_variance_component():
    fit = lmer("strength ~ 1 + (1 | batch/cask)", load("pastes"))
    theirs = fit.to_statsmodels()
    assert theirs.vcomp[0] == pytest.approx(fit.cov_re["cask:batch"].iloc[0, 0], rel=1e-8)


def test_random_effects_agree():
    fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    theirs = fit.to_statsmodels().random_effects
    ours = fit.random_effects["Subject"]
    np.testing.assert_allclose(theirs["308"], ours.loc["308"], rtol=1e-8)


def test_crossed_and_singular_are_refused():
    crossed = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load("penicillin"))
    with pytest.raises(CourseError, match="plate, sample"):
        crossed.to_statsmodels()
    singular = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2"))
    with pytest.raises(CourseError, match="must not be singular"):
        singular.to_statsmodels()
