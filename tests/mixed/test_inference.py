"""Satterthwaite df, profile and bootstrap intervals: closed forms and definitions."""

import numpy as np
import pytest
from scipy import stats

from course_lib import lmer, load
from course_lib.mixed.deviance import deviance_and_gradient, lambda_matrices
from course_lib.mixed.inference import (
    _deviance,
    _far_start,
    deviance_hessian,
    satterthwaite_df,
)
from course_lib.mixed.scaling import places, sd_cor
from course_lib.mixed.search import minimise_deviance

SLEEP, DYESTUFF = load("sleepstudy"), load("dyestuff")
FORMULA = "Reaction ~ Days + (Days | Subject)"
NAMES = [
    "sd(Intercept | Subject)",
    "sd(Days | Subject)",
    "cor(Intercept, Days | Subject)",
    "sigma",
    "Intercept",
    "Days",
]


@pytest.fixture(scope="module")
def fit():
    return lmer(FORMULA, SLEEP)


@pytest.fixture(scope="module")
def profile(fit):
    return fit.conf_int("profile")


@pytest.fixture(scope="module")
def bootstrap(fit):
    return fit.conf_int("bootstrap", n_sim=100, rng=np.random.default_rng(1), progress=False)


# ---- fixed effects -------------------------------------------------------------------


def test_balanced_designs_have_whole_df(fit):
    # 18 lines and 6 batches: a t test on their means has 17 and 5
    np.testing.assert_allclose(fit.fixed_table()["df"], 17, rtol=1e-4)
    one_way = lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF)
    np.testing.assert_allclose(one_way.fixed_table()["df"], 5, rtol=1e-4)


def test_df_of_a_within_effect_is_the_residual_one():
    fit = lmer("Reaction ~ Days + (1 | Subject)", SLEEP)
    assert fit.fixed_table().loc["Days", "df"] == pytest.approx(180 - 18 - 1, rel=1e-4)


def test_df_of_a_combination(fit):
    contrasts = np.array([[1.0, 4.5], [2.0, 9.0]])
    theta = fit.estimate.optimum.theta
    df = satterthwaite_df(contrasts, fit.standardised, theta, reml=True)
    np.testing.assert_allclose(df, 17, rtol=1e-4)  # also the mean of 18 lines


def test_units_do_not_change_df(fit):
    other = lmer(
        FORMULA, SLEEP.assign(Days=SLEEP["Days"] * 1440, Reaction=SLEEP["Reaction"] / 1e3)
    )
    np.testing.assert_allclose(other.fixed_table()["df"], fit.fixed_table()["df"], rtol=1e-3)


@pytest.mark.parametrize(("ddf", "df"), [("normal", np.inf), ("satterthwaite", 17)])
def test_fixed_table(fit, ddf, df):
    table = fit.fixed_table(ddf, alpha=0.1)
    columns = ["estimate", "std_error", "df", "t", "p", "lower", "upper"]
    assert list(table.columns) == columns
    assert list(table.index) == ["Intercept", "Days"]
    np.testing.assert_allclose(table["df"], df, rtol=1e-4)
    np.testing.assert_array_equal(table["estimate"], fit.fe_params)
    np.testing.assert_array_equal(table["std_error"], fit.bse_fe)
    np.testing.assert_allclose(table["t"], fit.fe_params / fit.bse_fe)
    exact = stats.t(table["df"])
    np.testing.assert_allclose(table["p"], 2 * exact.sf(np.abs(table["t"])))
    half = exact.ppf(0.95) * fit.bse_fe
    np.testing.assert_allclose(table["upper"] - table["estimate"], half)
    np.testing.assert_allclose(table["estimate"] - table["lower"], half)


def test_singular_fit_has_df():
    table = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2")).fixed_table()
    # the flat direction is left out: a t test on 30 values
    assert table["df"].iloc[0] == pytest.approx(29, rel=1e-3)


def test_no_fixed_effects():
    table = lmer("Reaction ~ 0 + (1 | Subject)", SLEEP).fixed_table()
    assert table.shape == (0, 7)


