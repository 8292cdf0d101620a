"""ICC and R² against R's performance and closed forms."""

import pytest
from diagnostics_values import SHARE, VALUES, by_formula

from course_lib import load
from course_lib.diagnostics import (
    icc,
    r2,
    variance_parts,
)
from course_lib.mixed.result import lmer

# ---- ICC and R² ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VALUES["models"], ids=by_formula)
def test_icc_and_r2_agree_with_performance(case):
    fit = lmer(case["formula"], load(case["data"]), case["reml"])
    if "||" in case["formula"]:
        # performance 0.10.2 leaves the slope's part of || out: its ICC is the intercept's
        slope_forgotten = fit.cov_re["Subject"].iloc[0, 0]
        wrong = slope_forgotten / (slope_forgotten + fit.scale)
        assert case["icc_adjusted"] == pytest.approx(wrong, abs=SHARE)
        return
    if case["is_singular"]:  # performance has no value
        assert case["icc_adjusted"] is None
        assert icc(fit).tolist() == [0, 0]
        return
    assert icc(fit)["adjusted"] == pytest.approx(case["icc_adjusted"], abs=SHARE)
    assert icc(fit)["unadjusted"] == pytest.approx(case["icc_unadjusted"], abs=SHARE)
    assert r2(fit)["marginal"] == pytest.approx(case["r2_marginal"], abs=SHARE)
    assert r2(fit)["conditional"] == pytest.approx(case["r2_conditional"], abs=SHARE)


def test_icc_and_r2_of_the_design(sleep_fit):
    # Section 8 of the design has performance's values for lme4 at its default tolerance, which
    # stops early; at a tight one they move by 1.8e-6.
    assert icc(sleep_fit)["adjusted"] == pytest.approx(0.72166026, abs=SHARE)
    assert r2(sleep_fit)["marginal"] == pytest.approx(0.27865106, abs=SHARE)
    assert r2(sleep_fit)["conditional"] == pytest.approx(0.79921992, abs=SHARE)


def test_random_part_has_johnsons_closed_form(sleep_fit):
    cov = sleep_fit.cov_re["Subject"].to_numpy()
    # mean over Days 0 … 9 of var1 + 2 Days cov + Days² var2
    expected = cov[0, 0] + 2 * 4.5 * cov[0, 1] + 28.5 * cov[1, 1]
    assert variance_parts(sleep_fit)["Subject"] == pytest.approx(expected, rel=1e-12)


def test_uncorrelated_slopes_count_too(sleep):
    fit = lmer("Reaction ~ Days + (Days || Subject)", sleep)
    cov = fit.cov_re["Subject"].to_numpy()
    expected = cov[0, 0] + 28.5 * cov[1, 1]
    assert variance_parts(fit)["Subject"] == pytest.approx(expected, rel=1e-12)


def test_shares_fit_together(sleep_fit):
    explained = r2(sleep_fit)
    unadjusted = icc(sleep_fit)["unadjusted"]
    assert explained["conditional"] == pytest.approx(explained["marginal"] + unadjusted)
