"""Diagnostics against R and closed forms, and whether they find the faults planted for them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import load
from course_lib.diagnostics import (
    binned_means,
    binned_spreads,
    group_slope_spread,
    icc,
    influence,
    normality_tests,
    r2,
    random_effects_frame,
    residual_frame,
    simulated_envelope,
    sorted_modes,
    sorted_residuals,
    variance_parts,
)
from course_lib.errors import CourseError
from course_lib.mixed.deviance import solve
from course_lib.mixed.result import lmer
from course_lib.mixed.scaling import with_response

REFERENCE = Path(__file__).parents[1] / "reference" / "diagnostics.json"
VALUES = json.loads(REFERENCE.read_text(encoding="utf-8"))

SLOPE = "Reaction ~ Days + (Days | Subject)"
# Our search stops within 1e-7 of the minimum of the deviance, lme4's at tight tolerance within
# 1e-9: θ may be off by 3e-4 of its standard error, which is below 1e-4 of θ itself here, and
# with it everything that depends on θ directly. (Seen: 4e-5, in pastes.)
THETA = 1e-4
# A share of variance s moves by 2 s (1 - s) ≤ 1/2 of the relative change of θ.
SHARE = 5e-5


@pytest.fixture(scope="module")
def sleep():
    return load("sleepstudy")


@pytest.fixture(scope="module")
def sleep_fit(sleep):
    return lmer(SLOPE, sleep)


@pytest.fixture(scope="module")
def intercept_fit(sleep):
    return lmer("Reaction ~ Days + (1 | Subject)", sleep)


def by_formula(case):
    return f"{case['data']}-{case['formula']}-{case['reml']}"


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


@pytest.fixture(scope="module")
def sparse_fit():
    """Two large crossed factors whose groups seldom meet."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"a": rng.integers(0, 130, 700), "b": rng.integers(0, 110, 700)})
    data["x"] = rng.standard_normal(700)
    effects = rng.standard_normal(130)[data.a] + rng.standard_normal(110)[data.b]
    data["y"] = data.x + effects + rng.standard_normal(700)
    fit = lmer("y ~ x + (1 | a) + (1 | b)", data)
    assert not isinstance(fit.standardised.products.block_cross, np.ndarray)
    return fit


@pytest.fixture(params=["correlated", "nested", "crossed", "sparse"])
def any_fit(request, sleep_fit, sparse_fit):
    fits = {
        "correlated": lambda: sleep_fit,
        "nested": lambda: lmer("strength ~ 1 + (1 | batch/cask)", load("pastes")),
        "crossed": lambda: lmer("diameter ~ 1 + (1|plate) + (1|sample)", load("penicillin")),
        "sparse": lambda: sparse_fit,
    }
    return fits[request.param]()


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
        model = with_response(sleep_fit.standardised, y)
        found, factor = solve(theta, model.products, True), model.factors[0]
        modes = np.einsum("nq,nq->n", factor.columns, found.modes[0][factor.codes])
        return sleep_fit.frame.X @ model.offset + model.y_scale * (model.X @ found.beta + modes)

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


# ---- normality -------------------------------------------------------------------------------


def test_shapiro_agrees_with_r(sleep_fit):
    table = normality_tests(sleep_fit)
    names = {"residuals": "residuals", "Intercept": "Subject Intercept", "Days": "Subject Days"}
    for case in VALUES["shapiro"]:
        row = table.loc[names[case["what"]]]
        assert row["n"] == case["n"]
        assert row.shapiro_w == pytest.approx(case["statistic"], abs=THETA / 10)
        # log p changes by about 200 times the change of W where p is 1e-9
        assert row.shapiro_p == pytest.approx(case["p"], rel=2e-3)
    assert table.k2_p.isna().tolist() == [False, True, True]  # 18 subjects are too few


def test_kurtosis_and_skewness_have_their_definitions(sleep_fit):
    x = residual_frame(sleep_fit).resid_std
    row = normality_tests(sleep_fit).loc["residuals"]
    z = (x - x.mean()) / x.std(ddof=0)
    assert row.skewness == pytest.approx((z**3).mean(), rel=1e-10)
    assert row.excess_kurtosis == pytest.approx((z**4).mean() - 3, rel=1e-10)