def test_hessian_is_that_of_the_deviance(fit):
    """The curvature in log σ alone is 4 r²/σ² = 4ν at the optimum."""
    products = fit.standardised.products
    theta = fit.estimate.optimum.theta
    sigma = fit.estimate.sigma / fit.standardised.y_scale[0]
    hessian = deviance_hessian(np.append(theta, np.log(sigma)), products, True)
    assert hessian[-1, -1] == pytest.approx(4 * 178, rel=1e-5)
    np.testing.assert_array_equal(hessian, hessian.T)
    # second differences of values: rounding about 1e-12 / 1e-6
    step = 1e-3

    def value(a, b):
        moved = theta + step * (a * np.eye(3)[0] + b * np.eye(3)[2])
        return deviance_and_gradient(moved, products, True, sigma)[0]

    mixed = (value(1, 1) - value(1, -1) - value(-1, 1) + value(-1, -1)) / (4 * step**2)
    assert hessian[0, 2] == pytest.approx(mixed, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("reml", [True, False])
def test_gradient_with_sigma_among_the_parameters(fit, reml):
    products, psi = fit.standardised.products, np.append(fit.estimate.optimum.theta, -0.3)
    steps = 1e-5 * np.eye(4)
    values, _ = _deviance(np.concatenate([psi + steps, psi - steps]), products, reml)
    _, gradient = _deviance(psi[None], products, reml)
    np.testing.assert_allclose(gradient[0], (values[:4] - values[4:]) / 2e-5, atol=1e-4)


def test_correlation_of_effects_that_do_not_vary_is_undefined(fit):
    values = sd_cor(np.zeros((1, 3)), np.ones(1), fit.standardised)
    np.testing.assert_array_equal(values, [[0, 0, np.nan]])


def test_sd_cor(fit):
    theta, sigma = fit.estimate.optimum.theta[None], np.array([fit.estimate.sigma])
    values = sd_cor(theta, sigma, fit.standardised)
    masks = fit.standardised.products.masks
    assert places(masks) == [(0, 0, 0), (0, 1, 1), (0, 1, 0)]
    np.testing.assert_allclose(values[0], fit.varcorr()["sdcor"][:3])


# ---- intervals -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["wald", "profile", "bootstrap"])
def test_shape_of_the_table(request, fit, method):
    table = fit.conf_int() if method == "wald" else request.getfixturevalue(method)
    assert list(table.index) == NAMES
    assert list(table.columns) == ["estimate", "lower", "upper"]
    np.testing.assert_allclose(table["estimate"][:4], fit.varcorr()["sdcor"])
    np.testing.assert_allclose(table["estimate"][4:], fit.fe_params)


def test_wald(fit):
    table = fit.conf_int("wald", alpha=0.1)
    assert table[["lower", "upper"]].iloc[:4].isna().all(axis=None)
    half = stats.norm.ppf(0.95) * fit.bse_fe
    np.testing.assert_allclose(table["upper"].iloc[4:], fit.fe_params + half)
    np.testing.assert_allclose(table["lower"].iloc[4:], fit.fe_params - half)


def test_profile_of_the_design_table(profile):
    expected = {
        NAMES[0]: (14.3814, 37.7160),
        NAMES[1]: (3.8012, 8.7534),
        NAMES[2]: (-0.4815, 0.6850),
        NAMES[3]: (22.8983, 28.8580),
        NAMES[4]: (237.6807, 265.1295),
        NAMES[5]: (7.3587, 13.5759),
    }
    for name, ends in expected.items():
        # lme4 interpolates its profile with splines: four digits
        assert tuple(profile.loc[name, ["lower", "upper"]]) == pytest.approx(ends, rel=2e-4)


def test_profile_ends_lie_where_the_likelihood_has_fallen(profile):
    """Fixing the slope at an end raises the refitted deviance by the quantile of χ²."""
    ml = lmer(FORMULA, SLEEP, reml=False)
    for end in profile.loc["Days", ["lower", "upper"]]:
        shifted = SLEEP.assign(Reaction=SLEEP["Reaction"] - end * SLEEP["Days"])
        fixed = lmer("Reaction ~ 1 + (Days | Subject)", shifted, reml=False)
        rise = fixed.deviance - ml.deviance
        assert rise == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-5)


@pytest.mark.slow
def test_profile_of_sigma_by_its_definition():
    ml = lmer("Reaction ~ Days + (1 | Subject)", SLEEP, reml=False)
    table = ml.conf_int("profile", alpha=0.1)
    products, y_scale = ml.standardised.products, ml.standardised.y_scale[0]
    for end in table.loc["sigma", ["lower", "upper"]]:
        thetas = np.linspace(0.5, 2.5, 4001)
        lowest = min(
            deviance_and_gradient(np.array([t]), products, False, end / y_scale)[0]
            for t in thetas
        )
        rise = lowest - ml.estimate.optimum.deviance
        # the grid is 5e-4 wide: the minimum is missed by less than 1e-5
        assert rise == pytest.approx(stats.chi2.ppf(0.9, 1), abs=1e-4)


def test_profile_narrows_with_alpha(fit, profile):
    narrow = fit.conf_int("profile", alpha=0.5)
    assert (narrow["lower"] > profile["lower"]).all()
    assert (narrow["upper"] < profile["upper"]).all()
    assert (narrow["lower"] < narrow["estimate"]).all()
    assert (narrow["estimate"] < narrow["upper"]).all()


@pytest.mark.slow
def test_profile_of_a_zero_variance():
    fit = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2"))
    row = fit.conf_int("profile").loc["sd(Intercept | Batch)"]
    assert row["estimate"] == row["lower"] == 0
    # at the end, the deviance minimised over σ has risen by the quantile of χ²
    ml = lmer(fit.formula, load("dyestuff2"), reml=False)
    products, y_scale = ml.standardised.products, ml.standardised.y_scale[0]
    lowest = min(
        deviance_and_gradient(np.array([row["upper"] / s]), products, False, s / y_scale)[0]
        for s in ml.scale**0.5 * np.linspace(0.7, 1.3, 4001)
    )
    rise = lowest - ml.estimate.optimum.deviance
    assert rise == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-4)


