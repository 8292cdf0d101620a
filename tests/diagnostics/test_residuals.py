"""Residuals and random effects, against R and closed forms."""

import numpy as np
import pytest
from diagnostics_values import SLOPE, THETA, VALUES, by_formula

from course_lib import load
from course_lib.diagnostics import (
    binned_means,
    binned_spreads,
    group_slope_spread,
    icc,
    influence,
    r2,
    random_effects_frame,
    residual_frame,
    sorted_modes,
    sorted_residuals,
    variance_parts,
)
from course_lib.errors import CourseError
from course_lib.mixed.deviance import solve
from course_lib.mixed.result import lmer
from course_lib.mixed.scaling import with_responses

# ---- residuals -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VALUES["models"], ids=by_formula)
def test_residuals_and_leverages_agree_with_lme4(case):
    frame = residual_frame(lmer(case["formula"], load(case["data"]), case["reml"]))
    np.testing.assert_allclose(frame.leverage, case["hat"], rtol=0, atol=THETA)
    np.testing.assert_allclose(frame.resid_std, case["rstudent"], rtol=0, atol=THETA)


def test_residual_frame_holds_what_the_fit_says(sleep, sleep_fit):
    frame = residual_frame(sleep_fit)
    assert list(frame.columns[:3]) == ["Subject", "fitted", "fitted_marginal"]
    assert frame.Subject.tolist() == sleep.Subject.tolist()
    np.testing.assert_array_equal(frame.fitted, sleep_fit.fittedvalues)
    np.testing.assert_array_equal(frame.resid, sleep_fit.resid)
    np.testing.assert_allclose(frame.fitted_marginal + frame.resid_marginal, sleep.Reaction)
    np.testing.assert_allclose(frame.fitted_marginal, sleep_fit.predict(random=False))


def test_standard_errors_of_residuals_agree_with_dense_algebra(any_fit):
    fit = any_fit
    frame, X = residual_frame(fit), fit.frame.X
    V = fit.scale * np.eye(fit.nobs)
    for factor, cov in zip(fit.frame.factors, fit.estimate.cov_re, strict=True):
        same = factor.codes[:, None] == factor.codes
        V += same * (factor.columns @ cov @ factor.columns.T)
    inverse = np.linalg.inv(V)
    hat = X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    P = inverse @ (np.eye(fit.nobs) - hat)
    # rounding only: both sides use the same θ
    np.testing.assert_allclose(1 - frame.leverage, fit.scale * P.diagonal(), rtol=1e-9)
    marginal = np.sqrt((V - hat @ V).diagonal())
    np.testing.assert_allclose(frame.resid_marginal_std, frame.resid_marginal / marginal)


def test_leverages_are_the_derivative_of_the_fitted_values(sleep_fit):
    theta = sleep_fit.estimate.optimum.theta

    def fitted(y):
        """Fitted values at the same θ."""
        model = with_responses(sleep_fit.standardised, y[None])
        found, factor = solve(theta[None], model.products, True), model.factors[0]
        modes = np.einsum("nq,nq->n", factor.columns, found.modes[0][0, factor.codes])
        return sleep_fit.frame.X @ model.offset[0] + model.y_scale[0] * (
            model.X @ found.beta[0] + modes
        )

    y, leverage = sleep_fit.frame.y, residual_frame(sleep_fit).leverage
    np.testing.assert_allclose(fitted(y), sleep_fit.fittedvalues, rtol=1e-10)
    for row in (0, 9, 77):
        change = fitted(y + (np.arange(180) == row)) - fitted(y)
        assert change[row] == pytest.approx(leverage[row], rel=1e-8)


def test_row_that_the_model_reproduces_has_no_standardised_residual(sleep):
    own = sleep.assign(first=(sleep.index == 0).astype(float))
    frame = residual_frame(lmer("Reaction ~ Days + first + (1 | Subject)", own))
    assert frame.leverage[0] == pytest.approx(1, abs=1e-9)
    assert np.isnan(frame.resid_std[0])
    assert frame.resid_std[1:].notna().all()


def test_index_follows_the_rows_that_were_used(sleep):
    missing = sleep.assign(Days=sleep.Days.where(sleep.index != 5)).set_index(sleep.index + 100)
    frame = residual_frame(lmer(SLOPE, missing))
    assert 105 not in frame.index
    assert len(frame) == 179
    assert frame.Subject[106] == missing.Subject[106]


# ---- random effects --------------------------------------------------------------------------


def test_shrinkage_factor_has_its_closed_form(intercept_fit):
    frame = random_effects_frame(intercept_fit)
    tau2 = intercept_fit.cov_re["Subject"].iloc[0, 0]
    expected = 10 * tau2 / (10 * tau2 + intercept_fit.scale)
    np.testing.assert_allclose(frame.shrinkage_factor, expected, rtol=1e-12)
    residuals = residual_frame(intercept_fit).groupby("Subject")["resid_marginal"].mean()
    np.testing.assert_allclose(frame["mode"], expected * residuals.to_numpy(), rtol=1e-9)


def test_fewer_rows_mean_more_shrinkage(sleep):
    first = sleep.Subject == sleep.Subject[0]
    unequal = sleep[~first | (sleep.Days < 2)]
    frame = random_effects_frame(lmer("Reaction ~ Days + (1 | Subject)", unequal))
    assert frame.n_rows.tolist() == [2] + [10] * 17
    assert frame.shrinkage_factor[0] < frame.shrinkage_factor[1:].min()


def test_random_effects_frame_holds_what_the_fit_says():
    fit = lmer("strength ~ 1 + (1 | batch/cask)", load("pastes"))
    frame = random_effects_frame(fit)
    for group, modes in fit.random_effects.items():
        part = frame[frame.group == group]
        assert part.level.tolist() == modes.index.tolist()
        np.testing.assert_array_equal(part["mode"], modes.iloc[:, 0])
        np.testing.assert_allclose(part.se, fit.random_effects_se[group].iloc[:, 0])
    variance = {group: cov.iloc[0, 0] for group, cov in fit.cov_re.items()}
    expected = 1 - frame.se**2 / frame.group.map(variance)
    np.testing.assert_allclose(frame.shrinkage_factor, expected, rtol=1e-10)


def test_zero_variance_pools_everything():
    frame = random_effects_frame(lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2")))
    assert (frame.shrinkage_factor == 0).all()
    assert frame.mode_std.isna().all()


@pytest.mark.parametrize(
    "function",
    [
        residual_frame,
        random_effects_frame,
        influence,
        variance_parts,
        icc,
        r2,
        sorted_residuals,
        sorted_modes,
        binned_means,
        binned_spreads,
        group_slope_spread,
    ],
)
def test_not_a_fit_is_refused(function, sleep):
    with pytest.raises(CourseError, match="fit: must be a model fitted by lmer; got a Data"):
        function(sleep)