def test_large_samples_get_a_note_and_zero_variances_another():
    large = normality_tests(lmer("mAch ~ ses + (1 | school)", load("hsb82")))
    assert "extrapolated beyond 5,000" in large.loc["residuals", "note"]
    assert large.loc["school Intercept", "note"] == ""
    singular = normality_tests(lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2")))
    assert "no variation" in singular.loc["Batch Intercept", "note"]
    assert np.isnan(singular.loc["Batch Intercept", "shapiro_p"])


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


# ---- planted faults --------------------------------------------------------------------------

N_GROUPS, N_ROWS, N_SIM, REPEATS = 30, 10, 39, 8


def planted(fault, rng):
    """y ~ x + (1 | g), all standard deviations 1, with one fault."""
    x = np.tile(np.linspace(-1, 1, N_ROWS), N_GROUPS)
    g = np.repeat(np.arange(N_GROUPS), N_ROWS)
    e = rng.standard_normal(len(x))
    y = 10 + 2 * x + rng.standard_normal(N_GROUPS)[g]
    if fault == "missing curve":
        y += x**2
    elif fault == "unequal variances":
        e *= np.exp(0.5 * x)
    elif fault == "heavy tails":
        e = rng.standard_t(3, len(x)) / np.sqrt(3)
    elif fault == "missing slope":
        y += 0.7 * rng.standard_normal(N_GROUPS)[g] * x
    elif fault == "outlying group":
        y += 6.0 * (g == 0)
    return pd.DataFrame({"y": y + e, "x": x, "g": g})


def n_found(fault, statistic, seed=7):
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(REPEATS):
        fit = lmer("y ~ x + (1 | g)", planted(fault, rng))
        found += simulated_envelope(fit, statistic, N_SIM, rng).outside.any()
    return found


@pytest.mark.slow
# Over 60 repetitions with these sizes, 39 refits each: found 58, 60, 59 and 59 times by the
# statistic meant for it, an outlying group 57 times by Cook's distance and 51 times by
# sorted_modes; false alarms under the true model: 11 in 300 (5 % allowed).
@pytest.mark.parametrize(
    ("fault", "statistic"),
    [
        ("missing curve", binned_means),
        ("unequal variances", binned_spreads),
        ("heavy tails", sorted_residuals),
        ("missing slope", group_slope_spread),
    ],
)
def test_planted_fault_is_found(fault, statistic):
    assert n_found(fault, statistic) >= REPEATS - 2


def test_outlying_group_has_the_largest_influence():
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(REPEATS):
        table = influence(lmer("y ~ x + (1 | g)", planted("outlying group", rng)))
        cook = table.cooks_distance
        # first of 30 groups, and leaving it out lowers the variance of the intercepts most
        first = cook.idxmax() == 0 and table["vcov: g Intercept"].idxmin() == 0
        found += first and cook[0] > 2 * cook[1:].max()
    assert found >= REPEATS - 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["missing curve", "missing slope", "outlying group"])
def test_faults_leave_the_tails_of_the_residuals_alone(fault):
    assert n_found(fault, sorted_residuals) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "statistic",
    [binned_means, binned_spreads, sorted_residuals, group_slope_spread, sorted_modes],
)
def test_true_model_is_left_alone(statistic):
    # 5 % false alarms: 3 or more of 8 have probability .006
    assert n_found("none", statistic) <= 2


def test_mending_the_model_removes_the_finding():
    rng = np.random.default_rng(11)
    data = planted("missing slope", rng)
    poor, good = (lmer(f"y ~ x + {bar}", data) for bar in ("(1 | g)", "(x | g)"))
    before, after = (
        simulated_envelope(fit, group_slope_spread, 99, rng) for fit in (poor, good)
    )
    assert before.attrs["pvalue"] == 0.01
    assert after.attrs["pvalue"] > 0.05


# ---- envelopes -------------------------------------------------------------------------------


def test_envelope_is_what_it_says(intercept_fit):
    def sigma(fit):
        return fit.scale

    n_sim, seed = 39, 5
    table = simulated_envelope(intercept_fit, sigma, n_sim, np.random.default_rng(seed))
    draws = intercept_fit.simulate(n_sim, np.random.default_rng(seed))
    simulated = np.array([intercept_fit.refit(y).scale for y in draws])
    assert table.observed[0] == intercept_fit.scale
    assert table["median"][0] == np.median(simulated)
    assert table.lower[0] == np.quantile(simulated, 0.025)
    everything = np.append(simulated, intercept_fit.scale)
    distance = np.abs(everything - everything.mean())
    assert table.attrs["pvalue"] == (distance >= distance[-1]).mean()
    # two of forty lie beyond the band at most: the level is exactly 5 %
    beyond = (everything < table.lower_all[0] - 1e-9) | (everything > table.upper_all[0] + 1e-9)
    assert beyond.sum() == 2


