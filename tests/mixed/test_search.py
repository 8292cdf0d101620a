"""The optimum: closed forms, invariances, odd shapes, and a dense search that must not win."""

import numpy as np
import pandas as pd
import pytest
from dense_deviance import dense_deviance, dense_minimum, parts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import lmer, load
from course_lib.mixed.scaling import with_responses
from course_lib.mixed.search import _Search, minimise_deviance

SLEEP, DYESTUFF, PASTES = load("sleepstudy"), load("dyestuff"), load("pastes")
few = settings(max_examples=15, deadline=None)


def crossed_data():
    """90 rows: x varies over g (10 levels) and h (6 levels)."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 9), "h": np.tile(np.arange(6), 15)})
    data["x"] = rng.normal(size=90)
    slopes = rng.normal(size=(10, 2))[data["g"]]
    data["y"] = 1 + data["x"] + slopes[:, 0] + 0.7 * slopes[:, 1] * data["x"]
    data["y"] += rng.normal(size=6)[data["h"]] + 0.8 * rng.normal(size=90)
    return data


CROSSED = crossed_data()


# ---- closed forms --------------------------------------------------------------------


def anova(data, group, response):
    """Mean squares between and within, number of groups, and rows per group."""
    grouped = data.groupby(group)[response]
    n_groups, size = grouped.ngroups, len(data) // grouped.ngroups
    means = grouped.mean()
    between = size * means.var(ddof=1)
    within = ((data[response] - grouped.transform("mean")) ** 2).sum() / (len(data) - n_groups)
    return between, within, n_groups, size


def test_balanced_one_way_reml_is_anova():
    between, within, n_groups, size = anova(DYESTUFF, "Batch", "Yield")
    fit = lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF)
    variance = (between - within) / size
    # θ is known to about the square root of the deviance's 1e-9: 1e-5 relative
    assert fit.scale == pytest.approx(within, rel=1e-5)
    assert fit.cov_re["Batch"].iloc[0, 0] == pytest.approx(variance, rel=1e-5)
    assert fit.fe_params["Intercept"] == pytest.approx(DYESTUFF["Yield"].mean(), rel=1e-12)
    error = np.sqrt(between / len(DYESTUFF))
    assert fit.bse_fe["Intercept"] == pytest.approx(error, rel=1e-5)


def test_balanced_one_way_ml():
    between, within, n_groups, size = anova(DYESTUFF, "Batch", "Yield")
    fit = lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF, reml=False)
    variance = ((1 - 1 / n_groups) * between - within) / size
    assert fit.scale == pytest.approx(within, rel=1e-5)
    assert fit.cov_re["Batch"].iloc[0, 0] == pytest.approx(variance, rel=1e-5)


def test_negative_anova_estimate_becomes_zero():
    data = load("dyestuff2")
    between, within, *_ = anova(data, "Batch", "Yield")
    assert between < within
    fit = lmer("Yield ~ 1 + (1 | Batch)", data)
    assert fit.is_singular
    assert fit.theta[0] == 0
    assert fit.scale == pytest.approx(data["Yield"].var(), rel=1e-10)
    assert (fit.random_effects["Batch"] == 0).all(axis=None)
    assert fit.converged


def test_zero_is_left_by_the_response_that_has_a_lower_place():
    """From θ = 0, where the slope vanishes for any data: one response varies, one does not."""
    fit = lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF)
    both = np.array([fit.frame.y, load("dyestuff2")["Yield"]])
    products = with_responses(fit.standardised, both).products
    found = minimise_deviance(products, True, start=np.zeros((2, 1)))
    assert found.theta[0] == pytest.approx(fit.estimate.optimum.theta, rel=1e-5)
    assert found.theta[1] == 0


def test_one_response_has_one_optimum():
    fit = lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF)
    found = minimise_deviance(fit.standardised.products, True)
    assert found.theta.shape == (1, 1)
    assert found.deviance.shape == found.converged.shape == (1,)


@pytest.mark.parametrize(
    ("bars", "n_starts"),
    [
        ("(1 | g)", [1]),
        ("(x | many)", [1]),
        ("(x || g)", [1, 1]),  # again from a large Λ
        ("(x | g)", [1, 2]),  # and from a correlation near -1
        ("(x | g) + (1 | h)", [1, 2]),
    ],
)
def test_search_is_repeated_where_a_slope_varies_over_few_groups(monkeypatch, bars, n_starts):
    tried, scored = [], _Search.scored

    def counted(search, theta, which):
        tried.append(len(theta))
        return scored(search, theta, which)

    monkeypatch.setattr(_Search, "scored", counted)
    lmer(f"y ~ x + {bars}", CROSSED.assign(many=CROSSED.index // 5))
    assert tried == n_starts


def test_scoring_returns_a_place_with_the_deviance_there():
    products = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2")).standardised.products
    search, which = _Search(products, True), np.array([0])
    best, _, found = search.scored(np.zeros((1, 1)), which)  # zero is the optimum
    assert best == 0
    assert found.deviance == search.evaluate(best, which).deviance


def test_shrinkage_of_the_random_intercept():
    fit = lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF)
    grouped = DYESTUFF.groupby("Batch")["Yield"]
    raw = grouped.mean() - fit.fe_params["Intercept"]
    tau2 = fit.cov_re["Batch"].iloc[0, 0]
    factor = grouped.size() / (grouped.size() + fit.scale / tau2)
    modes, errors = fit.random_effects["Batch"], fit.random_effects_se["Batch"]
    np.testing.assert_allclose(modes["Intercept"], factor * raw, rtol=1e-9)
    np.testing.assert_allclose(errors["Intercept"], np.sqrt(tau2 * (1 - factor)), rtol=1e-9)


def test_balanced_random_slope_is_a_sample_of_lines():
    """Every subject has the same days, so REML has a closed form (interior solution)."""
    fit = lmer("Reaction ~ Days + (Days | Subject)", SLEEP)
    Z = np.column_stack([np.ones(10), np.arange(10.0)])
    Y = SLEEP.pivot(index="Subject", columns="Days", values="Reaction").to_numpy().T
    lines = np.linalg.solve(Z.T @ Z, Z.T @ Y)  # (2, 18)
    sigma2 = ((Y - Z @ lines) ** 2).sum() / (18 * 8)
    between = np.cov(lines)
    np.testing.assert_allclose(fit.fe_params, lines.mean(axis=1), rtol=1e-9)
    assert fit.scale == pytest.approx(sigma2, rel=1e-5)
    np.testing.assert_allclose(fit.cov_fe, between / 18, rtol=1e-4)
    expected = between - sigma2 * np.linalg.inv(Z.T @ Z)
    np.testing.assert_allclose(fit.cov_re["Subject"], expected, rtol=1e-4)


# ---- units: the likelihood moves as analysis says ------------------------------------

SCALED = {
    "correlated": ("Reaction ~ Days + (Days | Subject)", SLEEP, "Reaction", "Days"),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", SLEEP, "Reaction", "Days"),
    "two factors": ("y ~ x + (x | g) + (1 | h)", CROSSED, "y", "x"),
    "two slopes": ("y ~ x + (x | g) + (x | h)", CROSSED, "y", "x"),
}
UNITS = (1e-6, 1e-3, 1.0, 1e3, 1e6)


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("model", SCALED)
def test_units_do_not_matter(model, reml):
    formula, data, y, x = SCALED[model]
    base = lmer(formula, data, reml)
    nu = base.nobs - 2 * reml
    group = next(iter(base.cov_re))
    shifts = (0.0,) if model == "uncorrelated" else (0.0, 1000.0)  # a shift changes `||`
    for y_unit, x_unit, shift in [(a, b, c) for a in UNITS for b in UNITS for c in shifts]:
        place = f"y × {y_unit}, x × {x_unit} + {shift}"
        changed = data.assign(**{y: data[y] * y_unit, x: data[x] * x_unit + shift})
        fit = lmer(formula, changed, reml)
        # |X'V⁻¹X| grows with x², and the density of y shrinks with y's unit; a shift has
        # determinant one.
        predicted = base.llf - nu * np.log(y_unit) - reml * np.log(x_unit)
        assert fit.llf == pytest.approx(predicted, abs=1e-4), place
        assert fit.converged, place
        slope = base.fe_params[x] * y_unit / x_unit
        # a spread of 1e-6 around 1,000 is stored with eight digits
        assert fit.fe_params[x] == pytest.approx(slope, rel=1e-4), place
        assert fit.bse_fe[x] == pytest.approx(base.bse_fe[x] * y_unit / x_unit, rel=1e-3), place
        variance = base.cov_re[group].loc[x, x] * (y_unit / x_unit) ** 2
        assert fit.cov_re[group].loc[x, x] == pytest.approx(variance, rel=1e-3), place
        assert fit.scale == pytest.approx(base.scale * y_unit**2, rel=1e-3), place
        np.testing.assert_allclose(
            fit.fittedvalues / y_unit, base.fittedvalues, atol=1e-3 * base.scale**0.5
        )


@few
@given(
    scale=st.floats(0.01, 100),
    shift=st.floats(-50, 50),
    reml=st.booleans(),
    formula=st.sampled_from(["y ~ x + (x | g)", "y ~ x + (x | g) + (1 | h)"]),
)
def test_rescaled_and_shifted_predictor(scale, shift, reml, formula):
    base = lmer(formula, CROSSED, reml)
    fit = lmer(formula, CROSSED.assign(x=CROSSED["x"] * scale + shift), reml)
    assert fit.llf == pytest.approx(base.llf - reml * np.log(scale), abs=1e-6)
    # β = Mβ' with x' = scale·x + shift: the same line in other coordinates
    M = np.array([[1.0, shift], [0.0, scale]])
    np.testing.assert_allclose(M @ fit.fe_params, base.fe_params, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(M @ fit.cov_re["g"] @ M.T, base.cov_re["g"], atol=1e-3)
    np.testing.assert_allclose(fit.fittedvalues, base.fittedvalues, atol=1e-3)


@few
@given(seed=st.integers(0, 1000), reml=st.booleans())
def test_order_of_rows_does_not_matter(seed, reml):
    formula = "y ~ x + (x | g) + (1 | h)"
    base = lmer(formula, CROSSED, reml)
    order = np.random.default_rng(seed).permutation(len(CROSSED))
    fit = lmer(formula, CROSSED.iloc[order], reml)
    assert fit.llf == pytest.approx(base.llf, abs=1e-8)
    assert list(fit.fittedvalues.index) == list(order)
    np.testing.assert_allclose(fit.fittedvalues.sort_index(), base.fittedvalues, atol=1e-5)


@few
@given(seed=st.integers(0, 1000))
def test_names_of_groups_do_not_matter(seed):
    formula = "y ~ x + (x | g) + (1 | h)"
    base = lmer(formula, CROSSED)
    names = [f"group {i}" for i in np.random.default_rng(seed).permutation(10)]
    fit = lmer(formula, CROSSED.assign(g=[names[i] for i in CROSSED["g"]]))
    assert fit.llf == pytest.approx(base.llf, abs=1e-8)
    renamed = fit.random_effects["g"].loc[names].to_numpy()
    np.testing.assert_allclose(renamed, base.random_effects["g"], atol=1e-5)


@few
@given(
    a=st.floats(-1e3, 1e3),
    b=st.floats(-1e3, 1e3),
    unit=st.floats(1e-3, 1e3),
    reml=st.booleans(),
)
def test_linear_function_of_x_added_to_y(a, b, unit, reml):
    base = lmer("y ~ x + (x | g)", CROSSED, reml)
    changed = CROSSED.assign(y=unit * CROSSED["y"] + a + b * CROSSED["x"])
    fit = lmer("y ~ x + (x | g)", changed, reml)
    nu = base.nobs - 2 * reml
    assert fit.llf == pytest.approx(base.llf - nu * np.log(unit), abs=1e-5)
    expected = unit * base.fe_params + [a, b]
    np.testing.assert_allclose(fit.fe_params, expected, rtol=1e-5, atol=1e-4 * unit)
    np.testing.assert_allclose(fit.cov_re["g"] / unit**2, base.cov_re["g"], atol=1e-4)
    np.testing.assert_allclose(fit.resid / unit, base.resid, atol=1e-4)


# ---- odd shapes: a dense derivative-free search must not find anything lower ---------


def unbalanced(seed, sizes, spread, sigma=1.0, slope_spread=0.0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    n = len(codes)
    data = pd.DataFrame({"g": codes, "h": np.arange(n) % 3, "x": rng.normal(size=n)})
    data["z"] = rng.normal(size=n)
    effects = rng.normal(size=(len(sizes), 2)) * [spread, slope_spread]
    data["y"] = 3 + data["x"] + effects[codes, 0] + effects[codes, 1] * data["x"]
    data["y"] += sigma * rng.normal(size=n)
    return data


SHAPES = {
    "three random coefficients": ("y ~ x + (x + z | g)", unbalanced(1, [7] * 8, 1, 1, 1)),
    "no fixed effects": ("y ~ 0 + (1 | g)", unbalanced(2, [5] * 8, 2)),
    "two groups": ("y ~ x + (1 | g)", unbalanced(3, [10, 12], 2)),
    "two groups with slopes": ("y ~ x + (x | g)", unbalanced(4, [10, 12], 2, 1, 1)),
    "very unbalanced": ("y ~ x + (x | g)", unbalanced(21, [1, 1, 2, 2, 3, 40], 1, 1, 1)),
    "one row in a group": ("y ~ 1 + (1 | g)", unbalanced(6, [1, 4, 4, 4, 4], 1)),
    "tiny residual": ("y ~ x + (1 | g)", unbalanced(7, [6] * 7, 1, 1e-3)),
    "zero group variance": ("y ~ x + (1 | g)", unbalanced(8, [6] * 7, 0)),
    "zero slope variance": ("y ~ x + (x | g)", unbalanced(9, [6] * 7, 1)),
    "zero variance, slopes": ("y ~ x + (x || g)", unbalanced(10, [6] * 7, 0)),
    "huge group variance": ("y ~ x + (1 | g)", unbalanced(11, [6] * 7, 1e3)),
    "huge slope variance": ("y ~ x + (x | g)", unbalanced(12, [6] * 7, 1e3, 1, 10)),
    "crossed, one is null": ("y ~ x + (1 | g) + (1 | h)", unbalanced(13, [6] * 7, 1)),
    "three factors": ("y ~ (1 | g) + (1 | h) + (0 + x | h)", unbalanced(14, [6] * 7, 1)),
    "more coefficients than rows": ("y ~ (x + z | g)", unbalanced(15, [2] * 9 + [20], 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_dense_search_finds_nothing_lower(shape, reml):
    formula, data = SHAPES[shape]
    fit = lmer(formula, data, reml)
    frame = fit.frame
    assert fit.converged
    # θ in the units of the data gives the same value in the dense formula
    dense = dense_deviance(frame.X, frame.y, parts_of(frame.factors, fit.theta), reml)
    # a variance ratio of 1e6 costs the dense determinant six of its sixteen digits
    assert fit.deviance == pytest.approx(dense, abs=1e-6)
    eye = np.concatenate([np.eye(len(f.mask)).T[f.mask.T] for f in frame.factors])
    starts = [eye, 0.2 * eye, fit.theta + 0.1, 1.3 * fit.theta]
    assert fit.deviance <= dense_minimum(frame.X, frame.y, frame.factors, reml, starts) + 1e-6


@pytest.mark.parametrize("seed", [0, 6, 33, 48, 86])
@pytest.mark.parametrize(
    "formula", ["y ~ 1 + (1 | g)", "y ~ x + (x || g)", "y ~ x + (1 | g) + (1 | h)"]
)
def test_start_does_not_matter(formula, seed):
    """A small variance: the first long step lands near zero, and the search must come back."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 30, 8)
    fit = lmer(formula, unbalanced(seed, sizes, 0.3, 1, 0.2))
    products = fit.standardised.products
    found = [
        minimise_deviance(products, True, start[None]).deviance[0]
        for start in (0.3 * rng.normal(size=(6, products.n_theta)))
    ]
    best = fit.estimate.optimum
    assert best.deviance <= min(found) + 1e-6
    # at zero a gradient may only point back to zero; elsewhere it must vanish
    assert np.abs(best.gradient[best.theta > 0]).max(initial=0) < 1e-3


def test_small_variance_is_not_taken_for_zero():
    """Small against σ, but many rows per group: the maximum is well above zero."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(12), 200)
    effects = 0.2 * rng.normal(size=12)
    data = pd.DataFrame({"g": codes, "y": effects[codes] + rng.normal(size=2400)})
    between, within, _, size = anova(data, "g", "y")
    fit = lmer("y ~ 1 + (1 | g)", data)
    variance = (between - within) / size
    assert fit.cov_re["g"].iloc[0, 0] == pytest.approx(variance, rel=1e-4)
    assert not fit.is_singular