@pytest.mark.slow
def test_profile_limit_reaches_as_far_as_the_likelihood_allows():
    """A slope spread near zero: its limit lies behind a ridge, where its correlation turns."""
    fit = lmer(
        "score ~ time + (time | school) + (1 | school:class_number)", load("school_growth")
    )
    upper = fit.conf_int("profile").loc["sd(time | school)", "upper"]
    ml = lmer(fit.formula, load("school_growth"), reml=False)
    # a place with a rise below the quantile of χ² (3.8415) whose spread is .574
    theta, log_sigma = np.array([0.3933, -0.4946, -0.0070, 0.1113]), -0.1682
    products, y_scale = ml.standardised.products, ml.standardised.y_scale
    sigma = np.exp(log_sigma)
    rise = (
        deviance_and_gradient(theta, products, False, sigma)[0] - ml.estimate.optimum.deviance
    )
    assert rise < stats.chi2.ppf(0.95, 1)
    spread = sd_cor(theta[None], sigma * y_scale, ml.standardised)[0, 2]
    assert spread < upper < 1.02 * spread


def test_profile_without_an_end_is_announced(fit, monkeypatch):
    from course_lib.mixed import inference

    monkeypatch.setattr(inference, "_constrained_minimum", lambda *_: np.nan)
    with pytest.warns(UserWarning, match="no profile limit was found for sd.Intercept"):
        fit.conf_int("profile")


def test_bootstrap_contains_the_estimate_and_agrees_with_the_profile(bootstrap, profile):
    assert (bootstrap["lower"] < bootstrap["estimate"]).all()
    assert (bootstrap["estimate"] < bootstrap["upper"]).all()
    width, other = (t["upper"] - t["lower"] for t in (bootstrap, profile))
    # 100 draws know a 95 % range to about a quarter of its width
    assert ((width / other).between(0.6, 1.5)).all()


def test_bootstrap_is_repeatable(fit, bootstrap):
    def table(seed, n_sim):
        rng = np.random.default_rng(seed)
        return fit.conf_int("bootstrap", n_sim=n_sim, rng=rng, progress=False)

    np.testing.assert_array_equal(table(1, 100), bootstrap)
    assert not np.isclose(table(2, 20)["lower"], table(3, 20)["lower"]).any()


def test_bootstrap_is_percentiles_of_refits(fit):
    table = fit.conf_int("bootstrap", 0.2, 25, np.random.default_rng(7), progress=False)
    draws = fit.simulate(25, np.random.default_rng(7))
    slopes = [fit.refit(y).fe_params["Days"] for y in draws]
    ends = np.quantile(slopes, [0.1, 0.9])
    np.testing.assert_allclose(
        table.loc["Days", ["lower", "upper"]].astype(float), ends, rtol=1e-6
    )


def test_bootstrap_of_a_singular_fit():
    fit = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2"))
    table = fit.conf_int("bootstrap", n_sim=60, rng=np.random.default_rng(1), progress=False)
    row = table.loc["sd(Intercept | Batch)"]
    assert row["lower"] == pytest.approx(0, abs=1e-3)
    assert row["upper"] > 0.2  # refits must be able to leave zero


@pytest.mark.parametrize("sign", [1, -1])
def test_far_start_moves_a_correlation_and_nothing_else(fit, sign):
    model, theta = fit.standardised, fit.estimate.optimum.theta
    place = places(model.products.masks)[2]
    moved = _far_start(np.append(theta, 0.0), place, sign, model)[:-1]
    before, after = sd_cor(np.array([theta, moved]), np.ones(2), model)
    np.testing.assert_allclose(after, [*before[:2], -sign * 0.98], rtol=1e-6)


def test_progress_bar_is_shown_on_request(fit, capsys):
    fit.conf_int("bootstrap", n_sim=2, rng=np.random.default_rng(1), progress=True)
    assert "bootstrap" in capsys.readouterr().err
    fit.conf_int("bootstrap", n_sim=2, rng=np.random.default_rng(1), progress=False)
    assert capsys.readouterr().err == ""


def test_intervals_follow_the_units(fit, profile):
    data = SLEEP.assign(Days=SLEEP["Days"] * 1440, Reaction=SLEEP["Reaction"] / 1000)
    table = lmer(FORMULA, data).conf_int("profile")
    unit = np.array([1e-3, 1e-3 / 1440, 1, 1e-3, 1e-3, 1e-3 / 1440])
    for column in profile:
        np.testing.assert_allclose(table[column], profile[column] * unit, rtol=1e-4)


def test_optimum_from_another_start_is_the_same(fit):
    products = fit.standardised.products
    start = np.concatenate(
        [
            lam.T[mask.T]
            for lam, mask in zip(
                lambda_matrices(np.array([3.0, -2.0, 0.1]), products.masks),
                products.masks,
                strict=True,
            )
        ]
    )
    again = minimise_deviance(products, True, start[None]).of(0)
    assert again.deviance == pytest.approx(fit.estimate.optimum.deviance, abs=1e-8)
    np.testing.assert_allclose(again.theta, fit.estimate.optimum.theta, atol=1e-4)