def test_envelope_is_repeatable_and_joint(sleep_fit):
    one, two = (
        simulated_envelope(sleep_fit, sorted_residuals, 39, np.random.default_rng(1))
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)
    # sleepstudy's residuals do have two wild rows
    assert one.outside[0]
    assert one.outside.iloc[-1]
    assert one.attrs["pvalue"] == pytest.approx(1 / 40)
    assert (one.lower_all <= one.lower).mean() > 0.9


def test_entry_that_never_varies_is_not_outside(intercept_fit):
    def with_constant(fit):
        return [1.0, fit.scale]

    table = simulated_envelope(intercept_fit, with_constant, 19, np.random.default_rng(1))
    assert not table.outside[0]
    assert table.lower_all[0] == table.upper_all[0] == 1


def test_statistics_have_their_definitions(intercept_fit):
    frame = residual_frame(intercept_fit)
    days = intercept_fit.frame.X[:, 1]
    means = frame.resid_std.groupby(days).mean().to_numpy()
    np.testing.assert_allclose(binned_means(intercept_fit, 10), means, atol=1e-12)
    squares = (frame.resid_std**2).groupby(days).mean().to_numpy()
    np.testing.assert_allclose(binned_spreads(intercept_fit, 10), np.sqrt(squares))
    t = frame.resid_std.groupby(frame.Subject).apply(
        lambda r: (np.arange(10) - 4.5) @ r.to_numpy() / np.sqrt(82.5)
    )
    np.testing.assert_allclose(group_slope_spread(intercept_fit), [np.sqrt((t**2).mean())])
    np.testing.assert_array_equal(sorted_residuals(intercept_fit), np.sort(frame.resid_std))
    modes = random_effects_frame(intercept_fit).mode_std
    np.testing.assert_array_equal(sorted_modes(intercept_fit), np.sort(modes))


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        residual_frame,
        random_effects_frame,
        normality_tests,
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

    real = module.estimate_standardised

    def unfinished(standardised, reml, start):
        found = real(standardised, reml, start)
        return replace(found, optimum=replace(found.optimum, converged=False))

    monkeypatch.setattr(module, "estimate_standardised", unfinished)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        influence(sleep_fit)
    assert "without 308, 309" in str(caught[0].message)


def test_bad_envelope_arguments_are_refused(sleep_fit):
    rng = np.random.default_rng(1)
    good = (sleep_fit, sorted_modes, 19, rng)
    with pytest.raises(CourseError, match="fit: "):
        simulated_envelope("fit", *good[1:])
    with pytest.raises(CourseError, match="statistic: must be a function"):
        simulated_envelope(sleep_fit, "sorted_modes", 19, rng)
    with pytest.raises(CourseError, match="n_sim: must be a whole number of at least 19"):
        simulated_envelope(sleep_fit, sorted_modes, 18, rng)
    with pytest.raises(CourseError, match="n_sim: must be a whole number of at least 99"):
        simulated_envelope(*good, alpha=0.01)
    with pytest.raises(CourseError, match="alpha: must be a number strictly between"):
        simulated_envelope(*good, alpha=5)
    with pytest.raises(CourseError, match="rng: must be a numpy.random.Generator"):
        simulated_envelope(sleep_fit, sorted_modes, 19, 1)


@pytest.mark.parametrize(
    ("statistic", "match"),
    [
        (lambda fit: "much", "statistic: must hold numbers"),
        (lambda fit: [np.nan], "statistic: must be finite"),
        (lambda fit: np.zeros((2, 2)), "statistic: must return one number or a vector"),
        (lambda fit: [], "statistic: must return one number or a vector"),
        (lambda fit: np.zeros(int(fit.scale) % 50 + 1), "after length"),
    ],
)
def test_statistic_that_gives_no_vector_is_refused(sleep_fit, statistic, match):
    with pytest.raises(CourseError, match=match):
        simulated_envelope(sleep_fit, statistic, 19, np.random.default_rng(1))


def test_statistics_say_what_they_need(sleep_fit):
    with pytest.raises(CourseError, match="n_bins: must be a whole number of at least 2"):
        binned_means(sleep_fit, 1)
    constant = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff"))
    with pytest.raises(CourseError, match="fit: must have a fixed effect whose column varies"):
        group_slope_spread(constant)
